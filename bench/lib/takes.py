"""A crowd of documents made of the pieces of a training corpus, among which the searched pieces hide.

With a few dozen documents, most ways of searching find everything. Each take is an engraving that looks like a scan,
with a performance (`indexer.training.corpus`), so it gives a score and a recording. No measured piece is in the
training corpus. But the network was trained on the pictures and sounds of these takes.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engine import audio, score
from engine.collection import Collection, CollectionWriter
from engine.config import FrontEnd
from engine.embedding.documents import Encoder
from engine.files import replacing
from engine.score import Score
from engine.score.packed import PackedStrip
from engine.values import RECORDING_PLACE, Box, Document, NetworkIdentity, SnippetSequence, System
from indexer.training.material import Take, takes

COMMIT_DOCUMENTS = 200
"""Documents between two commits: an interrupted run loses at most this many."""


def collect(corpus: Path, split: str, work: Path, encoder: Encoder) -> Path:
    """The collection of both forms of all takes of a split. Missing documents are added to it below `work`."""
    path = work / f"{encoder.identity.hash[:12]}-{split}"
    made = takes(corpus / split, encoder.identity.front_end.bands)
    with CollectionWriter(path, encoder.identity) as writer:
        for number, take in enumerate(tqdm(made, unit="take", disable=None, dynamic_ncols=True), start=1):
            if writer.holds(f"{take.piece}.recording"):
                continue
            for document, sequence in documents(take, take.piece, encoder):
                writer.put(document, sequence)
            if number % COMMIT_DOCUMENTS == 0:
                writer.commit()
        writer.commit()
    return path


def documents(take: Take, name: str, encoder: Encoder) -> Iterator[tuple[Document, SnippetSequence]]:
    """The score and the recording of a take, embedded. The score has a single system, whose places mean nothing.

    A take whose recording is too short for an excerpt has no documents.
    """
    front_end = encoder.identity.front_end
    excerpts = audio.excerpts(take.spectrogram, front_end)
    if len(excerpts) == 0:
        return
    seen = _score(take, front_end)
    snippets, places = score.snippets(seen, front_end)
    embeddings = encoder.score(np.ascontiguousarray(snippets))
    sequence = SnippetSequence(
        kind="score", embeddings=embeddings, places=places, bias=encoder.bias(embeddings, "score")
    )
    yield Document(id=f"{name}.score", kind="score", pages=1, systems=seen.systems), sequence
    embeddings = encoder.recording(excerpts)
    places = np.empty(len(excerpts), RECORDING_PLACE)
    places["start_s"] = np.arange(len(excerpts)) * front_end.excerpt_hop_frames / audio.FRAME_RATE
    places["end_s"] = places["start_s"] + front_end.excerpt_frames / audio.FRAME_RATE
    sequence = SnippetSequence(
        kind="recording", embeddings=embeddings, places=places, bias=encoder.bias(embeddings, "recording")
    )
    duration_s = take.spectrogram.shape[1] / audio.FRAME_RATE
    yield Document(id=f"{name}.recording", kind="recording", duration_s=duration_s), sequence


def _score(take: Take, front_end: FrontEnd) -> Score:
    """The score of a take, at the working scale. The strip of a take is at half the scale and has a margin."""
    top = (2 * take.strip.shape[0] - front_end.strip_rows) // 2
    strip = take.strip.repeat(2, axis=0).repeat(2, axis=1)[top : top + front_end.strip_rows]
    box = Box(x0=0.0, y0=0.0, x1=1.0, y1=0.1)
    system = System(page=1, number=1, box=box, staves=(box,), staff_space=0.01, confidence=1.0)
    return Score(pages=1, systems=(system,), strips=(PackedStrip.of(strip),))


def hidden(pieces: Path, corpus: Path, work: Path, encoder: Encoder) -> Path:
    """The collection of some pieces together with the takes, made below `work` unless it exists.

    pieces: the collection of the pieces by `bench.lib.pieces.collect`: SET/NETWORK-COUNT/SOUND/collection.
    """
    others = collect(corpus, "train", work, encoder)
    with Collection.open(pieces) as ours, Collection.open(others) as theirs:
        name = "-".join([*pieces.parts[-4:-1], str(len(ours.documents)), "in", str(len(theirs.documents))])
        return joined(work / name, encoder.identity, [ours, theirs])


def joined(path: Path, network: NetworkIdentity, parts: Iterable[Collection]) -> Path:
    """The collection of the documents of all parts, made unless it exists. Nothing is embedded again."""
    if not path.exists():
        with replacing(path) as unfinished, CollectionWriter(unfinished, network) as writer:
            for part in parts:
                for document in part.documents:
                    writer.put(document, part.sequence(document.id))
            writer.commit()
    return path
