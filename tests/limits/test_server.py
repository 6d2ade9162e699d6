"""How much clients may ask of the server, as shipped: each limit is reached, and then passed by one."""

import asyncio
import resource
import shutil
import threading
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collection_samples import embeddings
from engine.collection import CollectionWriter, opening
from engine.config import MediaLimits
from engine.values import Embeddings
from fake_encoder import FakeEncoder, engine_of
from media import write_recording
from running_server import (
    TOKEN,
    Gate,
    Running,
    asking,
    codes,
    decoder_processes,
    fill,
    ping,
    running,
)
from server import decoding, messages
from server.address import Address
from server.config import ServerSettings
from server.decoding import Decoders, Drawing, Reading
from server.errors import AddressError, FrameError, FrameTooLarge, MediaRefused, RequestError
from server.frames import HEADER, MAX_DEPTH, MAX_VALUES, Decoder, Message, encode
from server.messages import array
from server.sent import File
from server.server import serving

MIB = 1 << 20


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores s0 to s3; only read."""
    return fill(tmp_path_factory.mktemp("limits") / "c", 0, 1, 2, 3)


def within(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test, which fails if it hangs."""
    asyncio.run(asyncio.wait_for(work, 60))


# --- frames -----------------------------------------------------------------------------------------------------------


