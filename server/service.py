"""Answers each request: checks the token, the queue and the deadline, then does the work. Knows no sockets."""

import asyncio
import logging
import time
import weakref
from collections import Counter
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from engine.audio import BANDS
from engine.collection import Storage, storage_of
from engine.embedding.documents import Encoder
from engine.errors import EngineError
from engine.evening import LiveEvening
from engine.score import facsimile
from engine.search.answers import contents
from engine.transposition import ALL_TRIES, SHIFTS
from engine.values import OTHER, Embeddings, Kind
from server import changes
from server.access import Access
from server.answering import Answering, Push, Question, Reply, must_be_heard
from server.batcher import Batcher
from server.browsing import ExportDocument, ListDocuments, PlaySound, ShowDocument, ShowPage
from server.changes import Addition, Change, Outcome
from server.config import ServerSettings
from server.decoding import Decoders, Drawing, Reading
from server.errors import (
    AuthorisationError,
    DeadlineExceeded,
    Overloaded,
    QueryRefused,
    RequestError,
    ServerError,
    TooMany,
    translated,
)
from server.evenings import Evenings
from server.library import Library
from server.messages import (
    Add,
    Body,
    CloseStream,
    Draw,
    Embedded,
    GetStream,
    Info,
    OpenStream,
    Ping,
    PushStream,
    QueryRequest,
    Reload,
    Remove,
    Request,
    SegmentRequest,
    Stats,
    StoredQuery,
    Wanted,
)
from server.metrics import Metrics
from server.shelf import Shelf
from server.streams import LiveRecording, Unheard

logger = logging.getLogger(__name__)

WRITES = (Add, Remove, Reload)
REAP_S = 3600.0
"""Time between two looks for killed readers of the collection's file."""
REPLY_S = 0.1
"""Time before the deadline of a query at which tries of other pitches end, so that the reply is still in time."""
FULL_S = 10.0
"""A queue that is full for so long counts as degraded."""


