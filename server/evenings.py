"""Finds the passages of long recordings and of volumes, one at a time, in a thread of its own and in small parts.

The queries of other clients go on meanwhile. Before each part, of some hundred milliseconds, the work ends if nobody
waits for it any more.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.audio import Recording
from engine.embedding import documents
from engine.embedding.documents import Encoder, Medium
from engine.search import setlist
from engine.search.segmentation import Evening
from engine.values import Embeddings, Kind, NetworkIdentity, SnippetSequence, System
from server.answering import KnownDocument, Reply
from server.shelf import Shelf


class GivenUp(Exception):
    """Nobody waits for the passages any more. No client sees this error."""


class Evenings:
    """Finds the passages of one evening after the other in the generation in force."""

    def __init__(self, shelf: Shelf, encoder: Encoder) -> None:
        self._shelf = shelf
        self._encoder = encoder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evenings")

    async def found(self, source: Medium | KnownDocument, among: Kind) -> Reply:
        """Returns the reply with the set list. The work ends soon after the caller is cancelled."""
        given_up = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._found, source, among, given_up)
        finally:
            given_up.set()

    async def close(self) -> None:
        """Waits for the evening that is being worked on, and ends the thread."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    def _found(self, source: Medium | KnownDocument, among: Kind, given_up: threading.Event) -> Reply:
        """Returns the reply with the set list. Raises GivenUp."""

        def between() -> None:
            if given_up.is_set():
                raise GivenUp

        started = time.perf_counter()
        sequence, systems, extent = self._embedded(source, between)
        embedded = time.perf_counter()
        evening = Evening(sequence=sequence, among=among, systems=systems, between=between)
        with self._shelf.taken() as generation:
            passages = generation.segmenter.passages(evening)
            result = setlist.as_dict(passages, sequence.kind, among, extent, generation.collection)
        ended = time.perf_counter()
        times_s = {"embed": embedded - started, "segment": ended - embedded, "total": ended - started}
        timings_ms: dict[str, Any] = {stage: took_s * 1000 for stage, took_s in times_s.items()}
        return Reply(generation=generation.number, result=result | {"timings_ms": timings_ms})

    def _embedded(
        self, source: Medium | KnownDocument, between: Callable[[], None]
    ) -> tuple[SnippetSequence, tuple[System, ...], float]:
        """Returns the snippets of an evening, the systems of a volume, and the seconds or the number of pages."""
        if isinstance(source, KnownDocument):
            last = source.sequence.places[-1]
            extent = float(last["end_s"]) if not source.systems else source.systems[-1].page
            return source.sequence, source.systems, extent
        (sequence,) = documents.sequences([source], _InParts(self._encoder, between))
        if isinstance(source, Recording):
            return sequence, (), source.start_s + source.duration_s
        return sequence, source.systems, source.pages


class _InParts:
    """An encoder that calls a function before each block of snippets."""

    def __init__(self, encoder: Encoder, between: Callable[[], None]) -> None:
        self._encoder = encoder
        self._between = between

    @property
    def identity(self) -> NetworkIdentity:
        return self._encoder.identity

    @property
    def device(self) -> str:
        return self._encoder.device

    def score(self, snippets: NDArray[np.uint8]) -> Embeddings:
        self._between()
        return self._encoder.score(snippets)

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        self._between()
        return self._encoder.recording(excerpts)

    def bias(self, embeddings: Embeddings, kind: Kind) -> NDArray[np.float32]:
        return self._encoder.bias(embeddings, kind)
