"""How long the server and its clients wait, as shipped: a moment before the end of each time, and at its end."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.collection import CollectionWriter, opening
from running_server import TOKEN, Gate, Raw, Running, asking, codes, fill, ping, running
from server.address import Address
from server.client import AsyncClient
from server.config import Limits
from server.errors import ConnectionLost, DeadlineExceeded, FrameTooLarge
from server.frames import HEADER, Decoder, Message, encode
from still_clock import StillClock, run, still_clock


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores s0 to s3; only read."""
    return fill(tmp_path_factory.mktemp("times") / "c", 0, 1, 2, 3)


async def told(raw: Raw, clock: StillClock, count: int = 1) -> list[Message]:
    """The next replies, which need no time."""
    found: list[Message] = []
    decoder = Decoder(1 << 20)

    async def receive() -> None:
        while len(found) < count and (data := await raw.reader.read(1 << 16)):
            found.extend(decoder.feed(data))

    receiving = asyncio.create_task(receive())
    await clock.until(receiving.done)
    return found


def message_of(reply: Message) -> str:
    return str(reply["error"]["message"])


@asynccontextmanager
async def shut(collection: Path, limits: Limits | None = None) -> AsyncIterator[tuple[Running, Gate]]:
    """A server that answers no query, and its gate."""
    gate = Gate()
    async with running(collection, limits, backend=gate.backend) as here:
        gate.shut()
        try:
            yield here, gate
        finally:
            gate.open()


@pytest.mark.parametrize("named", [None, 30.0, 31.0, 1e6], ids=str)
def test_a_query_gets_30_seconds_though_it_asks_for_more(collection: Path, named: float | None) -> None:
    async def go() -> None:
        async with shut(collection) as (here, _), here.raw() as raw:
            with still_clock() as clock:
                await raw.send(asking(1) | {"deadline_s": named})
                await clock.until(lambda: here.held().in_flight == 1)
                await clock.advance(29.99)
                assert here.held().in_flight == 1
                await clock.advance(0.01)
                assert here.held().in_flight == 0
                (reply,) = await told(raw, clock)
                assert message_of(reply) == "query: not done within 30 s"

    run(go())


def test_a_query_gets_no_more_than_it_asks_for(collection: Path) -> None:
    async def go() -> None:
        async with shut(collection) as (here, _), here.raw() as raw:
            with still_clock() as clock:
                await raw.send(asking(1) | {"deadline_s": 7.0})
                await clock.until(lambda: here.held().in_flight == 1)
                await clock.advance(6.99)
                assert here.held().in_flight == 1
                await clock.advance(0.01)
                assert message_of((await told(raw, clock))[0]) == "query: not done within 7 s"

    run(go())


def test_a_deadline_beyond_that_of_the_servers_settings_is_cut_too(collection: Path) -> None:
    async def go() -> None:
        async with shut(collection, Limits(deadline_s=3.0)) as (here, _), here.raw() as raw:
            with still_clock() as clock:
                await raw.send(asking(1) | {"deadline_s": 30.0})
                await clock.until(lambda: here.held().in_flight == 1)
                await clock.advance(3.0)
                assert message_of((await told(raw, clock))[0]) == "query: not done within 3 s"

    run(go())


@pytest.mark.parametrize("named", [None, 1e6], ids=str)
def test_a_change_gets_ten_minutes_though_it_asks_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: float | None
) -> None:
    go_on = threading.Event()

    class SlowWriter(CollectionWriter):
        def commit(self) -> int:
            go_on.wait(20)
            return super().commit()

    monkeypatch.setattr(opening, "CollectionWriter", SlowWriter)
    removal = {"v": 1, "id": 1, "op": "remove", "documents": ["s0"], "token": TOKEN, "deadline_s": named}

    async def go() -> None:
        async with running(fill(tmp_path / "c", 0)) as here, here.raw() as raw:
            with still_clock() as clock:
                await raw.send(removal)
                await clock.until(lambda: here.held().in_flight == 1)
                await clock.advance(599.99)
                assert here.held().in_flight == 1
                await clock.advance(0.01)
                assert message_of((await told(raw, clock))[0]) == "remove: not done within 600 s"
                go_on.set()

    run(go())


