"""Servers for tests, in this process or in one of their own, of collections of random snippets."""

import asyncio
import gc
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from collections.abc import Sequence as Many
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from collection_samples import document, embeddings
from engine import alignment
from engine.alignment import Alignments, Backend
from engine.collection import CollectionWriter, Storage
from engine.config import Alignment
from engine.embedding.documents import Encoder
from engine.values import SCORE_PLACE, Embeddings, Packed, SnippetSequence
from fake_encoder import FakeEncoder, engine_of
from server.access import Access
from server.address import Address
from server.client import AsyncClient
from server.config import Limits, ServerSettings
from server.decoding import Decoders
from server.frames import Decoder, Message, encode
from server.messages import array
from server.server import Server, serving

TOKEN = "open sesame"
NETWORK = FakeEncoder.identity
SNIPPETS = 20
"""Number of snippets of each document."""

ROOT = Path(__file__).parent.parent
_MAIN = """
import sys, scorefind
from fake_encoder import fake_loader
scorefind.encoder_loader = fake_loader
sys.exit(scorefind.main())
"""


def score(number: int) -> SnippetSequence:
    """The snippets of score `number`, in one system."""
    places = np.zeros(SNIPPETS, SCORE_PLACE)
    places["system"] = places["end_system"] = 1
    bias = np.zeros(SNIPPETS, np.float32)
    return SnippetSequence(kind="score", embeddings=embeddings(SNIPPETS, number), places=places, bias=bias)


def fill(path: Path, *numbers: int) -> Path:
    """Adds scores of these numbers, `s0` and so on, to the collection at `path` and commits; returns `path`."""
    with CollectionWriter(path, NETWORK) as writer:
        for number in numbers:
            writer.put(document(f"s{number}", content_hash=str(number)), score(number))
        writer.commit()
    return path


class Gate:
    """An alignment that waits as long as it is shut, and counts the queries it aligns."""

    def __init__(self) -> None:
        self.aligned = 0
        self._open = threading.Event()
        self._backend = alignment.choose("cpu", threads=1)
        self.open()

    @property
    def backend(self) -> Backend:
        return replace(self._backend, align_many=self._align_many)

    def open(self) -> None:
        self._open.set()

    def shut(self) -> None:
        self.aligned = 0
        self._open.clear()

    def _align_many(self, queries: Many[Embeddings], documents: Packed, settings: Alignment) -> tuple[Alignments, ...]:
        self._open.wait(20)
        self.aligned += len(queries)
        return self._backend.align_many(queries, documents, settings)


class Raw:
    """A connection to a server that sends bytes as they are given."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use `Running.raw`."""
        self.reader = reader
        self.writer = writer
        self._decoder = Decoder(1 << 30)

    async def send(self, *parts: Message | bytes) -> None:
        """Messages, or bytes that may be none. An end of the connection is left to `replies` to tell."""
        with suppress(OSError):
            self.writer.write(b"".join(part if isinstance(part, bytes) else encode(part) for part in parts))
            await self.writer.drain()

    async def replies(self, count: int | None = None) -> list[Message]:
        """So many replies; all that come before the server closes the connection if that is sooner, or for None."""
        found: list[Message] = []
        with suppress(ConnectionError):
            async with asyncio.timeout(20):
                while (count is None or len(found) < count) and (data := await self.reader.read(1 << 16)):
                    found += self._decoder.feed(data)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a server has in use."""

    sessions: int
    in_flight: int
    budget: int
    """Bytes that are left of it."""
    tasks: int
    """Number of tasks in the event loop, with those of the test and its clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server in this process that listens."""

    server: Server
    address: Address

    def client(self, **options: Any) -> AsyncClient:
        """One that has the token."""
        return AsyncClient(self.address, **{"token": TOKEN} | options)

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Raw]:
        if self.address.unix is not None:
            reader, writer = await asyncio.open_unix_connection(self.address.unix)
        else:
            reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        try:
            yield Raw(reader, writer)
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    def held(self) -> Held:
        return Held(
            sessions=len(self.server._sessions),
            in_flight=self.server._service._in_flight.total(),
            budget=self.server._memory.requests._left,
            tasks=len(asyncio.all_tasks()),
        )

    async def settled(self, before: Held) -> Held:
        """What is held as soon as that is what was held before, or after five seconds."""
        for _ in range(500):
            if self.held() == before:
                break
            await asyncio.sleep(0.01)
        return self.held()

    async def until(self, **wanted: int) -> None:
        """Returns as soon as these are held."""
        async with asyncio.timeout(10):
            while any(getattr(self.held(), name) != value for name, value in wanted.items()):
                await asyncio.sleep(0.005)


def open_files() -> int:
    """Number of open files of this process, once unreferenced files are closed."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def running(
    collection: Path | Storage,
    limits: Limits | None = None,
    *,
    address: Address | None = None,
    encoder: Encoder | None = None,
    backend: Backend | None = None,
    workers: int = 1,
    batch: int = 16,
    token: str = TOKEN,
    read_token: str = "",
    open_reads: bool = True,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Running]:
    """A server in this process, by default on a free port, with the token TOKEN and the stand-in for the network."""
    settings = ServerSettings(workers=workers, batch=batch, limits=limits or Limits())
    engine = engine_of(encoder or FakeEncoder(), backend)
    access = Access(write_token=token, read_token=read_token, open_reads=open_reads, tls=tls)
    async with serving(collection, engine, settings, access) as server:
        yield Running(server=server, address=await server.listen(address or Address(port=0)))


