"""One connection after the other, well behaved or not, against a server that listens."""

import asyncio
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from running_server import NETWORK, Gate, Raw, Running, ask, asking, codes, fill, open_files, ping, running, score
from server.address import Address
from server.config import Limits
from server.errors import DeadlineExceeded, FrameTooLarge, Overloaded, RequestError, TooMany
from server.frames import HEADER, Message, encode
from server.messages import array
from server.metrics import memory_bytes

MIB = 1 << 20


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores s0 to s3; only read."""
    return fill(tmp_path_factory.mktemp("session") / "c", 0, 1, 2, 3)


def within(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test, which fails if it hangs."""
    asyncio.run(asyncio.wait_for(work, 30))


def test_requests_on_one_connection_are_answered_each_by_its_id(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            await raw.send(asking(5, 1), ping(6), asking(7, 2))
            replies = {reply["id"]: reply for reply in await raw.replies(3)}
            assert [replies[id]["ok"]["matches"][0]["id"] for id in (5, 7)] == ["s1", "s2"]
            assert replies[6]["ok"] == {}

    within(go())


def test_connections_that_send_byte_by_byte_are_cut_off_and_others_served(collection: Path) -> None:
    async def drip(raw: Raw) -> None:
        for byte in encode(asking(1)):
            await raw.send(bytes([byte]))
            await asyncio.sleep(0.02)

    async def attack(here: Running) -> list[str]:
        async with here.raw() as raw:
            dripping = asyncio.create_task(drip(raw))
            replies = await raw.replies()
            dripping.cancel()
            return codes(replies)

    async def go() -> None:
        async with running(collection, Limits(frame_s=0.3)) as here, here.client() as client:
            await client.ping()
            before = here.held()
            attacks = [asyncio.create_task(attack(here)) for _ in range(20)]
            while not all(task.done() for task in attacks):
                assert (await ask(client, 3))["matches"][0]["id"] == "s3"
            assert [task.result() for task in attacks] == [["deadline_exceeded"]] * 20
            assert await here.settled(before) == before

    within(go())


def test_announced_frames_that_never_come_do_not_keep_others_from_being_served(collection: Path) -> None:
    async def go() -> None:
        limits = Limits(frame_bytes=MIB, buffered_bytes=4 * MIB)
        async with running(collection, limits) as here, here.client() as client:
            connections = [here.raw() for _ in range(8)]
            for connection in connections:
                raw = await connection.__aenter__()
                await raw.send(HEADER.pack(MIB) + b"x")
            await here.until(sessions=8)
            large = np.tile(score(1).embeddings, (200, 1))  # half a mebibyte
            found = await client.query_embeddings(large, "score", NETWORK.hash, among="score", top=1)
            assert found["matches"][0]["id"] == "s1"
            for connection in connections:
                await connection.__aexit__(None, None, None)

    within(go())


def test_frames_that_wait_together_take_no_more_memory_than_is_allowed(collection: Path) -> None:
    async def go() -> None:
        async with running(collection, Limits(frame_bytes=MIB, buffered_bytes=MIB)) as here:
            before = here.held()
            async with here.raw() as first, here.raw() as second:
                await first.send(HEADER.pack(MIB) + bytes(900_000))
                await here.until(sessions=2)
                await asyncio.sleep(0.1)
                await second.send(HEADER.pack(MIB) + bytes(800_000))
                assert codes(await first.replies()) == ["overloaded"]
            assert await here.settled(before) == before

    within(go())


def test_a_connection_on_which_nothing_happens_is_closed_with_a_word(collection: Path) -> None:
    async def go() -> None:
        async with running(collection, Limits(idle_s=0.2)) as here, here.raw() as raw:
            await raw.send(ping(1))
            replies = await raw.replies()
            assert codes(replies) == ["ok", "deadline_exceeded"]
            assert replies[1]["error"]["message"] == "the connection was idle for 0.2 s"

    within(go())


def test_a_connection_that_waits_for_a_reply_is_not_idle(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, Limits(idle_s=0.1), backend=gate.backend) as here, here.raw() as raw:
            gate.shut()
            await raw.send(asking(1))
            await asyncio.sleep(0.4)
            gate.open()
            assert codes(await raw.replies(1)) == ["ok"]

    within(go())


def test_a_client_that_takes_no_replies_is_cut_off(collection: Path, tmp_path: Path) -> None:
    async def go() -> None:
        address = Address(unix=tmp_path / "s")
        async with running(collection, Limits(frame_s=0.3), address=address) as here:
            before = here.held()
            async with here.raw() as raw:
                await here.until(sessions=1)
                raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
                sending = asyncio.create_task(raw.send(*[ping(id) for id in range(5_000)]))
                await here.until(sessions=0)
                await sending
            assert await here.settled(before) == before

    within(go())


def test_a_client_that_leaves_its_last_replies_untaken_is_cut_off_too(collection: Path, tmp_path: Path) -> None:
    """So few that the server needs not wait to write them, but does to close."""

    async def go() -> None:
        address = Address(unix=tmp_path / "s")
        async with running(collection, Limits(frame_s=0.3), address=address) as here:
            before = here.held()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(address.unix))
                for start in range(0, 800, 20):
                    client.send(b"".join(encode(ping(id)) for id in range(start, start + 20)))
                    await asyncio.sleep(0.002)
                client.shutdown(socket.SHUT_WR)
                await here.until(sessions=0)
            assert await here.settled(before) == before

    within(go())


