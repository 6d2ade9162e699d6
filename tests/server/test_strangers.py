"""What clients may do before they have shown a token, and what keeps any client from shutting out the others."""

import asyncio
import logging
import os
import resource
import ssl
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from running_server import NETWORK, TOKEN, Raw, ask, asking, codes, fill, ping, running, score, serving_process
from server.access import tls_context
from server.client import AsyncClient
from server.config import Limits
from server.door import Door, Guest
from server.errors import ServerError, TooMany
from server.frames import HEADER, Message

MIB = 1 << 20
SECRET = "XYZZY"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores s0 to s3; only read."""
    return fill(tmp_path_factory.mktemp("strangers") / "c", 0, 1, 2, 3)


def within(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test, which fails if it hangs."""
    asyncio.run(asyncio.wait_for(work, 30))


# --- what is told of a bad message ------------------------------------------------------------------------------------


def test_a_frame_of_bad_text_is_refused_in_a_few_words(collection: Path, caplog: pytest.LogCaptureFixture) -> None:
    payload = b"\x81\xa1a\xdb" + (5 * MIB).to_bytes(4, "big") + b"\xff" * 5 * MIB
    caplog.set_level(logging.DEBUG)

    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            await raw.send(HEADER.pack(len(payload)) + payload)
            (reply,) = await raw.replies()
            assert reply["error"]["code"] == "bad_frame"
            assert len(reply["error"]["message"]) < 200

    within(go())
    assert len(caplog.text) < 20_000


def bad_messages() -> list[Message]:
    """Requests that are refused, each with the secret somewhere."""
    long = "x" * 100 + SECRET
    media = [{"name": "a.wav", "data": SECRET.encode()}]
    query = {"op": "query", "media": media}
    return [
        {"op": "ping", "token": [SECRET]},
        {"op": "ping", "token": SECRET.encode()},
        {"op": "ping", "token": f"{SECRET}\0"},
        {"op": "ping", "token": SECRET * 1000},
        {"op": "ping", long: 1},
        {"op": {SECRET: 1}},
        {"op": long},
        {"op": "query", "media": {"data": SECRET}},
        query | {"top": media},
        query | {"kind": long},
        query | {"media": [media, SECRET]},
        query | {"media": [{"name": long, "data": b""}]},
        query | {"deadline_s": SECRET.encode()},
        {"op": "remove", "token": TOKEN, "documents": [media]},
        {"op": "remove", "token": TOKEN, "documents": [long]},
        {"op": "stream.push", "stream": 1, "samples": {"dtype": "<f4", "shape": [SECRET], "data": SECRET.encode()}},
    ]


def test_no_error_and_no_log_holds_a_token_or_content(collection: Path, caplog: pytest.LogCaptureFixture) -> None:
    messages = bad_messages()
    caplog.set_level(logging.DEBUG)

    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            await raw.send(*[{"v": 1, "id": 1} | message for message in messages])
            replies = await raw.replies(len(messages))
            assert "ok" not in codes(replies)
            assert SECRET not in str(replies)
            assert max(len(reply["error"]["message"]) for reply in replies) < 500

    within(go())
    assert SECRET not in caplog.text


def test_an_id_that_is_too_long_is_not_repeated(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            await raw.send(ping(1) | {"id": "x" * 1000}, ping(1) | {"id": "x" * 1001})
            replies = {reply["id"]: reply for reply in await raw.replies(2)}
            assert codes([replies["x" * 1000], replies[None]]) == ["ok", "bad_request"]

    within(go())


def test_a_list_that_is_nested_deep_is_a_bad_request(collection: Path) -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]

    async def go() -> None:
        async with running(collection) as here, here.raw() as raw:
            await raw.send(ping(1) | {"deadline_s": deep}, ping(2))
            assert sorted(codes(await raw.replies(2))) == ["bad_request", "ok"]

    within(go())


# --- before the token -------------------------------------------------------------------------------------------------

LARGE = np.tile(score(1).embeddings, (50, 1))  # 128 kB


def test_a_message_is_small_until_the_token_is_shown(collection: Path) -> None:
    async def go() -> None:
        async with running(collection, open_reads=False) as here:
            async with here.raw() as raw:
                await raw.send(HEADER.pack((64 << 10) + 1))
                assert codes(await raw.replies()) == ["frame_too_large"]
            async with here.raw() as raw:
                await raw.send(ping(1) | {"token": "wrong"}, HEADER.pack((64 << 10) + 1))
                assert codes(await raw.replies())[-1] == "frame_too_large"
            async with here.raw() as raw:  # sent at once: the token counts before the next header is read
                await raw.send(ping(1) | {"token": TOKEN}, HEADER.pack(32 * MIB), b"x")
                assert codes(await raw.replies(1)) == ["ok"]
                await here.until(sessions=1)
            async with here.client() as client:
                assert (await client.query_embeddings(LARGE, "score", NETWORK.hash, among="score"))["matches"]

    within(go())


