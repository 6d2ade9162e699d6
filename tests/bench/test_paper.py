from dataclasses import replace

import numpy as np
import pytest

from bench import paper, queries
from bench.queries import Query
from engine.collection import Collection
from paired_collection import piece

PIECES = [piece(number) for number in range(4)]


@pytest.fixture
def query(collection: Collection) -> Query:
    """The recording of piece 1."""
    return next(query for query in queries.whole(collection, PIECES) if query.piece == "piece1")


def test_a_hundred_windows_reach_from_the_first_to_the_last_snippet_of_any_query() -> None:
    for length in (1, 40, 5000):
        windows = paper.evenly_spaced(length)
        assert (len(windows), windows[0], windows[-1]) == (100, 0, length - 1)
        assert np.diff(windows).min() >= 0


def test_each_window_gives_as_many_votes_as_it_has_neighbours(collection: Collection, query: Query) -> None:
    assert paper.published_votes(collection, query, neighbours=1).tolist() == [0, -100, 0, 0]
    assert paper.published_votes(collection, query, neighbours=25).sum() == -2500


def test_dtw_costs_the_mean_of_the_path_and_nothing_for_the_same_sequence(collection: Collection, query: Query) -> None:
    costs = paper.published_dtw(collection, query)
    assert costs[1] == pytest.approx(0, abs=1e-3)
    assert costs[[0, 2, 3]].min() > 0.5


def test_every_system_finds_pieces_with_the_same_embeddings(collection: Collection) -> None:
    rows = list(paper.network_rows(collection, PIECES, ("Default", "Default"), 1, shipped=True))
    methods = ["vote, k = 1", "vote, k = 25", "DTW", "as shipped"]
    assert [(row["direction"], row["method"]) for row in rows] == [(d, m) for d in ("A2S", "S2A") for m in methods]
    assert {(row["n"], row["R@1 count"], row["MRR"]) for row in rows} == {(4, 4, 1.0)}


def test_a_piece_without_votes_shares_the_last_rank(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "published_votes", lambda *_, **__: np.zeros(4))
    rows = paper.network_rows(collection, PIECES, ("Baseline", "DTW"), 1, shipped=False)
    voted = next(row for row in rows if row["method"] == "vote, k = 1")
    assert (voted["MRR"], voted["MR"]) == (0.25, 4.0)


def test_a_piece_whose_other_form_is_missing_is_not_found(collection: Collection, query: Query) -> None:
    asked = [query, replace(query, truth="absent")]
    assert paper.ranks(collection, asked, paper.published_dtw).tolist() == [1, np.inf]


def test_the_papers_own_figures_stand_for_every_system_and_direction() -> None:
    rows = paper.published_rows()
    assert len(rows) == 8
    assert {row["n"] for row in rows} == {321}
