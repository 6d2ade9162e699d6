"""bench.cluster tells how long shards take, and whether they answer as one collection."""

import json
from pathlib import Path

import pytest

from bench import cluster
from bench.lib import shard_sizes
from engine.collection import open_collection
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
    sizes = "--sizes 3000 --shards 1 3 --queries 3"
    cluster.main(f"--source {tmp_path}/real {sizes} --work {tmp_path}/work --json {tmp_path}/out.json".split())
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    kinds, forms = ("1", "3", "shard-000 of 3 alone"), [form for form, _, _ in cluster.FORMS]
    assert [(row["shards"], row["form"]) for row in rows] == [(kind, form) for kind in kinds for form in forms]
    assert all(row["same_first"] == 1.0 and row["p50_ms"] > 0 for row in rows)
    assert [row["snippets"] for row in rows[:8]] == [3000] * 8
    assert rows[8]["snippets"] < 3000
    for row in rows[4:8]:
        assert row["model_ms"] == pytest.approx(row["slowest_ms"] + row["merge_ms"] + 2.0 * row["trips"])
        assert row["trips"] == 3


@pytest.mark.usefixtures("_engine")
def test_a_large_collection_is_written_into_its_shards_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "real")
    at_once = tmp_path / "at once"
    sizes = "--sizes 3000 --shards 1 3 --queries 3"
    cluster.main(f"--source {tmp_path}/real {sizes} --work {tmp_path}/divided".split())
    monkeypatch.setattr(shard_sizes, "PLAIN_MOST", 2000)
    cluster.main(["--source", f"{tmp_path}/real", *sizes.split(), "--work", str(at_once)])
    assert [path.name for path in at_once.iterdir()] == ["3000-3"]
    with open_collection(at_once / "3000-3") as one, open_collection(tmp_path / "divided" / "3000-3") as other:
        assert one.count == 10
        assert [(d.id, d.snippets) for d in one.documents] == [(d.id, d.snippets) for d in other.documents]


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
