"""Servers for tests, in this process or in one of their own, of collections of random snippets."""

import asyncio
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from collection_samples import document, embeddings
from engine.collection import CollectionWriter
from engine.config import SearchSettings
from engine.documents import Encoder
from engine.values import SCORE_PLACE, Sequence
from fake_encoder import FakeEncoder
from server.address import Address
from server.client import AsyncClient
from server.config import Limits, ServerSettings
from server.server import Server, serving

TOKEN = "open sesame"
NETWORK = FakeEncoder.identity
SNIPPETS = 20
"""Of each document."""

ROOT = Path(__file__).parent.parent
_MAIN = """
import sys, scorefind
from fake_encoder import fake_loader
scorefind.encoder_loader = fake_loader
sys.exit(scorefind.main())
"""


def score(number: int) -> Sequence:
    """The snippets of score `number`, in one system."""
    places = np.zeros(SNIPPETS, SCORE_PLACE)
    places["system"] = places["end_system"] = 1
    return Sequence(embeddings=embeddings(SNIPPETS, number), places=places, bias=np.zeros(SNIPPETS, np.float32))


def fill(path: Path, *numbers: int) -> Path:
    """Adds scores of these numbers, `s0` and so on, to the collection at `path` and commits; returns `path`."""
    with CollectionWriter(path, NETWORK) as writer:
        for number in numbers:
            writer.stage(document(f"s{number}", fingerprint=str(number)), score(number))
        writer.commit()
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a server has in use."""

    sessions: int
    in_flight: int
    budget: int
    """Bytes that are left of it."""
    tasks: int
    """Of the event loop, those of the test and its clients too."""
    files: int
    """Open in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server in this process that listens."""

    server: Server
    address: Address

    def client(self, **options: Any) -> AsyncClient:
        """One that has the token."""
        return AsyncClient(self.address, **{"token": TOKEN} | options)

    def held(self) -> Held:
        return Held(
            sessions=len(self.server._sessions),
            in_flight=self.server._service._in_flight,
            budget=self.server._budget._left,
            tasks=len(asyncio.all_tasks()),
            files=len(os.listdir("/proc/self/fd")),
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


@asynccontextmanager
async def running(
    collection: Path,
    limits: Limits | None = None,
    *,
    address: Address | None = None,
    encoder: Encoder | None = None,
    workers: int = 1,
    batch: int = 16,
    token: str = TOKEN,
    open_reads: bool = True,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Running]:
    """A server in this process, by default on a free port, with the token TOKEN and the stand-in for the network."""
    settings = ServerSettings(workers=workers, batch=batch, limits=limits or Limits())
    search = SearchSettings(threads=1)
    async with serving(
        collection, encoder or FakeEncoder(), settings, search, token=token, open_reads=open_reads
    ) as server:
        yield Running(server=server, address=await server.listen(address or Address(port=0), tls))


async def ask(client: AsyncClient, number: int = 0, **options: Any) -> dict[str, Any]:
    """The answer to score `number` asked for among scores."""
    return await client.query_embeddings(score(number).embeddings, "score", NETWORK.hash, among="score", **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """`scorefind serve` in a process of its own; its log lies in a file."""

    process: "subprocess.Popen[str]"
    address: Address
    log: Path

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self) -> int:
        """Waits for it."""
        return self.process.wait(30)


def serve(collection: Path, *arguments: object) -> "subprocess.Popen[str]":
    """`scorefind serve` of the collection with these arguments and the stand-in for the network."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", _MAIN, "serve", str(collection), "--threads", "1", "--workers", "1"]
    with (collection.parent / f"{collection.name}.log").open("a") as log:
        return subprocess.Popen(
            command + [str(argument) for argument in arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": paths},
        )


@contextmanager
def serving_process(collection: Path, *arguments: object) -> Iterator[Process]:
    """`serve` that listens, with the token TOKEN, by default on a free port; killed at the end if it still runs."""
    token = collection.parent / "token"
    token.write_text(f"{TOKEN}\n")
    process = serve(collection, "--port", 0, "--token-file", token, *arguments)
    log = collection.parent / f"{collection.name}.log"
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r" on (\S+)$", line.strip())
        assert found, f"expected an address, got {line!r}; {log.read_text()}"
        yield Process(process=process, address=Address.parse(found.group(1)), log=log)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
