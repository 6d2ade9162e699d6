"""Mixed traffic for a server: queries and changes, and clients that are slow, broken, or gone."""

import asyncio
import itertools
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.lib import load
from bench.lib.load import AUDIO, EMBEDDINGS, PAGE, ClientQuery, Examples, Served
from engine.audio import SAMPLE_RATE
from server import frames, messages
from server.client import AsyncClient
from server.errors import ServerError
from server.messages import Embedded
from server.sent import Media

PUSHES = 12
CLOSED, GONE = "closed", "gone"
"""Outcomes without a reply: the server closed the connection; the client did not wait."""

Act = Callable[[], Awaitable[str | None]]
"""Does one thing and returns the outcome, None for `ok`. Raises ServerError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A client that does one thing again and again."""

    pause_s: float
    """Mean pause between two acts in seconds, at pace 1."""
    expected: frozenset[str]
    """Outcomes that are correct for this actor."""
    act: Act


class Traffic:
    """The actors at work on one server. `outcomes` counts the outcomes of their acts."""

    def __init__(self, server: Served, token: str, asked: Examples) -> None:
        self.pace = 1.0
        """Factor of all pauses."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._server = server
        self._token = token
        self._asked = {sort: itertools.cycle(examples) for sort, examples in asked.items()}
        self._rng = np.random.default_rng(0)
        self._added = itertools.count()
        self._clients = itertools.cycle([self._new_client() for _ in range(3)])
        self.actors = {
            AUDIO: _actor(1.0, self._query(AUDIO)),
            PAGE: _actor(4.0, self._query(PAGE)),
            EMBEDDINGS: _actor(0.15, self._query(EMBEDDINGS)),
            "info": _actor(2.0, lambda: self._next_client().info(list=True)),
            "metrics": _actor(5.0, self._metrics),
            "stream": _actor(5.0, self._stream),
            "stream left": _actor(10.0, self._leave_stream, GONE),
            "add, remove": _actor(15.0, self._change),
            "reload": _actor(10.0, lambda: self._next_client().reload()),
            "no token": _actor(10.0, self._change_without_token, "unauthorised"),
            "no media": _actor(5.0, self._send_noise, "media"),
            "no request": _actor(5.0, lambda: self._next_client().request("query", kind="what"), "bad_request"),
            "no time": _actor(5.0, self._hurry, "deadline_exceeded"),
            "no frame": _actor(2.0, self._break_frame, "bad_frame", "frame_too_large", CLOSED),
            "bad text": _actor(20.0, self._send_bad_text, "bad_frame"),
            "stalls": _actor(5.0, self._stall, GONE),
            "wrong token": _actor(10.0, self._guess, "unauthorised"),
            "playlist": _actor(10.0, self._send_playlist, "media"),
            "too much work": _actor(10.0, self._ask_for_too_much, "bad_request"),
            "greedy": _actor(20.0, self._flood),
            "vanishes": _actor(3.0, self._vanish, GONE),
            "slow": _actor(5.0, self._dawdle),
        }

    async def run(self) -> None:
        """Runs all actors until it is cancelled, and leaves no connection."""
        try:
            await asyncio.gather(*(self._work(name, actor) for name, actor in self.actors.items()))
        finally:
            await asyncio.gather(*(self._next_client().close() for _ in range(3)))

    async def _work(self, name: str, actor: Actor) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not task.cancelling():  # an actor that clears up may meet an error, which takes the cancellation's place
            await asyncio.sleep(self._rng.exponential(actor.pause_s) * self.pace)
            try:
                result = await actor.act()
                outcome = result if isinstance(result, str) else "ok"
            except ServerError as exc:
                outcome = exc.code
            except OSError as exc:
                outcome = type(exc).__name__
            self.outcomes[name, outcome] += 1

    def _new_client(self) -> AsyncClient:
        return AsyncClient(self._server.address, token=self._token)

    def _next_client(self) -> AsyncClient:
        return next(self._clients)

    def _query(self, sort: str) -> Callable[[], Awaitable[dict[str, Any]]]:
        return lambda: load.send(self._next_client(), next(self._asked[sort]))

    async def _metrics(self) -> None:
        for page in ("metrics", "healthz"):
            await asyncio.to_thread(_get, f"{self._server.monitor}/{page}")

    async def _stream(self) -> None:
        stream = await self._next_client().stream(SAMPLE_RATE)
        try:
            for part in np.array_split(load.tones(self._rng, 0.5 * PUSHES), PUSHES):
                await stream.push(part)
        finally:
            await stream.close()

    async def _leave_stream(self) -> str:
        async with self._new_client() as client:
            stream = await client.stream(SAMPLE_RATE)
            await stream.push(load.tones(self._rng, 6.0), answer=False)
        return GONE

    async def _change(self) -> None:
        number = next(self._added)
        media = next(self._asked[PAGE if number % 2 else AUDIO])
        assert isinstance(media, Media)
        async with self._new_client() as client:
            source = [(file.name, file.data) for file in media.files]
            for _ in range(2):  # adding the same documents again changes nothing
                await client.add(f"added{number}", source, kind=media.kind, title="Added")
            await load.send(client, media)
            await client.remove(f"added{number}")

    async def _change_without_token(self) -> None:
        async with AsyncClient(self._server.address) as client:
            await client.remove("added0")

    async def _send_noise(self) -> None:
        name = self._rng.choice(["noise.flac", "noise.png", "noise.pdf", "noise.mp3"])
        await self._next_client().query([(str(name), self._rng.bytes(20_000))])

    async def _hurry(self) -> None:
        media = next(self._asked[AUDIO])
        assert isinstance(media, Media)
        await self._next_client().query([(file.name, file.data) for file in media.files], deadline_s=0.001)

    async def _break_frame(self) -> str:
        """Sends random bytes, a header with too large a size, a frame of nonsense, or a frame that ends too soon."""
        noise = self._rng.bytes(200)
        broken = [noise, b"\xff" * 4 + noise, b"\0\0\0\xc8" + noise, b"\0\0\1\0" + noise]
        async with self._connection() as (reader, writer):
            writer.write(broken[int(self._rng.integers(len(broken)))])
            writer.write_eof()
            return await _reply(reader)

    async def _send_bad_text(self) -> str:
        """Sends a frame of 16 MiB of text that is none."""
        size = 16 << 20
        async with self._connection() as (reader, writer):
            text = b"\x81\xa1a\xdb" + size.to_bytes(4, "big") + b"\xff" * size
            writer.write(frames.HEADER.pack(len(text)) + text)
            return await _reply(reader)

    async def _stall(self) -> str:
        """Sends all of a large frame but its end, and waits."""
        size = 8 << 20
        async with self._connection() as (_, writer):
            writer.write(frames.HEADER.pack(size) + bytes(size - 1))
            await asyncio.sleep(10.0)
        return GONE

    async def _guess(self) -> None:
        async with AsyncClient(self._server.address, token="guess") as client:
            await client.remove("added0")

    async def _send_playlist(self) -> None:
        playlist = b"#EXTM3U\n#EXTINF:9,\n/etc/hostname\n#EXT-X-ENDLIST\n"
        await self._next_client().query([("list.mp3", playlist)])

    async def _ask_for_too_much(self) -> None:
        asked = next(self._asked[EMBEDDINGS])
        assert isinstance(asked, Embedded)
        rows = np.resize(asked.embeddings, (10_000, asked.embeddings.shape[1]))
        await self._next_client().query_embeddings(rows, asked.kind, asked.network, top=1000)

    async def _flood(self) -> None:
        """Has 31 queries in flight."""
        async with self._new_client() as client:
            await asyncio.gather(*(load.send(client, next(self._asked[EMBEDDINGS])) for _ in range(31)))

    async def _vanish(self) -> str:
        """Closes the connection in the middle of a frame, or before the reply."""
        frame = _frame(next(self._asked[AUDIO]))
        async with self._connection() as (_, writer):
            writer.write(frame[: len(frame) // int(self._rng.integers(1, 3))])
            await asyncio.sleep(self._rng.uniform(0.0, 0.1))
            writer.transport.abort()
        return GONE

    async def _dawdle(self) -> str:
        """Sends a frame and reads the reply piece by piece."""
        frame = _frame(next(self._asked[EMBEDDINGS]))
        async with self._connection() as (reader, writer):
            for at in range(0, len(frame), 400):
                writer.write(frame[at : at + 400])
                await asyncio.sleep(0.2)
            return await _reply(reader, pause_s=0.05)

    @asynccontextmanager
    async def _connection(self) -> Any:
        address = self._server.address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def _actor(pause_s: float, act: Callable[[], Awaitable[Any]], *expected: str) -> Actor:
    return Actor(pause_s=pause_s, expected=frozenset(expected or ["ok"]), act=act)


def _frame(asked: ClientQuery) -> bytes:
    """The bytes of a query as a frame."""
    fields: dict[str, Any] = {"kind": asked.kind}
    if isinstance(asked, Embedded):
        fields |= {"network": asked.network, "embeddings": messages.array(asked.embeddings)}
    else:
        fields["media"] = [{"name": file.name, "data": file.data} for file in asked.files]
    return frames.encode({"v": messages.VERSION, "id": 1, "op": "query", **fields})


async def _reply(reader: asyncio.StreamReader, pause_s: float = 0.0) -> str:
    """The outcome of the next reply: `ok`, the code of an error, or CLOSED."""
    decoder = frames.Decoder(1 << 24)
    while data := await reader.read(4096):
        for message in decoder.feed(data):
            return "ok" if "ok" in message else str(message["error"]["code"])
        await asyncio.sleep(pause_s)
    return CLOSED


def _get(url: str) -> None:
    with urllib.request.urlopen(url, timeout=10.0) as reply:
        reply.read()
