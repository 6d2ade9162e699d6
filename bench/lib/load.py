"""A server in its own process, example queries, and clients that send them, for measurements of the server."""

import asyncio
import io
import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from bench.lib import pieces
from bench.lib.pieces import Piece
from bench.lib.random_collection import unit_rows
from engine.audio import SAMPLE_RATE
from engine.collection import Collection
from engine.values import Embeddings, NetworkIdentity
from server.address import Address
from server.client import AsyncClient
from server.errors import ServerError
from server.messages import Embedded
from server.sent import File, Media

START_S = 180.0
"""Seconds after which a server that has not started is killed."""
STOP_S = 60.0
LENGTH_S = 20.0
SNIPPETS = 32
EXAMPLES = 8
"""Number of examples of each sort of query. They are sent in turns."""
AUDIO, PAGE, EMBEDDINGS = "20 s of audio", "one page", f"{SNIPPETS} embeddings"

ClientQuery = Media | Embedded
"""A query as its client has it."""
Examples = dict[str, tuple[ClientQuery, ...]]
"""Examples by sort of query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server."""

    address: Address
    pid: int
    monitor: str
    """Address of its metrics over HTTP; empty if it serves none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The outcome and the times of one request."""

    sent_s: float
    """When the request was sent, on the clock of `time.perf_counter`."""
    took_s: float
    outcome: str
    """`ok`, or the code of the error."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds of each stage, as the server reports them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The requests that were answered in a stretch of time."""

    samples: tuple[Sample, ...]
    seconds: float

    def took_ms(self, *outcomes: str) -> NDArray[np.float64]:
        """The latencies of the requests with these outcomes, in milliseconds."""
        return np.array([1000 * sample.took_s for sample in self.samples if sample.outcome in outcomes])

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(sample.outcome for sample in self.samples)

    @property
    def per_s(self) -> float:
        """Requests answered per second, without errors."""
        return self.outcomes["ok"] / self.seconds


def percentile(values: NDArray[np.float64], share: float) -> float | None:
    """The smallest value that this share of the values does not exceed; None if there are no values."""
    return float(np.percentile(values, 100 * share, method="inverted_cdf")) if len(values) else None


@contextmanager
def served(collection: Path, log: Path, *flags: str) -> Iterator[Served]:
    """A server of the collection on a free port, in its own process, which is stopped when the context ends.

    log: file to which the server's log is appended. flags: options of `scorefind serve`.
    Raises RuntimeError if the server does not start.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "scorefind", "serve", str(collection), "--port", "0", *flags]
    with log.open("ab") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child:
        try:
            yield _started(child, log)
        finally:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()


def _started(child: "subprocess.Popen[str]", log: Path) -> Served:
    """The server that a child process runs, as soon as it listens."""
    assert child.stdout is not None
    too_long, monitor = threading.Timer(START_S, child.kill), ""
    too_long.start()
    try:
        for line in child.stdout:
            if line.startswith("metrics "):
                monitor = line.split()[-1]
            elif line.startswith("serving "):
                return Served(address=Address.parse(line.split()[-1]), pid=child.pid, monitor=monitor)
    finally:
        too_long.cancel()
    raise RuntimeError(f"the server did not start; {log} ends: {log.read_text()[-500:]}")


# --- example queries --------------------------------------------------------------------------------------------------


def material(found: Sequence[Piece], work: Path, collection: Path, network: NetworkIdentity) -> Examples:
    """The examples of each sort of query: from the pieces, or synthesised if there are none.

    work: folder of the pieces' recordings, which are made if they do not exist.
    collection: holds the snippets that become queries.
    """
    rng = np.random.default_rng(0)
    some = [found[i] for i in rng.permutation(len(found))[:EXAMPLES]]
    if some:
        recordings = [cut_flac(pieces.recording(piece, work).path, rng) for piece in some]
        pages = [_png(Image.open(piece.pages[int(rng.integers(len(piece.pages)))])) for piece in some]
    else:
        recordings = [_flac(tones(rng, LENGTH_S)) for _ in range(EXAMPLES)]
        pages = [_png(Image.fromarray(drawn_page(rng))) for _ in range(EXAMPLES)]
    return {
        AUDIO: tuple(Media(kind="recording", files=(File(name="take.flac", data=data),)) for data in recordings),
        PAGE: tuple(Media(kind="score", files=(File(name="page.png", data=data),)) for data in pages),
        EMBEDDINGS: tuple(
            Embedded(kind="recording", network=network.hash, embeddings=part)
            for part in _snippets(collection, network, rng)
        ),
    }


def cut_flac(path: Path, rng: Generator) -> bytes:
    """The bytes of a FLAC file with `LENGTH_S` seconds of a recording, from a random place."""
    info = soundfile.info(path)
    length = int(LENGTH_S * info.samplerate)
    start = int(rng.integers(max(1, info.frames - length)))
    return _flac(soundfile.read(path, frames=length, start=start, dtype="float32")[0], info.samplerate)


def tones(rng: Generator, seconds: float) -> NDArray[np.float32]:
    """Two tones a second of random pitch, with a little noise: float32 (n,) at the engine's sampling rate."""
    time_s = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    pitches_hz = 220.0 * 2.0 ** (rng.integers(0, 24, int(2 * seconds)) / 12)
    played = [np.exp(-4 * time_s) * np.sin(2 * np.pi * pitch * time_s) for pitch in pitches_hz]
    sound = 0.4 * np.concatenate(played)
    return np.asarray(sound + 1e-3 * rng.standard_normal(len(sound)), dtype=np.float32)


