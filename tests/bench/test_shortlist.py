from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import shortlist
from bench.lib import queries
from bench.lib.queries import AMONG, Direction, LabelledQuery
from bench.shortlist import ALL, ANY, KS, WAYS, Candidates, ShortlistResult
from engine.collection import Collection
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
    assert results[-1].way == ALL
    assert results[-1].winner == 1


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