def test_a_server_that_needs_no_token_takes_large_messages_at_once(collection: Path) -> None:
    async def go() -> None:
        async with running(collection) as here, here.client(token="") as client:
            assert (await client.query_embeddings(LARGE, "score", NETWORK.hash, among="score"))["matches"]

    within(go())


def test_the_token_must_be_shown_in_time(collection: Path) -> None:
    async def go() -> None:
        limits = Limits(stranger_s=3, wrong_token_s=0.0)
        async with running(collection, limits, open_reads=False) as here:
            async with here.raw() as raw:
                await raw.send(*[ping(number) for number in range(3)])
                replies = await raw.replies(3)
                assert codes(replies) == ["ok"] * 3
                while codes(replies[-1:]) == ["ok"]:  # for ever, if each message gave more time
                    await asyncio.sleep(0.05)
                    await raw.send(ping(1))
                    replies = await raw.replies(1)
                assert replies[-1]["error"]["code"] == "deadline_exceeded"
                assert replies[-1]["error"]["message"] == "expected the token within 3 s"
            async with here.raw() as raw:
                await raw.send(ping(1) | {"token": TOKEN})
                await asyncio.sleep(3.5)
                await raw.send(ping(2))
                assert codes(await raw.replies(2)) == ["ok", "ok"]

    within(go())


def test_strangers_that_send_nothing_lock_nobody_out(collection: Path) -> None:
    async def go() -> None:
        limits = Limits(strangers=3)
        async with running(collection, limits, open_reads=False) as here, AsyncExitStack() as opened:
            known = await opened.enter_async_context(here.client())
            await known.ping()
            raws = [await opened.enter_async_context(here.raw()) for _ in range(8)]
            await here.until(sessions=4)  # the known one, and three strangers
            assert codes(await raws[0].replies()) == ["too_many"]
            async with here.client() as newcomer:
                assert (await ask(newcomer, 2))["matches"][0]["id"] == "s2"
            assert (await ask(known, 1))["matches"][0]["id"] == "s1"

    within(go())


def test_unfinished_frames_of_strangers_lock_nobody_out(collection: Path) -> None:
    async def go() -> None:
        limits = Limits(stranger_bytes=100_000)
        async with running(collection, limits, open_reads=False) as here, AsyncExitStack() as opened:
            raws = [await opened.enter_async_context(here.raw()) for _ in range(4)]
            for raw in raws:
                await raw.send(HEADER.pack(60_000) + bytes(50_000))
            async with here.client() as client:
                assert (await ask(client, 2))["matches"][0]["id"] == "s2"

    within(go())


@pytest.fixture(scope="module")
def tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return tls_context(*certificate)


def test_handshakes_count_as_connections(collection: Path, certificate: tuple[Path, Path], tls: ssl.SSLContext) -> None:
    async def go() -> None:
        started = running(collection, Limits(strangers=3), open_reads=False, tls=tls)
        async with started as here, AsyncExitStack() as opened:
            raws = [await opened.enter_async_context(here.raw()) for _ in range(8)]
            assert await raws[0].replies() == []  # ended for a later one, long before its time is over
            assert len(here.server._door) <= 3
            trusting = ssl.create_default_context(cafile=str(certificate[0]))
            async with here.client(tls=trusting) as client:
                assert (await ask(client, 2))["matches"][0]["id"] == "s2"

    within(go())


# --- nobody locks out the others --------------------------------------------------------------------------------------


def test_large_frames_that_stop_on_their_way_lock_nobody_out(collection: Path) -> None:
    async def go() -> None:
        limits = Limits(frame_bytes=MIB, buffered_bytes=4 * MIB)
        async with running(collection, limits) as here, AsyncExitStack() as opened:
            before = here.held()
            raws = [await opened.enter_async_context(here.raw()) for _ in range(8)]
            for raw in raws:
                await raw.send(HEADER.pack(MIB) + bytes(MIB - 1))
            async with here.client() as client:
                found = await client.query_embeddings(LARGE, "score", NETWORK.hash, among="score", top=1)
                assert found["matches"][0]["id"] == "s1"
            told = [asyncio.create_task(raw.replies()) for raw in raws]
            done, _ = await asyncio.wait(told, return_when=asyncio.FIRST_COMPLETED)
            assert all(codes(task.result()) in ([], ["overloaded"]) for task in done)  # a reset may lose the word
            for task in told:
                task.cancel()
            await asyncio.gather(*told, return_exceptions=True)
            await opened.aclose()
            assert (await here.settled(before)).budget == before.budget

    within(go())


