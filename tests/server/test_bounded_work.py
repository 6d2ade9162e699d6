"""Work that is asked for is bounded, ends when nobody waits for it, and its replies take bounded memory."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import alignment
from engine.alignment import Backend
from running_server import Gate, ask, asking, codes, fill, running
from server.config import Limits
from server.errors import DeadlineExceeded, RequestError


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores s0 to s29; only read."""
    return fill(tmp_path_factory.mktemp("work") / "c", *range(30))


def within(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test, which fails if it hangs."""
    asyncio.run(asyncio.wait_for(work, 60))


class SlowPaths:
    """An alignment that takes a tenth of a second for each path, and counts the paths."""

    def __init__(self) -> None:
        self.traced = 0
        self._backend = alignment.choose("cpu", threads=1)

    @property
    def backend(self) -> Backend:
        return replace(self._backend, path=self._path)

    def _path(self, *arguments: Any) -> Any:
        self.traced += 1
        time.sleep(0.1)
        return self._backend.path(*arguments)


def test_matches_are_located_no_longer_than_somebody_waits(collection: Path) -> None:
    async def go() -> None:
        paths = SlowPaths()
        async with running(collection, backend=paths.backend) as here, here.client() as client:
            with pytest.raises(DeadlineExceeded):
                await ask(client, 0, top=30, deadline_s=0.5)
            assert (await ask(client, 1, top=1))["matches"][0]["id"] == "s1"
            assert paths.traced < 15
            paths.traced = 0
            async with here.raw() as raw:
                await raw.send(asking(1) | {"top": 30})
                while not paths.traced:
                    await asyncio.sleep(0.01)
            await ask(client, 1, top=1)
            assert paths.traced < 15

    within(go())


def test_the_snippets_of_a_query_times_its_top_are_bounded(collection: Path) -> None:
    async def go() -> None:
        async with running(collection, Limits(located=100)) as here, here.client() as client:
            assert len((await ask(client, top=5))["matches"]) == 5
            with pytest.raises(RequestError, match="top: expected at most 5 for a query of 20 snippets, got 6"):
                await ask(client, top=6)
            good, bad = await asyncio.gather(ask(client, 2, top=1), ask(client, top=6), return_exceptions=True)
            assert isinstance(good, dict)
            assert isinstance(bad, RequestError)

    within(go())


def test_the_longest_query_may_have_ten_matches_by_default() -> None:
    assert Limits().located == 100_000


def test_a_reply_that_is_too_large_is_refused(collection: Path) -> None:
    async def go() -> None:
        async with running(collection, Limits(client_reply_bytes=4000)) as here, here.client() as client:
            with pytest.raises(RequestError, match=r"the reply would take \d+ bytes, more than the 4000 allowed"):
                await ask(client, top=30)
            assert (await ask(client, top=1))["matches"]

    within(go())


def test_replies_that_are_not_received_take_bounded_memory(collection: Path) -> None:
    async def go() -> None:
        limits = Limits(reply_bytes=20_000, client_reply_bytes=20_000)
        async with running(collection, limits) as here, here.raw() as raw:
            await here.until(sessions=1)
            (session,) = here.server._sessions
            async with session._writing:  # replies wait
                await raw.send(*[asking(id) | {"top": 20} for id in range(12)])
                while len(session._requests) < 12 or here.held().in_flight:
                    await asyncio.sleep(0.01)
            answered = codes(await raw.replies(12))
            assert 0 < answered.count("ok") < 12
            assert answered.count("ok") + answered.count("overloaded") == 12
            assert here.server._memory.replies._left == 20_000

    within(go())


def test_documents_are_listed_in_pages(collection: Path) -> None:
    async def go() -> None:
        async with running(collection, Limits(listed=12)) as here, here.client() as client:
            first = await client.request("info", list=True)
            assert list(first["ids"]) == sorted(f"s{number}" for number in range(30))[:12]
            assert first["next"] == list(first["ids"])[-1]
            listed = await client.info(list=True)
            assert list(listed["ids"]) == sorted(f"s{number}" for number in range(30))
            assert listed["next"] is None
            assert "ids" not in await client.info()

    within(go())


def test_info_is_admitted_like_a_query(collection: Path) -> None:
    async def go() -> None:
        gate = Gate()
        async with running(collection, Limits(queue=1), backend=gate.backend) as here, here.raw() as raw:
            gate.shut()
            await raw.send(asking(1))
            await here.until(in_flight=1)
            await raw.send({"v": 1, "id": 2, "op": "info"})
            assert codes(await raw.replies(1)) == ["overloaded"]
            gate.open()

    within(go())
