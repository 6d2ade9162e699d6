from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import paired_collection
from bench import shortlist
from bench.lib import intervals, queries
from bench.lib.queries import AMONG, Direction, LabelledQuery
from bench.shortlist import ALL, ANY, IN_FORCE, KS, WAYS, Candidates, ShortlistResult
from engine.collection import Collection
from engine.search import plan
from paired_collection import piece

PIECES = [piece(number) for number in range(4)]


@pytest.fixture
def material(collection: Collection) -> dict[Direction, Candidates]:
    return {direction: shortlist.gather(collection, kind) for direction, kind in AMONG.items()}


@pytest.fixture
def query(collection: Collection) -> LabelledQuery:
    """The recording of piece 1."""
    return next(query for query in queries.whole(collection, PIECES) if query.piece == "piece1")


def result(query: LabelledQuery, rank: float, form: str = "10 s") -> ShortlistResult:
    return ShortlistResult(query=replace(query, form=form), way="literal", truth=rank, winner=1.0, ms=2.0 * rank)


def test_every_length_is_asked_of_every_document(collection: Collection) -> None:
    asked = list(shortlist.ask(collection, PIECES[:2], per_piece=2))
    forms = [query.form for query in asked if query.piece == "piece1"]
    assert set(forms) == {"10 s", "20 s", "50 s", "1 system", "2 systems", "4 systems"}
    assert len(forms) == 2 * 6
    assert len(asked) == 2 * len(forms)


def test_every_way_finds_a_document_with_the_same_embeddings(
    collection: Collection, material: dict[Direction, Candidates]
) -> None:
    asked = list(shortlist.ask(collection, PIECES, per_piece=1))
    results = shortlist.answer(material, asked)
    assert len(results) == len(asked) * (len(WAYS) + 1)
    missed = {found.way for found in results if found.truth > 1 or found.winner > 1}
    assert missed <= {"vote, k = 25"}  # of unlike snippets the 25 nearest are everybody's
    assert all(found.ms >= 0 for found in results)


def test_a_shortlist_ranks_each_document_once(material: dict[Direction, Candidates], query: LabelledQuery) -> None:
    for way in (*WAYS.values(), shortlist.align_all):
        assert sorted(way(material["A2S"], query.sequence.embeddings).tolist()) == [0, 1, 2, 3]


def test_merging_takes_the_documents_in_turns(
    material: dict[Direction, Candidates], query: LabelledQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortlist, "fingerprints", lambda *_: np.array([2, 0, 1, 3]))
    monkeypatch.setattr(shortlist, "vote", lambda *_: np.array([3, 2, 0, 1]))
    assert shortlist.merged(material["A2S"], query.sequence.embeddings).tolist() == [2, 3, 0, 1]


def test_a_document_the_collection_lacks_is_not_ranked(
    material: dict[Direction, Candidates], query: LabelledQuery
) -> None:
    results = shortlist.answer(material, [replace(query, truth="absent")])
    assert {found.truth for found in results} == {np.inf}
    assert results[0].way == ALL
    assert results[0].winner == 1


def test_recall_is_summed_up_by_kind_of_query_and_over_all(query: LabelledQuery) -> None:
    rows = shortlist.quality_rows([result(query, 1), result(query, 30), result(query, 4, form="20 s")])
    truth = {row["query"]: row for row in rows if row["of"] == "truth"}
    assert [truth["10 s"][f"R@{k}"] for k in KS] == [0.5, 0.5, 0.5, 0.5, 1, 1, 1]
    assert (truth["20 s"]["n"], truth["20 s"]["R@5"]) == (1, 1)
    assert (truth[ANY]["n"], truth[ANY]["R@5"], truth[ANY]["ms"]) == (3, pytest.approx(2 / 3), pytest.approx(70 / 3))


def test_the_shortest_list_that_is_enough_is_told(query: LabelledQuery) -> None:
    results = [replace(result(query, 1), winner=winner) for winner in (1.0, 8.0)]
    (row,) = shortlist.enough_rows(shortlist.quality_rows(results))
    assert (row["way"], row["K"]) == ("literal", 10)
    results = [replace(result(query, 1), winner=300.0)]
    assert shortlist.enough_rows(shortlist.quality_rows(results))[0]["K"] is None


def test_the_curves_are_drawn(query: LabelledQuery, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    results = [result(replace(query, direction=direction), rank) for direction in AMONG for rank in (1, 3)]
    shortlist.draw(shortlist.quality_rows(results), tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_shortlist_in_force_is_told_by_multiples_of_its_length(
    material: dict[Direction, Candidates], query: LabelledQuery
) -> None:
    mean = len(material["A2S"].packed.embeddings) / len(material["A2S"].packed)
    length = plan.shortlist(len(query.sequence), mean)
    ranks = (length / 4, length / 2, length + 1, 2 * length, 2 * length + 1)
    results = [replace(result(query, 1), way=IN_FORCE, winner=float(rank)) for rank in ranks]
    (row,) = shortlist.length_rows([*results, result(query, 1)], material)
    assert (row["n"], row["length in force"], row["ms"]) == (5, length, 2)
    assert [row[f"x{multiple}"] for multiple in ("0.25", "0.5", "1", "2")] == [0.2, 0.4, 0.4, 0.8]
    assert row["x0.25 95%"] == list(intervals.wilson(1, 5))


def test_the_recordings_that_ask_may_be_played_on_another_sound(collection: Collection, tmp_path: Path) -> None:
    paired_collection.write(tmp_path / "other")
    with Collection.open(tmp_path / "other") as other:
        asked = list(shortlist.ask(collection, PIECES, 1, playing=other, seed=3, forms=("10 s", "1 system")))
        alike = list(shortlist.ask(collection, PIECES, 1, seed=3, forms=("10 s", "1 system")))
    assert [query.form for query in asked] == ["10 s"] * 4 + ["1 system"] * 4
    assert np.array_equal(asked[0].sequence.embeddings, alike[0].sequence.embeddings)
    elsewhere = list(shortlist.ask(collection, PIECES, 1, seed=4, forms=("10 s", "1 system")))
    assert not np.array_equal(asked[0].sequence.embeddings, elsewhere[0].sequence.embeddings)
