"""The model of a large cluster adds up what was measured of small ones."""

from typing import Any

import pytest

from bench.lib import cluster_model


def row(snippets: int, shards: str, slowest_ms: float, merge_ms: float, **others: float) -> dict[str, Any]:
    times = {"p50_ms": 100.0, "cpu_ms": 100.0, "slowest_ms": slowest_ms, "merge_ms": merge_ms} | others
    return {"snippets": snippets, "shards": shards, "form": "A2S", "trips": 3, "round_trip_ms": 2.0, **times}


def test_shards_are_interpolated_and_merging_grows_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_model, "SNIPPETS", 64 * 10**6)  # 64 shards of 1e6
    sizes = [
        row(400_000, "1", 50.0, 0.0),
        row(400_000, "4", 10.0, 4.0),
        row(40_000_000, "4", 30.0, 8.0),
        row(400_000, "16", 5.0, 10.0),
        row(100_000, "shard-000 of 4 alone", 10.0, 0.0),
    ]
    (found,) = cluster_model.rows(sizes)
    assert found["slowest_ms"] == pytest.approx(20.0)  # 1e6 lies halfway between shards of 1e5 and of 1e7
    assert found["merge_ms"] == pytest.approx(8.0 + 60 * 0.5)
    assert found["latency_ms"] == pytest.approx(20.0 + 38.0 + 3 * 2.5)
    assert found["machines_q/s"] == pytest.approx(128_000 / (64 * 20.0))
    assert found["measured to"] == 10**7


def test_time_without_a_processor_does_not_count() -> None:
    sizes = [row(400_000, "4", 10.0, 4.0, cpu_ms=50.0)]
    (found,) = cluster_model.rows(sizes)
    assert found["slowest_ms"] == pytest.approx(5.0)
    assert found["merge_ms"] == pytest.approx(2.0 + 60 * 2.0 / 4)


def test_bytes_are_those_of_the_documentation() -> None:
    told = cluster_model.bytes_told()
    assert told["disk a machine, GB"] == pytest.approx(17.6, abs=0.1)
    assert told["memory of the front for documents, GB"] == pytest.approx(0.5)
