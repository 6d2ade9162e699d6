from dataclasses import replace

import numpy as np
import pytest

from bench.lib import methods, queries
from bench.lib.queries import LabelledQuery
from engine.collection import Collection
from engine.config import SearchSettings
from paired_collection import piece

PIECES = [piece(number) for number in range(4)]


@pytest.fixture
def query(collection: Collection) -> LabelledQuery:
    """The recording of piece 1."""
    return next(query for query in queries.whole(collection, PIECES) if query.piece == "piece1")


def test_a_hundred_windows_reach_from_the_first_to_the_last_snippet_of_any_query() -> None:
    for length in (1, 40, 5000):
        windows = methods.evenly_spaced(length)
        assert (len(windows), windows[0], windows[-1]) == (100, 0, length - 1)
        assert np.diff(windows).min() >= 0


def test_each_window_gives_as_many_votes_as_it_has_neighbours(collection: Collection, query: LabelledQuery) -> None:
    assert methods.vote(collection, 1)(query).tolist() == [0, -100, 0, 0]
    assert methods.vote(collection, 25)(query).sum() == -2500


def test_the_bins_of_shazam_count_the_snippets_in_line(collection: Collection, query: LabelledQuery) -> None:
    costs = methods.shazam(collection)(query)
    assert costs[1] == -len(query.sequence)
    assert costs[[0, 2, 3]].min() > -len(query.sequence) / 2


def test_dtw_costs_the_mean_of_the_path_and_nothing_for_the_same_sequence(
    collection: Collection, query: LabelledQuery
) -> None:
    costs = methods.shipped(collection, "dtw", SearchSettings())(query)
    assert costs[1] == pytest.approx(0, abs=1e-3)
    assert costs[[0, 2, 3]].min() > 0.5


def test_what_is_no_match_costs_infinitely_much(collection: Collection, query: LabelledQuery) -> None:
    costs = methods.shipped(collection, "refine", SearchSettings(shortlist=2))(query)
    assert np.isfinite(costs).sum() == 2
    assert np.argmin(costs) == 1


def test_a_piece_whose_other_form_is_missing_is_not_found(collection: Collection, query: LabelledQuery) -> None:
    asked = [query, replace(query, truth="absent")]
    assert methods.ranks(collection, asked, methods.vote(collection, 1)).tolist() == [1, np.inf]


def test_a_piece_without_votes_shares_the_last_rank(collection: Collection, query: LabelledQuery) -> None:
    assert methods.ranks(collection, [query], lambda _: np.zeros(4)).tolist() == [4]