def decoder_processes(decoders: Decoders) -> tuple[int, ...]:
    """The process ids of the workers that read media."""
    until_s = time.monotonic() + 60.0
    while None in decoders._workers and time.monotonic() < until_s:
        time.sleep(0.01)  # threads start them
    return tuple(worker.process.pid or 0 for worker in decoders._workers if worker is not None)


def asking(id: int, number: int = 0) -> Message:
    """The message that asks for score `number` among scores."""
    fields = {"embeddings": array(score(number).embeddings), "kind": "score", "network": NETWORK.hash}
    return {"v": 1, "id": id, "op": "query", "among": "score", "top": 1, **fields}


def ping(id: int) -> Message:
    return {"v": 1, "id": id, "op": "ping"}


def codes(replies: Iterable[Message]) -> list[str]:
    """`ok` for each reply that succeeded, else the code of its error."""
    return [reply["error"]["code"] if "error" in reply else "ok" for reply in replies]


async def ask(client: AsyncClient, number: int = 0, **options: Any) -> dict[str, Any]:
    """The answer to score `number` asked for among scores."""
    return await client.query_embeddings(score(number).embeddings, "score", NETWORK.hash, among="score", **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """`scorefind serve` in a process of its own; its log lies in a file."""

    process: "subprocess.Popen[str]"
    address: Address
    log: Path
    page: str
    """URL of the page; empty without `--http-port`."""

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self) -> int:
        """Waits for it."""
        return self.process.wait(30)


@contextmanager
def serving_process(collection: Path, *arguments: object) -> Iterator[Process]:
    """`scorefind serve` with these arguments, the token TOKEN and the stand-in for the network.

    It listens on a free port, unless the arguments name a Unix socket. It is killed at the end if it still runs.
    """
    token, log = collection.parent / "token", collection.parent / f"{collection.name}.log"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    place = [] if "--unix" in arguments else ["--port", 0]
    options: list[object] = [*place, "--token-file", token, "--threads", 1, "--workers", 1, *arguments]
    command = [sys.executable, "-c", _MAIN, "serve", str(collection), *map(str, options)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "TMPDIR": str(collection.parent)}
    with (
        log.open("a") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            printed = [process.stdout.readline() for _ in range(2 if "--http-port" in arguments else 1)]
            found = re.search(r"(?:the page is at (\S+)\n)?serving .* on (\S+)\n$", "".join(printed))
            assert found, f"expected addresses, got {printed!r}; {log.read_text()}"
            page, address = found.groups("")
            yield Process(process=process, address=Address.parse(address), log=log, page=page)
        finally:
            process.kill()
