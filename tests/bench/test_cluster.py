"""bench.cluster tells how long shards take, and whether they answer as one collection."""

import json
from pathlib import Path

import pytest

from bench import cluster
from engine.finder import Engine
from fake_encoder import engine_of
from sharded_collection import NetworkEncoder, write


@pytest.fixture
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "load", lambda **_: engine_of(NetworkEncoder()))
    monkeypatch.setattr(cluster.Encoder, "load", lambda **_: NetworkEncoder())
    monkeypatch.setattr(cluster, "_round_trip_ms", lambda: 2.0)
    monkeypatch.setattr(cluster, "COMPARED_QUERIES", 12)


@pytest.mark.usefixtures("_engine")
def test_each_size_and_number_of_shards_is_timed(tmp_path: Path) -> None:
    write(tmp_path / "real")
    cluster.main(
        f"--source {tmp_path}/real --work {tmp_path}/work --json {tmp_path}/out.json".split()
        + "--sizes 3000 --shards 1 3 --queries 3".split()
    )
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["shards"], row["form"]) for row in rows] == [(n, form) for n in (1, 3) for form, _, _ in cluster.FORMS]
    assert all(row["same_first"] == 1.0 and row["p50_ms"] > 0 for row in rows)
    for row in rows[4:]:
        assert row["model_ms"] == pytest.approx(row["slowest_ms"] + row["merge_ms"] + 2.0 * row["trips"])
        assert row["trips"] == 3


@pytest.mark.usefixtures("_engine")
def test_answers_that_differ_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "real")
    arguments = ["--identical", "--source", str(tmp_path / "real"), "--work", str(tmp_path), "--json"]
    cluster.main([*arguments, str(tmp_path / "same.json")])
    rows = json.loads((tmp_path / "same.json").read_text())["rows"]
    assert [row["shards"] for row in rows] == [1, 2, 4, 7]
    assert all(row[f"{method} differ"] == 0 for row in rows for method in cluster.COMPARED)
    told, turns = cluster._told, iter(range(10**6))
    monkeypatch.setattr(cluster, "_told", lambda *given: told(*given) + str(next(turns)))
    cluster.main([*arguments, str(tmp_path / "other.json")])
    rows = json.loads((tmp_path / "other.json").read_text())["rows"]
    assert sum(rows[0][f"{method} differ"] for method in cluster.COMPARED) == 12
