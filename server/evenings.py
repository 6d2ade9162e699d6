"""Finds the passages of long recordings and of volumes, one at a time, in a thread of its own and in small parts.

The queries of other clients go on meanwhile. Before each part, of some hundred milliseconds, the work ends if nobody
waits for it any more. Evenings that are still going on have another thread, because their samples come whether a long
recording is being worked on or not.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.audio import Recording
from engine.embedding.documents import Encoder, Medium
from engine.evening import LiveEvening, segmented
from engine.search import setlist
from engine.search.segmentation import Evening, Found, Segmenter
from engine.values import Embeddings, Kind, NetworkIdentity
from server.answering import KnownDocument, Reply
from server.shelf import Shelf
from server.streams import Unheard


class GivenUp(Exception):
    """Nobody waits for the passages any more. No client sees this error."""


class Evenings:
    """Finds the passages of one evening after the other in the generation in force, and those of evenings going on."""

    def __init__(self, shelf: Shelf, encoder: Encoder, unheard: Unheard) -> None:
        """unheard: counts the samples of calls that are cancelled, also those of other streams."""
        self._shelf = shelf
        self._encoder = encoder
        self._unheard = unheard
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evenings")
        self._live = ThreadPoolExecutor(1, thread_name_prefix="live")

    async def found(self, source: Medium | KnownDocument, among: Kind, shifts: Sequence[float] = ()) -> Reply:
        """Returns the reply with the set list. The work ends soon after the caller is cancelled.

        shifts: semitones by which a recording is transposed; of several, the likeliest.
        """
        given_up = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._found, source, among, shifts, given_up)
        finally:
            given_up.set()

    async def heard(
        self,
        evening: LiveEvening,
        samples: NDArray[np.float32],
        is_open: Callable[[], bool] = lambda: True,
        *,
        all: bool = False,
    ) -> Reply:
        """Returns the reply with the passages of an evening that goes on with further samples. all: see `find`.

        Samples of one evening are heard in the order of the calls, also those of calls that are cancelled: without them
        all later times would be too early. These samples are searched for, too: excerpts that wait for a search have
        more bytes than their samples, and a client with short deadlines could fill all memory with excerpts.

        is_open: whether the client may still ask for the evening. If not, samples of cancelled calls are dropped.
        Raises Overloaded if too many samples of cancelled calls wait already; then these samples are not heard.
        """
        if len(samples):
            self._unheard.require_room()
        given_up = threading.Event()

        def work() -> Reply:
            if given_up.is_set() and not (len(samples) and is_open()):
                raise GivenUp
            return self._heard(evening, samples, all)

        working = self._live.submit(work)
        try:
            # without the shield, the work would be cancelled with its caller
            return await asyncio.shield(asyncio.wrap_future(working))
        except asyncio.CancelledError:
            given_up.set()
            if len(samples):
                self._unheard.add(lambda: not working.done(), samples.nbytes)
            raise

    async def close(self) -> None:
        """Waits for the evenings that are being worked on, and ends the threads."""
        for thread in (self._thread, self._live):
            await asyncio.to_thread(thread.shutdown, cancel_futures=True)

    def _heard(self, evening: LiveEvening, samples: NDArray[np.float32], all: bool) -> Reply:
        """Adds further samples to an evening, and returns the reply with the passages so far."""
        started = time.perf_counter()
        evening.hear(samples)
        with self._shelf.taken() as generation:
            evening.find(self._encoder, generation.segmenter, all=all)
            result = evening.as_dict(generation.collection)
        timings_ms: dict[str, Any] = {"total": (time.perf_counter() - started) * 1000}
        return Reply(generation=generation.number, result=result | {"timings_ms": timings_ms})

    def _found(
        self, source: Medium | KnownDocument, among: Kind, shifts: Sequence[float], given_up: threading.Event
    ) -> Reply:
        """Returns the reply with the set list. Raises GivenUp."""

        def between() -> None:
            if given_up.is_set():
                raise GivenUp

        started = time.perf_counter()
        encoder = _InParts(self._encoder, between)
        with self._shelf.taken() as generation:
            if isinstance(source, KnownDocument):
                found, shift = _found_in(source, among, generation.segmenter, between), 0.0
            else:
                found, shift = segmented(source, encoder, generation.segmenter, among, shifts, between)
            kind, start_s, extent = _extent(source)
            result = setlist.as_dict(found, kind, among, extent, generation.collection, shift, start_s=start_s)
        total_s = time.perf_counter() - started
        times_s = {"embed": encoder.took_s, "segment": total_s - encoder.took_s, "total": total_s}
        timings_ms: dict[str, Any] = {stage: took_s * 1000 for stage, took_s in times_s.items()}
        return Reply(generation=generation.number, result=result | {"timings_ms": timings_ms})


def _found_in(document: KnownDocument, among: Kind, segmenter: Segmenter, between: Callable[[], None]) -> Found:
    """Returns the passages of a document of the collection."""
    evening = Evening(sequence=document.sequence, among=among, systems=document.systems, between=between)
    return segmenter.found(evening)


def _extent(source: Medium | KnownDocument) -> tuple[Kind, float, float]:
    """Returns the kind of an evening, where it starts in a recording, and its seconds or its number of pages."""
    if isinstance(source, KnownDocument):
        last = source.sequence.places[-1]
        return source.sequence.kind, 0.0, float(last["end_s"]) if not source.systems else source.systems[-1].page
    if isinstance(source, Recording):
        return "recording", source.start_s, source.duration_s
    return "score", 0.0, source.pages


class _InParts:
    """An encoder that calls a function before each block of snippets, and counts the time."""

    def __init__(self, encoder: Encoder, between: Callable[[], None]) -> None:
        self._encoder = encoder
        self._between = between
        self.took_s = 0.0
        """Seconds that embedding took so far."""

    @property
    def identity(self) -> NetworkIdentity:
        return self._encoder.identity

    @property
    def device(self) -> str:
        return self._encoder.device

    def score(self, snippets: NDArray[np.uint8]) -> Embeddings:
        self._between()
        started = time.perf_counter()
        embeddings = self._encoder.score(snippets)
        self.took_s += time.perf_counter() - started
        return embeddings

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        self._between()
        started = time.perf_counter()
        embeddings = self._encoder.recording(excerpts)
        self.took_s += time.perf_counter() - started
        return embeddings

    def bias(self, embeddings: Embeddings, kind: Kind) -> NDArray[np.float32]:
        return self._encoder.bias(embeddings, kind)