def drawn_page(rng: Generator, systems: int = 5) -> NDArray[np.uint8]:
    """uint8 (h, w): systems of two staves joined by barlines, with blots for notes."""
    space, width = 12, 1200
    page = np.full((240 + systems * 300, width), 255, dtype=np.uint8)
    for top in 120 + 300 * np.arange(systems):
        for staff in (top, top + 10 * space):
            for line in range(5):
                page[staff + line * space : staff + line * space + 2, 80:1120] = 0
            for x in rng.integers(100, 1100, 24):
                y = staff + int(rng.integers(9)) * space // 2
                page[y - 5 : y + 5, x - 7 : x + 7] = 0
                page[y - 40 : y, x + 5 : x + 7] = 0
        for x in (80, 340, 600, 860, 1118):
            page[top : top + 14 * space + 2, x : x + 3] = 0
    return page


def _flac(samples: NDArray[np.float32], rate: int = SAMPLE_RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC")
    return file.getvalue()


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _snippets(path: Path, network: NetworkIdentity, rng: Generator) -> list[Embeddings]:
    """The embeddings of stretches of recordings in the collection; random ones if no recording is long enough."""
    with Collection.open(path, network) as collection:
        long = [document.id for document in collection.of_kind("recording") if document.snippets >= SNIPPETS]
        chosen = [long[i] for i in rng.permutation(len(long))[:EXAMPLES]]
        parts = []
        for whole in (collection.sequence(id).embeddings for id in chosen):
            start = int(rng.integers(len(whole) - SNIPPETS + 1))
            parts.append(whole[start : start + SNIPPETS])
    return parts or [unit_rows(rng, SNIPPETS) for _ in range(EXAMPLES)]


# --- clients that ask -------------------------------------------------------------------------------------------------


async def send(client: AsyncClient, asked: ClientQuery) -> dict[str, Any]:
    """The server's reply to a query. Raises ServerError."""
    if isinstance(asked, Embedded):
        return await client.query_embeddings(asked.embeddings, asked.kind, asked.network)
    return await client.query([(file.name, file.data) for file in asked.files], kind=asked.kind)


async def timed(client: AsyncClient, asked: ClientQuery) -> Sample:
    started, outcome, stages_ms = time.perf_counter(), "ok", {}
    try:
        stages_ms = (await send(client, asked))["timings_ms"]
    except ServerError as exc:
        outcome = exc.code
    took_s = time.perf_counter() - started
    return Sample(sent_s=started, took_s=took_s, outcome=outcome, stages_ms=stages_ms)


async def closed_loop(address: Address, examples: Sequence[ClientQuery], clients: int, seconds: float) -> Load:
    """The load of clients that each send the next query when they have the reply to the last.

    Counting starts when each client has its first reply. It lasts for `seconds`; if replies are slow, up to four times
    as long, until there are two replies for each client.
    """
    samples: list[Sample] = []
    warm = [asyncio.Event() for _ in range(clients)]

    async def ask(number: int) -> None:
        async with AsyncClient(address) as client:
            for i in itertools.count(number):
                samples.append(await timed(client, examples[i % len(examples)]))
                warm[number].set()

    asking = [asyncio.create_task(ask(number)) for number in range(clients)]
    await asyncio.gather(*(event.wait() for event in warm))
    samples.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    while len(samples) < 2 * clients and time.perf_counter() - started < 4 * seconds:
        await asyncio.sleep(0.1)
    load = Load(samples=tuple(samples), seconds=time.perf_counter() - started)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    return load


async def open_loop(
    address: Address, examples: Sequence[ClientQuery], per_s: float, seconds: float, *, connections: int = 64
) -> Load:
    """The load of requests at random times, at a fixed mean rate, whether or not earlier ones are answered.

    Waits for all replies. `seconds` of the result is the time during which requests were sent.
    """
    rng = np.random.default_rng(0)
    async with AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(AsyncClient(address)) for _ in range(connections)]
        await asyncio.gather(*(client.ping() for client in clients))
        started, due, asking = time.perf_counter(), 0.0, []
        for i in itertools.count():
            due += rng.exponential(1 / per_s)
            if due >= seconds:
                break
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
            asking.append(asyncio.create_task(timed(clients[i % connections], examples[i % len(examples)])))
        lasted_s = time.perf_counter() - started
        samples = await asyncio.gather(*asking)
    return Load(samples=tuple(samples), seconds=max(lasted_s, 1e-9))
