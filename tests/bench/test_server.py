import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench import server
from bench.lib import load, memory, random_collection
from bench.lib.load import EMBEDDINGS, Load, Sample
from engine.embedding.documents import read
from engine.finder import Finder
from fake_encoder import FakeEncoder, engine_of
from server.address import Address
from server.config import ServerSettings
from server.sent import Media
from server.server import serving


def sample(took_s: float, outcome: str = "ok", sent_s: float = 0.0) -> Sample:
    return Sample(sent_s=sent_s, took_s=took_s, outcome=outcome, stages_ms={"total": 500 * took_s})


def found(*samples: Sample, seconds: float = 2.0) -> Load:
    return Load(samples=samples, seconds=seconds)


def test_a_percentile_is_one_of_the_values() -> None:
    values = np.arange(1.0, 101.0)
    assert [load.percentile(values, share) for share in (0.5, 0.95, 0.99)] == [50, 95, 99]
    assert load.percentile(values[:1], 0.99) == 1
    assert load.percentile(values[:0], 0.5) is None


def test_only_what_was_answered_counts_as_throughput() -> None:
    (row,) = server.load_rows({("one", 4): found(sample(0.1), sample(0.3), sample(9.0, "overloaded"))}, "off")
    assert (row["clients"], row["n"], row["a second"], row["errors"]) == (4, 2, 1.0, 1)
    assert (row["p50"], row["p99"]) == (pytest.approx(100), pytest.approx(300))


def test_the_overhead_is_the_median_of_the_paired_differences() -> None:
    pairs = [(0.010, sample(0.012)), (0.020, sample(0.021)), (0.010, sample(0.110)), (0.5, sample(0.1, "media"))]
    row = server.overhead_row(pairs)
    assert row["n"] == 3
    assert row["overhead"] == pytest.approx(2)
    assert row["%"] == pytest.approx(20)
    assert row["(total)"] == pytest.approx(10.5)
    assert server.overhead_row(pairs[3:]) == {"n": 0}


def test_the_interval_of_a_median_lies_round_it() -> None:
    low, high = server.interval(np.random.default_rng(0).normal(3.0, 1.0, 400))
    assert 2.7 < low < 3.0 < high < 3.3


def test_of_an_overload_the_share_refused_and_how_fast_is_told() -> None:
    refused = [sample(0.001 * i, "overloaded") for i in range(1, 9)]
    row = server.overload_row(found(sample(1.0)), found(sample(0.5), sample(0.1, "internal"), *refused), [5, 7, 6])
    assert (row["answered"], row["others"], row["overloaded %"]) == (1, 1, 80)
    assert (row["refused p50"], row["refused p99"]) == (pytest.approx(4), pytest.approx(8))
    assert (row["MB before"], row["most"], row["after"]) == (5, 7, 6)


def test_random_documents_have_as_many_snippets_as_asked_for_and_places_that_fit() -> None:
    made = list(random_collection.random_documents(2000, FakeEncoder.identity.front_end))
    assert sum(len(sequence) for _, sequence in made) == 2000
    assert {document.kind for document, _ in made} == {"score", "recording"}
    for document, sequence in made:
        if document.kind == "score":
            assert sequence.places["end_system"].max() == len(document.systems) == document.systems[-1].number


def test_synthesised_material_can_be_read(tmp_path: Path) -> None:
    path = random_collection.made(tmp_path / "collection", FakeEncoder.identity, 2000)
    asked = load.material([], tmp_path, path, FakeEncoder.identity)
    for sort in (load.AUDIO, load.PAGE):
        one = asked[sort][0]
        assert isinstance(one, Media)
        file = tmp_path / one.files[0].name
        file.write_bytes(one.files[0].data)
        read(file, one.kind, FakeEncoder.identity.front_end)


def test_clients_in_a_loop_and_at_random_times_get_their_replies(tmp_path: Path) -> None:
    path = random_collection.made(tmp_path / "collection", FakeEncoder.identity, 2000)
    asked = load.material([], tmp_path, path, FakeEncoder.identity)

    async def run() -> tuple[Load, Load]:
        async with serving(path, engine_of(FakeEncoder()), ServerSettings(workers=1)) as serves:
            address = await serves.listen(Address(port=0))
            closed = await load.closed_loop(address, asked[EMBEDDINGS], clients=3, seconds=0.05)
            return closed, await load.open_loop(address, asked[EMBEDDINGS], 100.0, 0.1, connections=2)

    closed, opened = asyncio.run(run())
    assert closed.outcomes["ok"] == len(closed.samples) > 0
    assert opened.outcomes["ok"] == len(opened.samples) > 0
    assert "align" in opened.samples[0].stages_ms


def test_the_engine_alone_answers_the_same_query(tmp_path: Path) -> None:
    path = random_collection.made(tmp_path / "collection", FakeEncoder.identity, 2000)
    asked = load.material([], tmp_path, path, FakeEncoder.identity)[EMBEDDINGS][0]
    with Finder(path, engine_of(FakeEncoder())) as finder:
        assert server.in_process(asked, tmp_path, finder).matches


def test_the_memory_of_a_process_is_not_that_of_those_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", "block = b'x' * 60_000_000; input()"], stdin=subprocess.PIPE) as child:
        while memory.of(child.pid).own < 55 and child.poll() is None:
            time.sleep(0.01)
        assert child.pid in set(memory.started_by(os.getpid()))
        used, row = memory.of(child.pid), server.memory_row(os.getpid(), "now")
        assert child.stdin is not None
        child.stdin.close()
    assert 55 <= used.own <= used.share <= used.resident < 100
    assert row["when"] == "now"
    assert row["workers"] >= 1
    assert row["a worker own"] > 0
