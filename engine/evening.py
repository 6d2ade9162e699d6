"""An evening: sound in, passages out. Of a recording that is whole, or of one that is still going on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import audio
from engine.audio import Recording
from engine.audio.listening import Listener
from engine.audio.tonality import Tonality, tonality
from engine.collection import AnyCollection
from engine.config import FrontEnd
from engine.embedding import documents
from engine.embedding.documents import Encoder, Medium
from engine.search import setlist
from engine.search.endings import Tones
from engine.search.live_segmentation import LivePassage, LiveSegmentation
from engine.search.passages import Passage, is_likely
from engine.search.segmentation import Evening, Found, Segmenter
from engine.transposition import dearer
from engine.values import DIMENSION, Kind, UnseenShard


def segmented(
    medium: Medium,
    encoder: Encoder,
    segmenter: Segmenter,
    among: Kind,
    shifts: Sequence[float] = (),
    between: Callable[[], None] = lambda: None,
) -> tuple[Found, float]:
    """Returns the passages of a recording or of a volume, and the semitones by which it was transposed.

    A shard that did not answer in one of several tries is named, whichever try is chosen.

    shifts: semitones by which a recording is transposed. Of several, the one with most seconds of sure passages is
        chosen, and the confidences pay for the number of tries. Without any, it is not transposed.
    between: see `Evening.between`.
    """
    bands, tries = encoder.identity.front_end.bands, []
    tones = tones_of(medium) if isinstance(medium, Recording) else None
    for shift in shifts or (0.0,):
        heard = audio.transposed(medium, shift, bands) if isinstance(medium, Recording) else medium
        (sequence,) = documents.sequences([heard], encoder)
        systems = () if isinstance(heard, Recording) else heard.systems
        evening = Evening(sequence=sequence, among=among, systems=systems, tones=tones, between=between)
        found = segmenter.found(evening)
        tries.append((replace(found, passages=tuple(_priced(found.passages, max(1, len(shifts))))), shift))
    chosen, shift = max(tries, key=lambda one: _sure_s(one[0].passages))
    unseen = {shard.name: shard for found, _ in tries for shard in found.unseen}
    return replace(chosen, unseen=tuple(unseen.values())), shift


def tones_of(recording: Recording) -> Tones:
    """Returns how tonal a recording is."""
    rate = audio.FRAME_RATE * recording.speed
    return Tones(values=tonality(recording.spectrogram), start_s=recording.start_s, rate=rate)


def _priced(passages: Sequence[Passage], tries: int) -> list[Passage]:
    """Returns the passages that are still likely when their confidences have paid for the tries."""
    priced = [replace(one, confidence=dearer(one.confidence, tries)) for one in passages]
    return [one for one in priced if is_likely(one.confidence)]


def _sure_s(passages: Sequence[Passage]) -> float:
    """Returns the seconds of the passages of a recording, each times its confidence."""
    lengths = [(one.stretch.end_s or 0.0) - (one.stretch.start_s or 0.0) for one in passages]
    sure = [1.0 if one.confidence is None else one.confidence for one in passages]
    return float(np.dot(lengths, sure))


class LiveEvening:
    """The passages of a recording that is still going on. Only one thread may use it."""

    def __init__(self, rate: int, front_end: FrontEnd, among: Kind) -> None:
        """Starts to listen.

        rate: sampling rate of the samples, Hz. among: the kind of documents searched.
        Raises ValueError for an impossible rate.
        """
        self.rate = rate
        self.among = among
        self._front_end = front_end
        self._listener = Listener(rate, front_end)
        self._segmentation = LiveSegmentation(front_end)
        self._waiting: list[NDArray[np.float32]] = []
        """Excerpts that are not embedded yet, float32 (n, bands, frames) each."""
        self._unseen: tuple[UnseenShard, ...] = ()
        """The shards that were not searched in the last step."""

    @property
    def heard_s(self) -> float:
        """Duration of all samples so far, in seconds."""
        return self._listener.heard_s

    @property
    def passages(self) -> tuple[LivePassage, ...]:
        """Returns the passages of the last hour, in order."""
        return self._segmentation.passages

    def hear(self, samples: NDArray[np.float32]) -> None:
        """Adds further samples, float32 (n,), mono, in -1..1. Raises ValueError if a sample is not finite."""
        self._waiting.append(self._listener.hear(samples))

    def find(self, encoder: Encoder, segmenter: Segmenter, *, all: bool = False) -> None:
        """Goes on with the search up to what was heard. If that fails, the next call tries again.

        segmenter: of the collection as it is now. all: go on though little was heard since the last time.
        """
        embeddings, tones = np.empty((0, DIMENSION), np.float32), np.empty(0, np.float32)
        if any(map(len, self._waiting)):
            excerpts = np.concatenate(self._waiting)
            embeddings, tones = encoder.recording(excerpts), self._tones(excerpts)
        self._waiting.clear()
        self._segmentation.note(embeddings, tones, self._listener.silent_s)
        searched = segmenter.searched("recording", self.among)
        self._segmentation.find(searched, all=all)
        self._unseen = searched.searcher.unseen

    def _tones(self, excerpts: NDArray[np.float32]) -> Tonality:
        """Returns the tonality of the frames that further excerpts are the first to have."""
        hop = self._front_end.excerpt_hop_frames
        new = [one[:, -hop:] for one in excerpts]
        if not self._segmentation.begun:
            new[0] = excerpts[0]
        return tonality(np.concatenate(new, axis=1))

    def as_dict(self, collection: AnyCollection) -> dict[str, Any]:
        """Returns the passages of the last hour as a map of plain values, as docs/protocol.md describes it."""
        live = self._segmentation
        return setlist.live_as_dict(
            live.passages, live.forgotten, self.among, self.heard_s, collection, unseen=self._unseen
        )
