"""A collection grows, is measured at each size, and what is told of it is counted right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paired_collection
from bench import scale
from bench.lib import growth
from bench.lib.made_documents import DistractorSource
from bench.lib.queries import AMONG
from bench.scale import ExhaustiveResult, ScaleBench
from engine.collection import Collection
from engine.values import Kind, NetworkIdentity
from fake_encoder import FakeEncoder, engine_of


class PairedEncoder(FakeEncoder):
    identity: NetworkIdentity = paired_collection.NETWORK


@pytest.fixture
def sources(collection: Collection) -> dict[Kind, DistractorSource]:
    return {kind: DistractorSource.of(collection.packed(kind), kind, np.array([40, 60])) for kind in AMONG.values()}


def grown(path: Path, collection: Collection, sources: dict[Kind, DistractorSource], *sizes: int) -> list[str]:
    for size in sizes:
        growth.grow(path, collection, sources, size, PairedEncoder, jobs=1)
    with Collection.open(path) as found:
        found.check()
        return [f"{document.id} {document.snippets}" for document in found.documents]


def test_a_collection_has_the_same_documents_whatever_sizes_it_had_before(
    tmp_path: Path, collection: Collection, sources: dict[Kind, DistractorSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "BLOCK", 2)
    at_once = grown(tmp_path / "one", collection, sources, 1500)
    in_steps = grown(tmp_path / "two", collection, sources, 800, 1500)
    assert sorted(at_once) == sorted(in_steps)
    assert len([name for name in at_once if name.startswith("made-score")]) >= 17
    with Collection.open(tmp_path / "two") as found:
        assert all(held.snippets >= 1500 for held in found.manifest.kinds.values())
        made = [id for id in found.ids("score") if id.startswith("made")]
    assert made == sorted(made)


def test_sizes_quadruple_up_to_the_last() -> None:
    assert scale.sizes(900_000) == [100_000, 400_000, 900_000]
    assert scale.sizes(20_000_000) == [100_000, 400_000, 1_600_000, 6_400_000, 20_000_000]
    assert scale.sizes(50_000) == [50_000]


def test_what_is_found_among_the_first_documents_is_told_from_the_costs_of_all() -> None:
    costs = np.array([[3, 1, 2, 0], [1, 1, 5, 5]], np.float32)
    truth = ExhaustiveResult.of(costs, np.array([1, 0]), ["a", "b", "c", "d"], [2, 4])
    assert truth.winners == [["b", "a"], ["d", "a"]]
    assert truth.ranks == [[1, 2], [2, 2]]  # ties count against the right one


def test_each_method_has_a_row_a_size(
    tmp_path: Path, collection: Collection, sources: dict[Kind, DistractorSource]
) -> None:
    found = [paired_collection.piece(number) for number in range(4)]
    bench = ScaleBench(asked=list(scale.ask(collection, found)), engine=engine_of(FakeEncoder()))
    assert {form for _, form in scale.members(bench.asked)} == {"50 s", "10 s", "4 systems", "1 system"}
    measured: list[dict[str, Any]] = []
    for size in (600, 1200):
        growth.grow(tmp_path / "collection", collection, sources, size, PairedEncoder, jobs=1)
        measured.append(bench.measure(tmp_path / "collection", size, None, librosa=False))
    rows = scale.quality_rows(bench.asked, measured, bench.exhaustive(tmp_path, measured))
    assert len(rows) == 4 * 4 * 2
    for row in rows:
        if row["method"] in ("refine", "exhaustive"):
            assert (row["MRR"], row["recall_of_exhaustive"]) == (1, 1)
        assert row["p50_ms"] > 0
    assert measured[0]["bytes"] == {"sequences": (measured[0]["bytes"]["sequences"]), "score": 0, "recording": 0}
    assert measured[0]["opening"]["open_s"] > 0


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    row = {"direction": "A2S", "query": "10 s", "method": "refine", "p50_ms": 3.0, "MRR": 0.5}
    scale.draw([row | {"snippets": size} for size in (100, 200)], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