@dataclass(slots=True, kw_only=True, eq=False)
class ClientState:
    """What the service knows about the client of a connection. The object itself stands for the client in queues."""

    name: str
    """The client's address, for the log."""
    streams: dict[int, LiveRecording | LiveEvening] = field(default_factory=dict)
    """The open streams by their numbers."""
    opened: int = 0
    """How many streams have been opened; the next one gets this number plus one."""
    guessing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the reply to a wrong token is delayed."""


class Service:
    """Answers requests, in one event loop. Work that takes long runs in threads and processes."""

    def __init__(
        self,
        place: Path | Storage,
        shelf: Shelf,
        encoder: Encoder,
        settings: ServerSettings,
        access: Access,
        *,
        threads: int,
    ) -> None:
        """Starts the decoders. place: where the collection lies. threads: for building indexes."""
        limits = settings.limits
        self._storage = storage_of(place)
        self.metrics = Metrics(self._storage.health)
        self.access = access
        """Who may ask and change; may be replaced at any time."""
        self._shelf = shelf
        self._encoder = encoder
        self._limits = limits
        self._in_flight = Counter[str]()
        self._full_since: dict[str, float] = {}
        """When a queue began to be full, on the clock of `time.monotonic`, until it is half empty or has no request."""
        self._decoders = Decoders(
            settings.workers, memory_bytes=limits.decode_bytes, observe_death=self.metrics.decoders_lost.inc
        )
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="asking")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="writing")
        self._answers: Batcher[Question, Reply] = Batcher(
            Answering(shelf, encoder, limits.located),
            self._asking,
            max_size=settings.batch,
            observe=self.metrics.batches.observe,
            must=must_be_heard,
        )

        def make(wanted: list[Change]) -> list[Outcome]:
            return changes.make(place, wanted, encoder, shelf, threads)

        self._changes: Batcher[Change, dict[str, Any]] = Batcher(make, self._writing, max_size=settings.batch)
        self._library = Library(shelf, limits)
        self._unheard = Unheard()
        self._evenings = Evenings(shelf, encoder, self._unheard)
        self._live_evenings: weakref.WeakSet[LiveEvening] = weakref.WeakSet()
        """The evenings that clients have open; one whose client is gone leaves by itself."""
        self._record_generation()

    @property
    def generation(self) -> int:
        """The number of the generation that answers now."""
        return self._shelf.generation

    async def close(self) -> None:
        """Fails the waiting requests, waits for the running batches, and ends the decoders and threads."""
        await self._answers.close()
        await self._changes.close()
        self._asking.shutdown()
        self._writing.shutdown()
        await self._decoders.close()
        await self._evenings.close()
        await self._library.close()
        self._shelf.close()

    async def warm(self) -> None:
        """Loads and compiles all that the first query would have to wait for."""
        network, front_end = self._encoder.identity.hash, self._encoder.identity.front_end
        page = np.full((1, front_end.strip_rows, front_end.snippet_px), 255, dtype=np.uint8)
        silence = np.zeros((1, BANDS[front_end.bands], front_end.excerpt_frames), dtype=np.float32)
        embedded: dict[Kind, Embeddings] = {
            "score": await asyncio.to_thread(self._encoder.score, page),
            "recording": await asyncio.to_thread(self._encoder.recording, silence),
        }
        for kind, embeddings in embedded.items():
            wanted = Wanted(among=OTHER[kind], method="refine", top=1, path=False)
            asked = Embedded(kind=kind, network=network, embeddings=embeddings)
            await self._answers(Question(source=asked, wanted=wanted))

    async def prepare_to_show(self) -> None:
        """Starts what shows pages of documents; it starts by itself when the first page is asked for."""
        await self._library.prepare()

    async def reload(self) -> bool:
        """Opens the newest generation on disk and returns whether it is a newer one. Raises CollectionError."""

        def load() -> bool:
            changed = self._shelf.reload()
            self._record_generation()  # in the thread, which goes on when the caller is cancelled
            return changed

        return await asyncio.to_thread(load)

    def chores(self) -> list[Coroutine[Any, Any, None]]:
        """Returns what is to be done beside the requests until it is cancelled."""
        watch_s = self._storage.watch_s
        return [self._tend(), *([] if watch_s is None else [self._follow(watch_s)])]

    async def _tend(self) -> None:
        """Frees, every REAP_S seconds until it is cancelled, what killed readers hold of the collection's file."""
        while True:
            await asyncio.sleep(REAP_S)
            try:
                await asyncio.to_thread(self._shelf.clear_dead_readers)
            except lmdb.Error as exc:
                logger.error("%s: the table of readers cannot be cleared: %s", self._storage.path, exc)

    async def _follow(self, watch_s: float) -> None:
        """Opens, until it is cancelled, each generation that others make of a collection that several may change."""
        while True:
            await asyncio.sleep(watch_s)
            try:
                await self.reload()
            except (EngineError, OSError) as exc:
                logger.error("%s: the newest generation cannot be opened: %s", self._storage.path, exc)

    def degraded(self) -> list[str]:
        """Returns what is wrong though the server answers, in words; empty if nothing is."""
        now, full = time.monotonic(), dict(self._full_since)
        found = [f"{queue} are refused: too many" for queue, since in full.items() if now - since >= FULL_S]
        if self._shelf.reload_failed:
            found.append("the last reload failed: an older generation answers")
        unseen = {shard.name for shard in self._shelf.unseen()}
        found += [f"{name} does not answer: its documents are not searched" for name in sorted(unseen)]
        found += [
            f"{shard.name}: {shard.answering} of {shard.replicas} replicas answer"
            for shard in self._storage.health()
            if shard.answering < shard.replicas and shard.name not in unseen
        ]
        found += [f"the GPU has failed: the CPU does the {part}" for part in self._shelf.fell_back()]
        if not self._decoders.alive:
            found.append("no process that reads media is alive")
        return found

    async def answer(self, request: Request[Body], client: ClientState) -> Reply:
        """Returns the reply to a request. Raises ServerError."""
        started, outcome = time.perf_counter(), "cancelled"
        try:
            with translated(f"{request.op} of {client.name}"):
                await self._authorise(request, client)
                reply = await self._within_deadline(request, client)
            outcome = "ok"
            return reply
        except ServerError as exc:
            outcome = exc.code
            raise
        finally:
            took_s = time.perf_counter() - started
            self.metrics.finished(request.op, outcome, took_s)
            logger.info(
                "%s of %s: %s in %.1f ms",
                request.op,
                client.name,
                outcome,
                took_s * 1000,
                extra={"op": request.op, "client": client.name, "outcome": outcome, "took_ms": took_s * 1000},
            )

    async def _authorise(self, request: Request[Body], client: ClientState) -> None:
        """Raises AuthorisationError if the request needs a token and does not have it."""
        access, given, body = self.access, request.token, request.body
        if given and not access.knows(given):
            self.metrics.wrong_tokens.inc()
            async with client.guessing:
                await asyncio.sleep(self._limits.wrong_token_s)
        writes = isinstance(body, WRITES)
        if writes and not access.write_token:
            raise AuthorisationError(f"{request.op}: this server accepts no changes; it was started without a token")
        if writes and not access.may_write(given):
            told = "one that only opens reads" if access.knows(given) else "another" if given else "none"
            raise AuthorisationError(f"{request.op}: expected the token, got {told}")
        if not (isinstance(body, Ping) or access.may_read(given)):
            raise AuthorisationError(f"{request.op}: expected the token, got {'another' if given else 'none'}")

    async def _within_deadline(self, request: Request[Body], client: ClientState) -> Reply:
        """Carries out a request. Raises DeadlineExceeded if that takes longer than is allowed."""
        takes_long = isinstance(request.body, (*WRITES, SegmentRequest))
        max_s = self._limits.write_deadline_s if takes_long else self._limits.deadline_s
        allowed_s = max_s if request.deadline_s is None else min(request.deadline_s, max_s)
        try:
            async with asyncio.timeout(allowed_s) as timeout:
                return await self._do(request.body, client, timeout.when() or 0.0)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"{request.op}: not done within {allowed_s:g} s") from exc

    async def _do(self, body: Body, client: ClientState, until: float) -> Reply:
        """Carries out a request, if its queue has room for it. until: its deadline, on the clock of the event loop."""
        match body:
            case Ping():
                return self._reply({})
            case Stats():
                return self._reply(self.metrics.told())
            case Info():
                with self._admitted("queries", self._limits.queue):
                    return await asyncio.to_thread(self._info, body)
            case QueryRequest():
                with self._admitted("queries", self._limits.queue):
                    return await self._query(body, client, until)
            case SegmentRequest():
                with self._admitted("evenings", self._limits.evenings):
                    return await self._segment(body, client)
            case ListDocuments() | ShowDocument() | ShowPage() | PlaySound() | ExportDocument():
                with self._admitted("queries", self._limits.queue):
                    return await self._library.answer(body)
            case Draw():
                with self._admitted("queries", self._limits.queue):
                    return await self._draw(body, client)
            case Add():
                with self._admitted("changes", self._limits.changes):
                    return await self._add(body, client)
            case Remove():
                with self._admitted("changes", self._limits.changes):
                    return await self._change(body, client)
            case Reload():
                return self._reply({"changed": await self.reload()})
            case OpenStream():
                return self._open_stream(body, client)
            case PushStream():
                with self._admitted("queries", self._limits.queue):
                    return await self._push_stream(body, client)
            case GetStream():
                with self._admitted("queries", self._limits.queue):
                    stream = self._stream(client, body.stream)
                    if isinstance(stream, LiveEvening):
                        return await self._evenings.heard(stream, np.empty(0, np.float32), all=True)
                    push = Push(stream=stream, samples=np.empty(0, np.float32), answer=True)
                    asked = Question(source=push, wanted=stream.wanted)
                    return await self._answered(asked, client, time.perf_counter())
            case CloseStream():
                self._stream(client, body.stream)
                del client.streams[body.stream]
                return self._reply({})

    @contextmanager
    def _admitted(self, queue: str, maximum: int) -> Iterator[None]:
        """Takes a place in a queue during the `with` block. Raises Overloaded if none is free."""
        if self._in_flight[queue] >= maximum:
            if maximum:  # a maximum of 0 is a setting, and no fault
                self._full_since.setdefault(queue, time.monotonic())
            raise Overloaded(f"{maximum} {queue} are being worked on, the maximum; try again later")
        self._in_flight[queue] += 1
        self.metrics.in_flight.labels(queue).inc()
        try:
            yield
        finally:
            self._in_flight[queue] -= 1
            if self._in_flight[queue] < max(1, maximum // 2):
                self._full_since.pop(queue, None)
            self.metrics.in_flight.labels(queue).dec()

    async def _query(self, query: QueryRequest, client: ClientState, until: float) -> Reply:
        """Answers a query for media or for embeddings. until: see `_do`."""
        started = time.perf_counter()
        asked = query.asked
        if isinstance(asked, Embedded):
            ours = self._encoder.identity.hash
            if asked.network != ours:
                raise QueryRefused(f"network: the collection is embedded by {ours}, the query by {asked.network}")
            return await self._answered(Question(source=asked, wanted=query.wanted), client, started)
        if isinstance(asked, StoredQuery):
            known = await self._library.known(asked)
            return await self._answered(Question(source=known, wanted=query.wanted), client, started)
        reading = Reading(
            front_end=self._encoder.identity.front_end,
            limits=self._limits.query_media,
            timeout_s=self._limits.decode_s,
            start_s=query.start_s,
            end_s=query.end_s,
        )
        medium = await self._decoders.read(asked, reading, client)
        decode_ms = (time.perf_counter() - started) * 1000
        shifts = () if query.transpose in (None, (0.0,)) else query.transpose
        question = Question(source=medium, wanted=query.wanted, shifts=shifts or (), tries=len(shifts or (0,)))
        reply = await self._answered(question, client, started, decode=decode_ms)
        if query.transpose is not None or asked.kind != "recording" or reply.result["in_collection"] is not False:
            return reply
        tries = Question(source=medium, wanted=query.wanted, shifts=SHIFTS, tries=ALL_TRIES)
        return await self._retried(reply, tries, client, until - REPLY_S)

    async def _retried(self, reply: Reply, tries: Question, client: ClientState, until: float) -> Reply:
        """Returns the reply to other pitches of a recording if they find it, else the reply that did not find it.

        The first reply is good enough for a client whose deadline comes before the tries are done. until: when that is,
        on the clock of the event loop.
        """
        started = time.perf_counter()
        chosen = reply
        try:
            async with asyncio.timeout_at(until):
                retried = await self._answered(tries, client, started)
            if retried.result["in_collection"] is not False:
                chosen = retried
        except TimeoutError:
            logger.info("no time was left to try other pitches")
        took_ms = (time.perf_counter() - started) * 1000
        before_ms = reply.result["timings_ms"]
        timings_ms = before_ms | {"transpose": took_ms, "total": before_ms["total"] + took_ms}
        return Reply(generation=chosen.generation, result=chosen.result | {"timings_ms": timings_ms})

    async def _answered(self, question: Question, client: ClientState, started: float, **before_ms: float) -> Reply:
        """Answers a question and completes the timings of its reply.

        started: when the request began, on the clock of `time.perf_counter`. before_ms: times of earlier stages.
        """
        try:
            reply = await self._answers(question, client)
        finally:
            question.given_up.set()  # matters if this is cancelled while the question is worked on
        total_ms = (time.perf_counter() - started) * 1000
        timings_ms = before_ms | reply.result["timings_ms"] | {"total": total_ms}
        for stage, took_ms in timings_ms.items():
            self.metrics.stages.labels(stage).observe(took_ms / 1000)
        return Reply(generation=reply.generation, result=reply.result | {"timings_ms": timings_ms})

    async def _segment(self, wanted: SegmentRequest, client: ClientState) -> Reply:
        """Finds the passages of a long recording, of a volume, or of a document of the collection."""
        if isinstance(wanted.asked, StoredQuery):
            return await self._evenings.found(await self._library.known(wanted.asked), wanted.among)
        reading = replace(self._unhurried, start_s=wanted.start_s, end_s=wanted.end_s)
        medium = await self._decoders.read(wanted.asked, reading, client)
        return await self._evenings.found(medium, wanted.among, wanted.transpose)

    @property
    def _unhurried(self) -> Reading:
        """How media are read that may be long, after those of queries."""
        return Reading(
            front_end=self._encoder.identity.front_end,
            limits=self._limits.add_media,
            timeout_s=self._limits.add_decode_s,
            urgent=False,
        )

    async def _add(self, add: Add, client: ClientState) -> Reply:
        """Adds a document."""
        kept_bytes = self._limits.kept_bytes if self._shelf.keeps_media else 0
        decoded = await self._decoders.decode(add.media, replace(self._unhurried, kept_bytes=kept_bytes), client)
        assert decoded.medium is not None
        return await self._change(Addition(wanted=add, medium=decoded.medium, kept=decoded.kept), client)

    async def _draw(self, draw: Draw, client: ClientState) -> Reply:
        """Draws a page of a score that the client has sent, under the limits of a query."""
        drawing = Drawing(looks=draw.looks, limits=self._limits.query_media, timeout_s=self._limits.decode_s)
        picture = (await self._decoders.decode(draw.media, drawing, client)).picture
        return self._reply({"type": facsimile.TYPE, "total": len(picture), "data": picture})

    async def _change(self, change: Change, client: ClientState) -> Reply:
        """Makes a change together with those that wait, and returns its reply when it is on disk."""
        outcome = await self._changes(change, client)
        self._record_generation()
        return self._reply(outcome)

    def _open_stream(self, body: OpenStream, client: ClientState) -> Reply:
        """Opens a stream of the client. Raises TooMany."""
        if len(client.streams) >= self._limits.streams_per_client:
            raise TooMany(f"{len(client.streams)} streams are open, the maximum for a client")
        stream: LiveRecording | LiveEvening
        if body.passages:
            stream = self._live_evening(body)
        else:
            stream = LiveRecording(body, self._encoder.identity.front_end, self._limits.stream_s)
        client.opened += 1
        client.streams[client.opened] = stream
        return self._reply({"stream": client.opened})

    def _live_evening(self, body: OpenStream) -> LiveEvening:
        """Returns a new evening that is going on. Raises Overloaded if there are too many, RequestError."""
        if len(self._live_evenings) >= self._limits.live_evenings:
            raise Overloaded(f"{len(self._live_evenings)} evenings are going on, the maximum; try again later")
        try:
            evening = LiveEvening(body.rate, self._encoder.identity.front_end, body.wanted.among)
        except ValueError as exc:
            raise RequestError(f"rate: {exc}") from exc
        self._live_evenings.add(evening)
        return evening

    async def _push_stream(self, body: PushStream, client: ClientState) -> Reply:
        """Adds samples to a stream and answers with the matches so far, or with the passages."""
        stream, max_s = self._stream(client, body.stream), self._limits.push_s
        max_samples = int(max_s * stream.rate)
        if len(body.samples) > max_samples:
            raise RequestError(
                f"samples: expected at most {max_samples} ({max_s:g} s), got {len(body.samples)}; send them in parts"
            )

        def is_open() -> bool:
            return client.streams.get(body.stream) is stream

        if isinstance(stream, LiveEvening):
            reply = await self._evenings.heard(stream, body.samples, is_open)
            return reply if body.answer else replace(reply, result=reply.result | {"passages": []})
        self._unheard.require_room()
        push = Push(stream=stream, samples=body.samples, answer=body.answer, is_open=is_open)
        try:
            return await self._answered(Question(source=push, wanted=stream.wanted), client, time.perf_counter())
        except asyncio.CancelledError:
            self._unheard.add(lambda: is_open() and not push.heard, body.samples.nbytes)
            raise

    @staticmethod
    def _stream(client: ClientState, number: int) -> LiveRecording | LiveEvening:
        """Returns an open stream of the client by its number. Raises RequestError."""
        if number not in client.streams:
            raise RequestError(f"stream: expected one of the open streams {sorted(client.streams)}, got {number}")
        return client.streams[number]

    def _info(self, info: Info) -> Reply:
        """Describes the collection."""
        with self._shelf.taken() as generation:
            facts = contents(generation.collection, list_documents=False)
            if info.list:
                facts["ids"], facts["next"] = generation.listed(info.after, self._limits.listed)
            return Reply(generation=generation.number, result=facts)

    def _reply(self, result: dict[str, Any]) -> Reply:
        """Makes a reply of the generation that the result names, or else of the current one."""
        return Reply(generation=result.get("generation", self.generation), result=result)

    def _record_generation(self) -> None:
        """Records the current generation in the metrics."""
        with self._shelf.taken() as generation:
            self.metrics.holds(generation.collection)
