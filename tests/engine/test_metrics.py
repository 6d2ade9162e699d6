"""Ranks and what they sum up to."""

import json
import math
import statistics

import numpy as np
import pytest

from engine.metrics import RESAMPLES, ranks_by_cost, ranks_of, summarise

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


def resampled(ranks: list[float], groups: list[str]) -> dict[str, tuple[float, float]]:
    """The intervals of R@1, R@10, MRR and MR, query by query and draw by draw."""
    names = list(dict.fromkeys(groups))
    draws = np.random.default_rng(0).multinomial(len(names), [1 / len(names)] * len(names), size=RESAMPLES)
    samples: dict[str, list[float]] = {"R@1": [], "R@10": [], "MRR": [], "MR": []}
    for draw in draws.tolist():
        drawn: list[float] = []
        for name, times in zip(names, draw, strict=True):
            drawn += times * [rank for rank, group in zip(ranks, groups, strict=True) if group == name]
        samples["R@1"].append(statistics.fmean(rank <= 1 for rank in drawn))
        samples["R@10"].append(statistics.fmean(rank <= 10 for rank in drawn))
        samples["MRR"].append(statistics.fmean(1 / rank for rank in drawn))
        samples["MR"].append(statistics.median(drawn))
    ends = round(0.025 * (RESAMPLES - 1)), round(0.975 * (RESAMPLES - 1))
    return {name: (sorted(values)[ends[0]], sorted(values)[ends[1]]) for name, values in samples.items()}


@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_those_of_a_plain_bootstrap_of_groups(seed: int) -> None:
    """Groups are of several sizes; their queries, and the queries' ranks, lie in no order."""
    rng = np.random.default_rng(seed)
    groups = [f"piece {number}" for number in rng.choice(12, 60, p=np.arange(1, 13) / 78)]
    hard = {name: rng.uniform(0, 3) for name in sorted(set(groups))}
    ranks = [float(np.ceil(np.exp(rng.normal(hard[name], 1)))) for name in groups]
    row = summarise(np.array(ranks), groups=groups).row()
    for name, (low, high) in resampled(ranks, groups).items():
        assert row[f"{name} 95%"] == pytest.approx([low, high])


def test_intervals_without_groups_are_those_of_groups_of_one_query() -> None:
    ranks = [9.0, 1.0, 30.0, 2.0, 1.0, 4.0, 1.0, 12.0, 3.0]
    row = summarise(np.array(ranks)).row()
    for name, (low, high) in resampled(ranks, [str(number) for number in range(len(ranks))]).items():
        assert row[f"{name} 95%"] == pytest.approx([low, high])
