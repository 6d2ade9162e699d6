import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from bench import soak
from bench.lib import load, random_collection
from bench.lib.load import Served
from bench.lib.traffic import Actor, Traffic
from bench.soak import MEASURES, Look
from fake_encoder import FakeEncoder, engine_of
from server.access import Access
from server.address import Address
from server.config import ServerSettings
from server.errors import ConnectionLost
from server.server import serving


def look(minute: float, value: float) -> Look:
    return {"minute": minute, **dict.fromkeys(MEASURES, value)}


async def nothing() -> None:
    return None


def test_growth_is_told_of_what_comes_after_the_warm_up() -> None:
    looks = [look(0.1 * i, 100.0 if i < 20 else 2.0 + 0.3 * i) for i in range(100)]
    row = soak.growth_rows([*looks, look(10.0, 1.0)])[0]
    assert row["slope"] == pytest.approx(3.0)
    assert (row["first"], row["last"]) == (pytest.approx(9.05), pytest.approx(30.65))
    assert (row["least"], row["at rest"]) == (pytest.approx(8.0), 1.0)


def test_outcomes_that_were_not_expected_are_counted() -> None:
    actor = Actor(pause_s=1.0, expected=frozenset(["media"]), act=nothing)
    counted = Counter({("noise", "media"): 5, ("noise", "internal"): 2, ("other", "ok"): 1})
    (row,) = soak.outcome_rows(counted, {"noise": actor})
    assert row == {"what": "noise", "n": 7, "unexpected": 2, "outcomes": "internal 2, media 5"}


def test_warnings_are_told_apart_from_their_numbers(tmp_path: Path) -> None:
    entries = [{"level": level, "message": f"took {i} s"} for i, level in enumerate(["INFO", "WARNING", "WARNING"])]
    (tmp_path / "log").write_text("\n".join([*map(json.dumps, entries), "a decoder's own words"]))
    rows = soak.logged_rows(tmp_path / "log")
    assert rows[0] == {"level": "WARNING", "n": 2, "message": "took # s"}
    assert [row["message"] for row in rows[1:]] == ["a decoder's own words"]


def test_each_actor_meets_with_what_is_expected(tmp_path: Path) -> None:
    path = random_collection.made(tmp_path / "collection", FakeEncoder.identity, 2000)
    asked = load.material([], tmp_path, path, FakeEncoder.identity)
    cheap = ("info", "metrics", "stream left", "reload", "no token", "no request", "no frame", "vanishes")
    cheap += ("bad text", "too much work", "wrong token")

    async def act() -> Traffic:
        engine, settings = engine_of(FakeEncoder()), ServerSettings(workers=1)
        async with serving(path, engine, settings, Access(write_token="t")) as server:
            monitor = server.monitor(Address(port=0))
            address = await server.listen(Address(port=0))
            traffic = Traffic(Served(address=address, pid=os.getpid(), monitor=f"http://{monitor}"), "t", asked)
            traffic.actors = {name: traffic.actors[name] for name in cheap}
            traffic.pace = 0.01
            running = asyncio.create_task(traffic.run())
            while {name for name, _ in traffic.outcomes} < set(cheap):
                await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return traffic

    traffic = asyncio.run(asyncio.wait_for(act(), 60.0))
    assert sum(row["unexpected"] for row in soak.outcome_rows(traffic.outcomes, traffic.actors)) == 0


def test_the_measures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    soak.draw([look(0.1 * i, 1.0) for i in range(5)], tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_an_actor_that_meets_an_error_while_it_clears_up_ends_when_it_is_told_to() -> None:
    async def clear_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ConnectionLost("while a stream was closed")

    async def test() -> None:
        traffic = Traffic(Served(address=Address(port=1), pid=os.getpid(), monitor=""), "t", {})
        traffic.actors = {"clears up": Actor(pause_s=0.0, expected=frozenset(["ok"]), act=clear_up)}
        running = asyncio.create_task(traffic.run())
        await asyncio.sleep(0.05)
        running.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(test())