def test_one_connection_more_than_are_taken_is_told_so(collection: Path) -> None:
    async def go() -> None:
        async with running(collection, Limits(connections=2)) as here:
            async with here.client() as one, here.client() as two:
                await asyncio.gather(one.ping(), two.ping())
                async with here.raw() as raw:
                    assert codes(await raw.replies()) == ["too_many"]
                async with here.client() as three:
                    with pytest.raises(TooMany, match="no more connections"):
                        await three.ping()
                assert (await ask(one))["matches"]
            await here.until(sessions=0)
            async with here.client() as again:
                await again.ping()

    within(go())


def test_requests_beyond_what_a_client_may_have_in_flight_are_refused_alone(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        limits = Limits(requests_per_client=4)
        async with running(collection, limits, backend=gate.backend) as here, here.raw() as raw:
            gate.shut()
            await raw.send(*[asking(id) for id in range(6)])
            refused = await raw.replies(2)
            gate.open()
            answered = await raw.replies(4)
            assert {reply["id"] for reply in refused} == {4, 5}
            assert codes([*refused, *answered]) == ["too_many"] * 2 + ["ok"] * 4

    within(go())


def test_a_client_that_closes_its_sending_side_has_left(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, backend=gate.backend) as here:
            before = here.held()
            gate.shut()
            async with here.raw() as raw:
                await raw.send(asking(1), asking(2))
                await here.until(in_flight=2)
                raw.writer.write_eof()
                assert await raw.replies() == []
                await here.until(in_flight=0, sessions=0)
            gate.open()
            assert await here.settled(before) == before

    within(go())


def test_what_a_client_that_is_gone_had_asked_for_is_not_worked_on(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, backend=gate.backend) as here, here.client() as other:
            await other.ping()
            before = here.held()
            gate.shut()
            first = asyncio.create_task(ask(other))
            await here.until(in_flight=1)
            async with here.raw() as raw:
                await raw.send(*[asking(id) for id in range(10)])
                await here.until(in_flight=11)
            await here.until(in_flight=1)
            last = asyncio.create_task(ask(other, 2))
            await here.until(in_flight=2)
            gate.open()
            assert [found["matches"][0]["id"] for found in await asyncio.gather(first, last)] == ["s0", "s2"]
            assert gate.aligned == 2
            assert await here.settled(before) == before

    within(go())


def test_a_query_whose_deadline_passes_is_told_so_and_its_place_is_free(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, backend=gate.backend) as here, here.client() as client:
            gate.shut()
            with pytest.raises(DeadlineExceeded, match=r"query: not done within 0\.1 s"):
                await ask(client, deadline_s=0.1)
            await here.until(in_flight=0)
            gate.open()
            assert (await ask(client, 1))["matches"][0]["id"] == "s1"

    within(go())


def test_a_client_cannot_have_a_later_deadline_than_the_server_allows(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, Limits(deadline_s=0.2), backend=gate.backend) as here, here.client() as client:
            gate.shut()
            with pytest.raises(DeadlineExceeded, match=r"query: not done within 0\.2 s"):
                await ask(client, deadline_s=20.0)
            gate.open()

    within(go())


def test_a_client_that_sends_and_does_not_receive_is_read_no_further(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        limits = Limits(requests_per_client=4)
        async with running(collection, limits, backend=gate.backend) as here, here.raw() as raw:
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            gate.shut()
            await raw.send(*[asking(id) for id in range(3)])
            await here.until(in_flight=3)
            (session,) = here.server._sessions
            async with session._writing:  # replies wait
                await raw.send(*[ping(id) for id in range(100)])
                most = 0
                for _ in range(20):
                    await asyncio.sleep(0.01)
                    most = max(most, len(session._requests))
                assert most == 2 * limits.requests_per_client + 1
            gate.open()
            raw.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len(await raw.replies(103)) == 103

    within(go())


def test_queries_beyond_the_queue_are_refused_at_once_and_those_in_it_answered(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, Limits(queue=2), backend=gate.backend) as here, here.client() as client:
            gate.shut()
            accepted = [asyncio.create_task(ask(client, number)) for number in (1, 2)]
            await here.until(in_flight=2)
            for _ in range(20):
                with pytest.raises(Overloaded, match="2 queries are being worked on"):
                    await ask(client)
            await client.ping()
            gate.open()
            assert [found["matches"][0]["id"] for found in await asyncio.gather(*accepted)] == ["s1", "s2"]

    within(go())


def test_a_frame_too_large_is_refused_with_a_word_though_the_client_still_sends(collection: Path) -> None:
    async def go() -> None:
        async with running(collection, Limits(frame_bytes=1000)) as here:
            for _ in range(20):
                async with here.client() as client:
                    with pytest.raises(FrameTooLarge, match="expected a frame of at most 1000 bytes, got one of"):
                        await client.query([("a.wav", bytes(8 * MIB))])

    within(go())


def test_what_one_client_sends_at_a_time_does_not_keep_all_others_waiting(collection: Path) -> None:
    """A frame of the default size would hold a million snippets, or hours of a stream, which grow in memory."""

    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            stream = await client.stream(2000)
            with pytest.raises(RequestError, match=r"samples: expected at most 240000 \(120 s\), got 240001"):
                await stream.push(np.zeros(240_001, np.int16))
            await stream.push(np.zeros(240_000, np.int16))
            with pytest.raises(RequestError, match="embeddings: expected at most 10000 rows, got 10001"):
                await client.query_embeddings(np.eye(1, 32, dtype=np.float32).repeat(10_001, 0), "score", NETWORK.hash)

    within(go())


def test_every_request_is_answered_whatever_its_fields_hold(collection: Path) -> None:
    odd: list[Any] = [None, True, -1, 0, 1 << 63, -0.0, 1e308, float("nan"), "", "score", "\0", "x" * 2000, b"", b"x"]
    shapes: list[Any] = [[0], [1 << 63, 0], [0, 32], [-1, 32], [[]], [1.5], [1 << 32, 1 << 32], [True]]
    odd += [[], {}, [[]], {"a": 1}, *shapes]
    odd += [{"dtype": dtype, "shape": shape, "data": b""} for dtype in ("<f4", "<i2", "|O", "x") for shape in shapes]
    push = {"op": "stream.push", "stream": 1, "samples": array(np.zeros(100, np.float32))}
    requests: list[Message] = [
        asking(0),
        {"op": "query", "media": [{"name": "a.png", "data": b"no page"}], "start_s": 1.0, "end_s": 2.0},
        {"op": "add", "document": "d", "title": "t", "media": [{"name": "a.png", "data": b"no page"}], "token": "x"},
        {"op": "remove", "documents": ["d"], "token": "x"},
        {"op": "stream.open", "rate": 8000, "top": 1, "method": "refine"},
        push,
    ]

    async def go() -> None:
        async with running(collection, Limits(wrong_token_s=0.0)) as here, here.client() as client, here.raw() as raw:
            await raw.send({"v": 1, "id": "s", "op": "stream.open", "rate": 22050})
            await raw.replies(1)
            for request in requests:
                for field in request:
                    for value in odd:
                        message = {"v": 1, "op": "ping", "deadline_s": 5.0, **request, "id": "odd", field: value}
                        await raw.send(message, {"v": 1, "id": "end", "op": "ping", field: None} | ping(1))
                        assert len(await raw.replies(2)) == 2, (field, value)
            await client.ping()

    within(go())


def mutated(rng: np.random.Generator) -> bytes:
    """A frame that has been cut, lengthened, or changed in places; or nothing but noise."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.bytes(int(rng.integers(1, 200)))
    frame = bytearray(encode(asking(1) if rng.integers(2) else ping(1)))
    if kind == 1:
        del frame[int(rng.integers(len(frame))) :]
    for _ in range(rng.integers(1, 8)):
        if frame:
            frame[int(rng.integers(min(len(frame), 100)))] = int(rng.integers(256))
    return bytes(frame) + (rng.bytes(3) if kind == 3 else b"")


def test_three_thousand_mutated_frames_leave_the_server_as_it_was(
    collection: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)

    async def attack(here: Running) -> None:
        for _ in range(150):
            async with here.raw() as raw:
                for _ in range(5):
                    await raw.send(mutated(rng))
                if rng.integers(2):
                    raw.writer.write_eof()
                    await raw.replies()

    async def go() -> None:
        limits = Limits(frame_bytes=MIB, buffered_bytes=16 * MIB, frame_s=1.0)
        async with running(collection, limits) as here, here.client() as client:
            await ask(client)
            before, files, memory = here.held(), open_files(), memory_bytes()
            attacks = [asyncio.create_task(attack(here)) for _ in range(4)]
            while not all(task.done() for task in attacks):
                assert (await ask(client, 3))["matches"][0]["id"] == "s3"
            await asyncio.gather(*attacks)
            assert await here.settled(before) == before
            assert open_files() < files + 4  # fewer than one for each attacker: decoders come and go
            assert memory_bytes() < memory + 32 * MIB

    within(go())
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