def test_a_message_of_64_mib_is_taken_and_a_larger_one_refused_by_its_header(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here:
            async with here.raw() as raw:
                await raw.send(HEADER.pack(64 * MIB + 1))
                (reply,) = await raw.replies()
                assert reply["error"] == {
                    "code": "frame_too_large",
                    "message": f"expected a frame of at most {64 * MIB} bytes, got one of {64 * MIB + 1}",
                }
            async with here.raw() as raw:
                await raw.send(HEADER.pack(64 * MIB) + b"and so on")
                raw.writer.write_eof()
                assert await raw.replies() == []

    within(go())


def test_messages_of_all_clients_share_512_mib(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.raw() as raw, here.raw() as other:
            frame = encode(ping(1))
            here.server._memory.requests.take(512 * MIB - len(frame))  # what others are sending
            await raw.send(frame)
            assert codes(await raw.replies(1)) == ["ok"]
            await here.until(budget=len(frame))
            await other.send(frame + b"\0")
            assert codes(await other.replies()) == ["overloaded"]

    within(go())


def fed(message: Message) -> Message:
    (found,) = Decoder(64 * MIB).feed(encode(message))
    return found


def test_a_message_has_65_536_values() -> None:
    """The map, its key and the list are three of them."""
    most = {"list": [0] * 65_533}
    assert fed(most) == most
    with pytest.raises(FrameError, match="too many values"):
        fed({"list": [0] * 65_534})
    assert MAX_VALUES == 65_536


def nested(depth: int) -> Message:
    """A message that is large enough to be looked at value by value, with lists so deep in it."""
    value: list[Any] = []
    for _ in range(depth - 2):
        value = [value]
    return {"a": value, "more": bytes(MAX_VALUES)}


def test_a_large_message_is_nested_16_deep() -> None:
    assert MAX_DEPTH == 16
    assert fed(nested(17)) == nested(17)  # the map itself lies at depth 0
    with pytest.raises(FrameError, match="nested more than 16 deep"):
        fed(nested(18))


@pytest.mark.parametrize("size", [10, MAX_VALUES, 4 * MAX_VALUES])
@pytest.mark.parametrize("trailing", [b"\0", b"\xc0", b"\x80", b"\xc1", encode(ping(2))])
def test_bytes_after_the_message_in_its_frame_are_refused_however_long_it_is(size: int, trailing: bytes) -> None:
    payload = encode({"more": bytes(size)})[HEADER.size :]
    assert fed({"more": bytes(size)}) == {"more": bytes(size)}
    with pytest.raises(FrameError, match="expected a msgpack map"):
        list(Decoder(MIB).feed(HEADER.pack(len(payload + trailing)) + payload + trailing))


def test_a_decoder_counts_the_bytes_of_a_message_without_those_of_its_header() -> None:
    frame = encode(ping(1))
    size = len(frame) - HEADER.size
    assert list(Decoder(size).feed(frame)) == [ping(1)]
    with pytest.raises(FrameTooLarge):
        list(Decoder(size - 1).feed(frame))


# --- clients and queues -----------------------------------------------------------------------------------------------


def test_256_connections_are_served_and_no_more(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, AsyncExitStack() as connected:
            raws = [await connected.enter_async_context(here.raw()) for _ in range(256)]
            await here.until(sessions=256)
            await raws[-1].send(ping(1))
            assert codes(await raws[-1].replies(1)) == ["ok"]
            async with here.raw() as raw:
                assert codes(await raw.replies()) == ["too_many"]

    within(go())


def test_a_client_has_32_requests_in_flight_and_all_clients_64_queries(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, backend=gate.backend) as here, AsyncExitStack() as connected:
            first, second, third = [await connected.enter_async_context(here.raw()) for _ in range(3)]
            gate.shut()
            await first.send(*[asking(id) for id in range(33)])
            (refused,) = await first.replies(1)
            assert (refused["id"], refused["error"]["code"]) == (32, "too_many")
            assert refused["error"]["message"] == "32 requests are in flight, the maximum for a client"
            await second.send(*[asking(id) for id in range(32)])
            await here.until(in_flight=64)
            await third.send(asking(0))
            (refused,) = await third.replies(1)
            assert refused["error"]["message"] == "64 queries are being worked on, the maximum; try again later"
            gate.open()
            assert codes(await first.replies(32)) == codes(await second.replies(32)) == ["ok"] * 32

    within(go())


def removal(id: int) -> Message:
    return {"v": 1, "id": id, "op": "remove", "documents": ["none"], "token": TOKEN}


def test_all_clients_have_32_changes_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    class SlowWriter(CollectionWriter):
        def commit(self) -> int:
            go_on.wait(20)
            return super().commit()

    monkeypatch.setattr(opening, "CollectionWriter", SlowWriter)

    async def go() -> None:
        async with running(fill(tmp_path / "c", 0)) as here, here.raw() as raw, here.raw() as other:
            await raw.send(*[removal(id) for id in range(32)])
            await here.until(in_flight=32)
            await other.send(removal(0))
            (refused,) = await other.replies(1)
            assert refused["error"]["message"] == "32 changes are being worked on, the maximum; try again later"
            go_on.set()
            assert codes(await raw.replies(32)) == ["not_found"] * 32

    within(go())


def test_a_client_has_four_streams(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            await raw.send(*[{"v": 1, "id": id, "op": "stream.open", "rate": 8000} for id in range(5)])
            assert codes(await raw.replies(5)) == ["ok"] * 4 + ["too_many"]

    within(go())


def test_a_client_that_sends_and_takes_no_replies_is_not_read_from_without_bound(
    collection: Path, tmp_path: Path
) -> None:
    """Its replies are as long as its requests. What is sent lies in the buffers of two sockets, or in the server."""
    frame = encode(ping(1) | {"id": "x" * 1000})

    async def go() -> None:
        async with running(collection, address=Address(unix=tmp_path / "s")) as here, here.raw() as raw:
            await here.until(sessions=1)
            (session,) = here.server._sessions
            raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
            taken, most, quiet = 0, 0, 0
            while quiet < 20:  # it takes nothing for a fifth of a second
                if raw.writer.transport.get_write_buffer_size() == 0:
                    raw.writer.write(frame)
                    taken, quiet = taken + len(frame), 0
                    assert taken < 32 * MIB
                else:
                    quiet += 1
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0)
                most = max(most, len(session._requests))
            assert 32 < most <= 65
            buffered = session._writer.transport.get_write_buffer_size()
            assert buffered < 1 << 18

    within(go())


# --- batches and workers ----------------------------------------------------------------------------------------------


def test_16_queries_are_answered_together_and_two_processes_read_media(collection: Path) -> None:
    batches: list[int] = []

    class NotedGate(Gate):
        def _align_many(self, queries: Sequence[Embeddings], *others: Any) -> Any:
            batches.append(len(queries))
            return super()._align_many(queries, *others)

    gate = NotedGate()

    async def go() -> None:
        async with serving(collection, engine_of(FakeEncoder(), gate.backend), ServerSettings()) as server:
            here = Running(server=server, address=await server.listen(Address(port=0)))
            assert len(set(decoder_processes(server._service._decoders))) == 2
            async with here.raw() as raw:
                gate.shut()
                batches.clear()
                await raw.send(asking(0))
                while not batches:
                    await asyncio.sleep(0.001)
                await raw.send(*[asking(id) for id in range(1, 18)])
                await here.until(in_flight=18)
                gate.open()
                await raw.replies(18)
        assert batches == [1, 16, 1]

    within(go())


# --- media ------------------------------------------------------------------------------------------------------------


def test_media_of_queries_and_of_additions_are_read_within_their_own_limits(
    collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[Reading | Drawing] = []

    async def decode(self: Decoders, media: object, work: Reading | Drawing, client: object) -> None:
        readings.append(work)
        raise MediaRefused("noted")

    monkeypatch.setattr(Decoders, "decode", decode)
    media = [("a.wav", b"")]

    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            page = [{"name": "a.png", "data": b""}]
            for work in (client.query(media), client.add("a", media), client.request("draw", media=page, page=1)):
                with pytest.raises(MediaRefused):
                    await work

    within(go())
    query, add, drawing = readings
    assert (drawing.timeout_s, drawing.limits) == (query.timeout_s, query.limits)
    assert (query.timeout_s, query.limits) == (20.0, MediaLimits(seconds=1800.0, pages=40, pixels=100_000_000))
    assert (add.timeout_s, add.limits) == (600.0, MediaLimits(seconds=7200.0, pages=1000, pixels=300_000_000))


def test_a_decoder_may_take_two_gib_more_than_it_has_and_leaves_no_core_file(collection: Path, tmp_path: Path) -> None:
    take = write_recording(tmp_path / "a.flac", 1, seconds=5)

    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            await client.query(take)
            (process,) = decoder_processes(here.server._service._decoders)
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[0])
            room = resource.prlimit(process, resource.RLIMIT_AS)[0] - pages * resource.getpagesize()
            assert 1.5 * 1024 < room / MIB < 2.1 * 1024
            assert resource.prlimit(process, resource.RLIMIT_CORE) == (0, 0)

    within(go())


def test_what_clients_send_lies_in_a_folder_that_no_other_user_may_enter(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, modes = write_recording(tmp_path / "a.flac", 1, seconds=5), []

    def noted(media: Any, folder: Path) -> Path:
        modes.extend(one.stat().st_mode & 0o777 for one in (folder, folder.parent))
        return written(media, folder)

    written = decoding._written
    monkeypatch.setattr(decoding, "_written", noted)

    async def go() -> None:
        async with running(collection) as here, here.client() as client:
            await client.query(take)
            shutil.rmtree(here.server._service._decoders._scratch.path)  # as a cleaner of temporary files does
            await client.query(take)

    within(go())
    assert modes == [0o700] * 4


# --- fields -----------------------------------------------------------------------------------------------------------


def parse(op: str, **fields: Any) -> messages.Body:
    return messages.parse({"v": 1, "id": 1, "op": op} | fields).body


AUDIO = [{"name": "a.wav", "data": b""}]
ROWS = np.broadcast_to(embeddings(1), (10_001, 32))


@pytest.mark.parametrize(
    ("op", "fields", "beyond"),
    [
        ("query", {"media": AUDIO, "top": 1000}, {"top": 1001}),
        ("query", {"media": AUDIO, "top": 1}, {"top": 0}),
        ("remove", {"documents": ["a"] * 10_000}, {"documents": ["a"] * 10_001}),
        ("add", {"media": AUDIO, "document": "é" * 1000}, {"document": "é" * 1001}),
        ("add", {"media": AUDIO, "document": "a", "title": "t" * 1000}, {"title": "t" * 1001}),
        ("stream.open", {"rate": 768_000}, {"rate": 768_001}),
        (
            "query",
            {"embeddings": array(ROWS[:10_000]), "kind": "score", "network": ""},
            {"embeddings": array(ROWS)},
        ),
        ("ping", {"deadline_s": 0.0}, {"deadline_s": -1e-9}),
    ],
    ids=["top", "no top", "ids", "id", "title", "rate", "embeddings", "deadline"],
)
def test_a_field_may_hold_so_much(op: str, fields: dict[str, Any], beyond: dict[str, Any]) -> None:
    parse(op, **fields)
    with pytest.raises(RequestError, match=next(iter(beyond))):
        parse(op, **(fields | beyond))


@pytest.mark.parametrize("length", [0.0, 0.98, 0.989, 1.011, 1.02, 2.0, np.nan, np.inf])
def test_an_embedding_that_is_not_of_unit_length_is_refused_though_all_others_are(length: float) -> None:
    rows = embeddings(1000)
    rows[-1] *= np.float32(length)
    with pytest.raises(RequestError, match="embeddings: expected rows of length 1"):
        parse("query", embeddings=array(rows), kind="score", network="")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_embeddings_that_were_rounded_are_of_unit_length(dtype: type[np.floating[Any]]) -> None:
    rows = embeddings(1000)
    rows[0] *= np.float32(0.991)
    rows[1] *= np.float32(1.009)
    query = parse("query", embeddings=array(rows.astype(dtype)), kind="score", network="")
    assert isinstance(query, messages.QueryRequest)
    assert isinstance(query.asked, messages.Embedded)
    np.testing.assert_allclose(query.asked.embeddings, rows, atol=1e-3)


@pytest.mark.parametrize(("name", "suffix"), [("a.abcdefg8", ".abcdefg8"), ("a.abcdefgh9", "")])
def test_a_suffix_has_eight_letters_at_most(name: str, suffix: str) -> None:
    assert File(name=name, data=b"").suffix == suffix


def test_the_server_listens_at_port_7700_of_this_machine() -> None:
    assert (Address().host, Address().port, Address.parse("music.example").port) == ("127.0.0.1", 7700, 7700)


def test_ports_go_to_65535() -> None:
    assert [Address.parse(f"music.example:{port}").port for port in (0, 65535)] == [0, 65535]
    for port in (-1, 65536):
        with pytest.raises(AddressError, match=f"expected a port from 0 to 65535, got {port}"):
            Address(port=port)
