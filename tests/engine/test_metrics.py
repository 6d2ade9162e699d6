"""Ranks and what they sum up to."""

import json
import math

import numpy as np
import pytest

from engine.metrics import ranks_by_cost, ranks_of, summarise

INF = math.inf


def test_ranks_of_lists_count_from_one_and_are_infinite_where_the_document_is_not_listed() -> None:
    assert ranks_of([["a", "b"], ["b", "a"], ["c"]], ["a", "a", "a"]).tolist() == [1, 2, INF]


def test_ranks_by_cost_count_the_cheaper_ones() -> None:
    costs = np.array([[0.1, 0.5, 0.9], [0.1, 0.5, 0.9], [0.1, 0.5, 0.9]])
    assert ranks_by_cost(costs, np.array([0, 1, 2])).tolist() == [1, 2, 3]


def test_equal_costs_earn_nothing() -> None:
    assert ranks_by_cost(np.zeros((1, 4)), np.array([2])).tolist() == [4]


@pytest.mark.parametrize("bad", [INF, math.nan])
def test_a_document_without_a_cost_is_not_ranked(bad: float) -> None:
    assert ranks_by_cost(np.array([[bad, 1.0], [bad, 1.0]]), np.array([0, 1])).tolist() == [INF, 1]


def test_truths_that_do_not_fit_the_costs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3\), \(3,\)"):
        ranks_by_cost(np.zeros((2, 3)), np.zeros(3, dtype=int))


def test_figures_of_known_ranks() -> None:
    quality = summarise(np.array([1, 2, 4, INF]), at=(1, 2, 5))
    assert [quality.recall[k].value for k in (1, 2, 5)] == [0.25, 0.5, 0.75]
    assert quality.mrr.value == (1 + 1 / 2 + 1 / 4 + 0) / 4
    assert quality.mr.value == 3


def test_a_median_among_the_unranked_is_infinite_and_none_in_a_row() -> None:
    quality = summarise(np.array([1, INF, INF]))
    assert quality.mr.value == INF
    assert quality.row()["MR"] is None


def test_a_row_is_plain_json() -> None:
    row = summarise(np.array([1, 1, 20.0])).row()
    assert list(row) == ["n", "R@1", "R@10", "MRR", "MR", "R@1 95%", "R@10 95%", "MRR 95%", "MR 95%"]
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_an_interval_holds_the_mean_of_most_samples() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(20):
        mrr = summarise(np.where(rng.random(100) < 0.3, 1, INF)).mrr
        held += mrr.low <= 0.3 <= mrr.high
    assert held >= 17


def test_the_bootstrap_is_the_same_each_time() -> None:
    ranks = np.random.default_rng(0).integers(1, 50, 80).astype(float)
    assert summarise(ranks) == summarise(ranks)


def test_queries_of_one_piece_are_drawn_together() -> None:
    ranks = np.repeat([1.0, INF] * 5, 20)
    alone, together = summarise(ranks), summarise(ranks, groups=np.repeat(np.arange(10), 20).tolist())
    assert together.mrr.value == alone.mrr.value
    assert together.mrr.high - together.mrr.low > 3 * (alone.mrr.high - alone.mrr.low)


def test_no_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one query"):
        summarise(np.array([]))


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="a group for each of 2 queries, got 3"):
        summarise(np.ones(2), groups=["a", "b", "c"])
