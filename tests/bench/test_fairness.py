"""The share of polite clients is their rate beside a greedy one, as a part of that beside a polite one."""

import asyncio
from pathlib import Path

import pytest

from bench import fairness
from bench.lib import load, random_collection
from bench.lib.load import EMBEDDINGS, Load, Sample
from fake_encoder import FakeEncoder, engine_of
from server.address import Address
from server.config import ServerSettings
from server.server import serving


def test_the_share_is_that_of_the_rates() -> None:
    samples = tuple(Sample(sent_s=0.0, took_s=0.1, outcome="ok") for _ in range(10))
    loads = {1: [Load(samples=samples, seconds=1.0)], 31: [Load(samples=samples, seconds=2.0)] * 2}
    alone, beside = fairness.rows_of(loads)
    assert (alone["answered a second"], alone["share"]) == (10.0, 1.0)
    assert (beside["answered a second"], beside["share"]) == (5.0, 0.5)
    assert beside["p99 ms"] == pytest.approx(100.0)


def test_polite_and_greedy_clients_are_all_answered(tmp_path: Path) -> None:
    path = random_collection.made(tmp_path / "collection", FakeEncoder.identity, 2000)
    asked = load.material([], tmp_path, path, FakeEncoder.identity)[EMBEDDINGS]

    async def go() -> None:
        async with serving(path, engine_of(FakeEncoder()), ServerSettings(workers=1)) as server:
            address = await server.listen(Address(port=0))
            rows = await asyncio.wait_for(fairness.measure(address, asked, 0.1, 1), 50)
            assert all(row["answered a second"] > 0 for row in rows)

    asyncio.run(go())