def test_a_frame_gets_30_seconds_from_its_first_byte(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            with still_clock() as clock:
                await raw.send(HEADER.pack(100))
                await clock.until(lambda: here.held().budget == (512 << 20) - 4)
                await clock.advance(29.99)
                await raw.send(b"another byte is no new beginning")
                await clock.until(lambda: here.held().budget == (512 << 20) - 36)
                await clock.advance(0.01)
                (reply,) = await told(raw, clock)
                assert message_of(reply) == "expected a whole frame within 30 s of its first byte"

    run(go())


def test_a_connection_may_be_idle_for_ten_minutes(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            with still_clock() as clock:
                await raw.send(ping(1))
                assert codes(await told(raw, clock)) == ["ok"]
                await clock.advance(599.99)
                await raw.send(ping(2))
                assert codes(await told(raw, clock)) == ["ok"]
                await clock.advance(599.99)
                assert here.held().sessions == 1
                await clock.advance(0.01)
                (reply,) = await told(raw, clock)
                assert message_of(reply) == "the connection was idle for 600 s"

    run(go())


def test_a_client_gets_30_seconds_to_take_a_reply(collection: Path, tmp_path: Path) -> None:
    async def go() -> None:
        async with running(collection, address=Address(unix=tmp_path / "s")) as here, here.raw() as raw:
            with still_clock() as clock:
                await clock.until(lambda: here.held().sessions == 1)
                raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
                (session,) = here.server._sessions
                sending = asyncio.create_task(raw.send(*[ping(1) | {"id": "x" * 1000}] * 5000))
                await clock.until(lambda: session._writer.transport.get_write_buffer_size() > 1 << 16)
                await clock.advance(29.99)
                assert here.held().sessions == 1
                await clock.advance(0.01)
                await clock.until(lambda: here.held().sessions == 0)
            await sending

    run(go())


def test_what_is_not_done_30_seconds_after_the_server_was_to_stop_is_cut_off(collection: Path) -> None:
    async def go() -> None:
        async with shut(collection, Limits(deadline_s=1000.0)) as (here, gate), here.raw() as raw:
            with still_clock() as clock:
                await raw.send(asking(1))
                await clock.until(lambda: here.held().in_flight == 1)
                stopping = asyncio.create_task(here.server.stop())
                await clock.advance(0)
                await clock.advance(29.99)
                assert here.held().sessions == 1
                await clock.advance(0.01)
                await clock.until(lambda: here.held().sessions == 0)
                assert not stopping.done()  # the batch that runs is waited for
                gate.open()
            await stopping

    run(go())


def test_a_client_that_is_cut_off_gets_a_second_to_take_the_last_message(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            with still_clock() as clock:
                await raw.send(b"\0\0\0\1\xc1")
                assert codes(await told(raw, clock)) == ["bad_frame"]
                await clock.advance(0.99)
                assert here.held().sessions == 1
                await clock.advance(0.01)
                await clock.until(lambda: here.held().sessions == 0)

    run(go())


# --- clients ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[Address, list[Message]]]:
    """A server that takes requests and answers none; the requests."""
    asked: list[Message] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = Decoder(1 << 20)
        while data := await reader.read(1 << 16):
            asked.extend(decoder.feed(data))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        yield Address(port=server.sockets[0].getsockname()[1]), asked


@pytest.mark.parametrize(
    ("op", "seconds"), [("ping", 30), ("query", 30), ("add", 600), ("remove", 600), ("reload", 600)]
)
def test_a_client_waits_a_second_longer_than_it_gives_the_server(op: str, seconds: int) -> None:
    media = [("a.wav", b"")]

    async def go() -> None:
        async with silent_server() as (address, asked), AsyncClient(address) as client:
            works: dict[str, Any] = {
                "ping": client.ping,
                "query": lambda: client.query(media),
                "add": lambda: client.add("a", media),
                "remove": lambda: client.remove("a"),
                "reload": client.reload,
            }
            with still_clock() as clock:
                working = asyncio.create_task(works[op]())
                await clock.until(lambda: len(asked) == 1)
                assert asked[0]["deadline_s"] == seconds
                await clock.advance(seconds + 0.99)
                assert not working.done()
                await clock.advance(0.01)
                await clock.until(working.done)
                with pytest.raises(DeadlineExceeded, match=f"{op}: no reply from {address} within {seconds} s"):
                    await working

    run(go())


def test_a_client_tries_six_times_within_some_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def paused(seconds: float) -> None:
        pauses.append(seconds)

    async def go() -> None:
        async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as server:
            address = Address(port=server.sockets[0].getsockname()[1])
        monkeypatch.setattr("server.client.asyncio.sleep", paused)
        monkeypatch.setattr("server.client.random.uniform", lambda low, high: high if (low, high) == (0.5, 1.5) else 0)
        async with AsyncClient(address) as client:
            with pytest.raises(ConnectionLost, match=f"no server at {address}"):
                await client.ping()

    run(go())
    assert pauses == pytest.approx([0.15, 0.3, 0.6, 1.2, 2.4])


def test_a_client_takes_a_reply_of_a_gibibyte_and_refuses_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, int]] = []

    class Noted(Decoder):
        def __init__(self, limit: int, **options: int) -> None:
            made.append({"limit": limit, **options})
            super().__init__(limit, **options)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(encode({"v": 1, "id": 0}) + HEADER.pack((1 << 30) + 1))
        await reader.read()
        writer.close()

    monkeypatch.setattr("server.connection.Decoder", Noted)

    async def go() -> None:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            client = AsyncClient(Address(port=server.sockets[0].getsockname()[1]))
            with pytest.raises(FrameTooLarge, match=f"expected a frame of at most {1 << 30} bytes"):
                await client.ping()
            await client.close()

    run(go())
    assert made == [{"limit": 1 << 30, "max_values": 1 << 24}]
