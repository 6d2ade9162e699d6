"""A recording that a client sends while it is played, and what is not heard of such recordings yet."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.audio import FRAME_RATE
from engine.audio.listening import Listener
from engine.config import FrontEnd
from engine.embedding import documents
from engine.embedding.documents import Encoder
from engine.values import DIMENSION, Embeddings, SnippetSequence
from server.errors import Overloaded, RequestError
from server.messages import OpenStream, Wanted

MAX_UNHEARD_BYTES = 64 << 20
"""Size of the samples that wait to be heard though nobody waits for an answer any more, of all streams together: six
minutes of 48 kHz."""


class Unheard:
    """Counts the samples of pushes whose deadline is over before they are heard.

    The samples are heard nevertheless, because they are a part of the recording. Until then they take memory that no
    request accounts for any more, so without a limit a client with short deadlines could fill all memory.
    """

    def __init__(self, max_bytes: int = MAX_UNHEARD_BYTES) -> None:
        """max_bytes: from this size on, further samples are refused."""
        self._max_bytes = max_bytes
        self._waiting: list[tuple[Callable[[], bool], int]] = []

    def add(self, waits: Callable[[], bool], size: int) -> None:
        """Counts samples of `size` bytes as long as `waits` returns True."""
        self._waiting.append((waits, size))

    def require_room(self) -> None:
        """Raises Overloaded if too many samples wait."""
        self._waiting = [(waits, size) for waits, size in self._waiting if waits()]
        if (waiting := sum(size for _, size in self._waiting)) >= self._max_bytes:
            raise Overloaded(f"{waiting} bytes of earlier samples wait to be heard; send these samples again later")


class LiveRecording:
    """What the server has heard of a recording so far, embedded. Of a long recording only the latest part is kept."""

    def __init__(self, opened: OpenStream, front_end: FrontEnd, max_s: float) -> None:
        """Starts to listen. max_s: duration of the part that is kept. Raises RequestError for an impossible rate."""
        self.wanted: Wanted = opened.wanted
        self.rate = opened.rate
        self._front_end = front_end
        self._max_snippets = max(1, int(max_s * FRAME_RATE / front_end.excerpt_hop_frames))
        self._embeddings: Embeddings = np.empty((0, DIMENSION), np.float32)
        self._waiting: list[NDArray[np.float32]] = []
        """Excerpts that are not embedded yet, float32 (n, bands, frames) each."""
        self._dropped = 0
        try:
            self._listener = Listener(opened.rate, front_end)
        except ValueError as exc:
            raise RequestError(f"rate: {exc}") from exc

    @property
    def heard_s(self) -> float:
        """Duration of all samples that were sent, in seconds."""
        return self._listener.heard_s

    def hear(self, samples: NDArray[np.float32]) -> None:
        """Adds further samples, float32 (n,)."""
        self._waiting.append(self._listener.hear(samples))

    def embed(self, encoder: Encoder) -> None:
        """Embeds the excerpts heard since the last call. If that fails, the next call tries again with all of them."""
        if any(map(len, self._waiting)):
            embedded = encoder.recording(np.concatenate(self._waiting))
            heard = np.concatenate([self._embeddings, embedded])
            self._dropped += max(0, len(heard) - self._max_snippets)
            self._embeddings = heard[-self._max_snippets :]
        self._waiting.clear()

    def sequence(self) -> SnippetSequence:
        """Returns the snippets to search for; none as long as less than one excerpt was heard."""
        hop_s = self._front_end.excerpt_hop_frames / FRAME_RATE
        start_s = self._listener.silent_s + self._dropped * hop_s
        return documents.recording_sequence(self._embeddings, start_s, self._front_end)