def test_the_connection_that_is_idle_the_longest_makes_room_for_a_newcomer(collection: Path) -> None:
    async def go() -> None:
        limits = Limits(connections=3, spare_s=0.0)
        async with running(collection, limits) as here, AsyncExitStack() as opened:
            raws = [await opened.enter_async_context(here.raw()) for _ in range(3)]
            for raw in (raws[1], raws[0], raws[2]):
                await raw.send(ping(1))
                assert codes(await raw.replies(1)) == ["ok"]
            async with here.client() as newcomer:
                await newcomer.ping()
                (reply,) = await raws[1].replies()
                assert "idle the longest" in reply["error"]["message"]
                await raws[0].send(asking(2))
                assert codes(await raws[0].replies(1)) == ["ok"]

    within(go())


def guest(host: str, since: float, ended: list[str], **fields: Any) -> Guest:
    def evict(error: ServerError) -> None:
        ended.append(f"{host} {since:g}")

    return Guest(host=host, name=host, since=since, evict=evict, **fields)


def test_of_strangers_the_host_that_has_most_of_them_makes_room() -> None:
    door, ended = Door(Limits(strangers=4)), list[str]()
    for host, since in (("a", 1.0), ("b", 2.0), ("b", 3.0), ("b", 4.0), ("b", 5.0), ("c", 6.0)):
        door.enter(guest(host, since, ended))
    assert ended == ["b 2", "b 3"]
    assert len(door) == 4


def test_who_works_or_was_active_just_now_makes_no_room() -> None:
    door, ended = Door(Limits(connections=2, spare_s=5.0)), list[str]()
    known: dict[str, Any] = {"stranger": False}
    door.enter(guest("a", 0.0, ended, busy=True, **known))
    door.enter(guest("b", 6.0, ended, **known))
    with pytest.raises(TooMany):
        door.enter(guest("c", 10.0, ended, **known))
    door.enter(guest("c", 11.0, ended, **known))
    assert ended == ["b 6"]


async def settled_files(pid: int) -> set[int]:
    """The numbers of a process's open files, once they have stayed the same for two seconds: its decoders are made."""
    seen: list[set[int]] = []
    while len(seen) < 5 or any(used != seen[-1] for used in seen[-5:]):
        seen.append({int(number) for number in os.listdir(f"/proc/{pid}/fd")})
        await asyncio.sleep(0.5)
    return seen[-1]


def test_connections_are_accepted_again_after_files_ran_out(collection: Path) -> None:
    async def go(pid: int, address: str, log: Path) -> None:
        free = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = await settled_files(pid)
        none_left = min(set(range(len(used) + 1)) - used)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (none_left, free[1]))
        async with AsyncClient(address, deadline_s=20.0) as client:
            waiting = asyncio.create_task(client.ping())
            while "Too many open files" not in log.read_text():
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            assert not waiting.done()
            resource.prlimit(pid, resource.RLIMIT_NOFILE, free)
            await waiting

    with serving_process(collection) as process:
        within(go(process.process.pid, str(process.address), process.log))
        assert process.log.read_text().count("Too many open files") == 1


def test_a_wrong_token_is_answered_late_and_counted(collection: Path) -> None:
    async def asked(raw: Raw, *tokens: str) -> list[str]:
        await raw.send(*[{"v": 1, "id": 1, "op": "reload", "token": token} for token in tokens])
        return codes(await raw.replies(len(tokens)))

    async def go() -> None:
        async with running(collection, Limits(wrong_token_s=3600)) as here, here.raw() as raw:  # no reply comes late
            assert await asked(raw, TOKEN) == ["ok"]
            assert await asked(raw, "") == ["unauthorised"]
        async with running(collection, Limits(wrong_token_s=0.2)) as here, here.raw() as raw, here.client() as client:
            began = time.monotonic()
            assert await asked(raw, "a", "b", "c") == ["unauthorised"] * 3
            assert time.monotonic() - began >= 0.6
            assert (await client.stats())["wrong_tokens"] == 3

    within(go())
