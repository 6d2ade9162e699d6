"""Retrieval quality: ranks of the right documents, and recall, MRR and median rank with intervals."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
"""Number of bootstrap samples behind each interval."""

Ranks = NDArray[np.float64]
"""Rank of each query's right document, (queries,), from 1. The rank is infinite where the document is not ranked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Retrieval quality over a set of queries."""

    n: int
    """Number of queries."""
    recall: dict[int, Estimate]
    """R@k by k: the share of queries whose right document is among the first k."""
    mrr: Estimate
    """Mean reciprocal rank. A document that is not ranked counts 0. (The published systems count such a document as if
    it came just after the ranked ones.)"""
    mr: Estimate
    """Median rank."""

    def row(self) -> dict[str, Any]:
        """Returns plain values for a table or JSON: intervals as `"MRR 95%": [low, high]`, infinite values as None."""
        named = {f"R@{k}": estimate for k, estimate in self.recall.items()} | {"MRR": self.mrr, "MR": self.mr}
        row: dict[str, Any] = {"n": self.n} | {name: _plain(estimate.value) for name, estimate in named.items()}
        return row | {f"{name} 95%": [_plain(estimate.low), _plain(estimate.high)] for name, estimate in named.items()}


def ranks_of(answers: Sequence[Sequence[Hashable]], truths: Sequence[Hashable]) -> Ranks:
    """Returns the rank of each query's right document in its list of answers.

    answers: for each query, the ranked documents, best first. truths: the right document of each query.
    Raises ValueError if the numbers of answers and truths differ.
    """
    pairs = zip(answers, truths, strict=True)
    return np.array([answer.index(truth) + 1 if truth in answer else math.inf for answer, truth in pairs], dtype=float)


def ranks_by_cost(costs: NDArray[np.floating], truths: NDArray[np.integer]) -> Ranks:
    """Returns the rank of each query's right document by cost. The right document ranks last among equal costs.

    costs: (queries, documents), lower is better. A document whose cost is infinite or NaN is not ranked.
    truths: (queries,), column of the right document.
    Raises ValueError if the shapes do not fit.
    """
    if costs.ndim != 2 or truths.shape != costs.shape[:1]:
        raise ValueError(
            f"expected costs (queries, documents) and truths (queries,), got {costs.shape}, {truths.shape}"
        )
    right = np.take_along_axis(costs, truths[:, None], axis=1)
    return np.where(np.isfinite(right[:, 0]), np.sum(costs <= right, axis=1), math.inf)


def summarise(ranks: Ranks, *, at: Sequence[int] = (1, 10), groups: Sequence[Hashable] | None = None) -> Quality:
    """Returns recall, MRR and median rank, with bootstrap intervals. Equal ranks always give equal intervals.

    at: the values k of R@k.
    groups: the group of each query, such as its piece. Fragments of one piece are easy or hard together, so the
        bootstrap draws whole groups, and the intervals become wider. None: queries are independent.
    Raises ValueError if there are no queries, or the number of groups differs from the number of ranks.
    """
    if len(ranks) == 0:
        raise ValueError("expected the rank of at least one query, got none")
    names = {name: i for i, name in enumerate(dict.fromkeys(groups if groups is not None else range(len(ranks))))}
    group = np.array([names[name] for name in groups] if groups is not None else list(names.values()))
    if group.shape != ranks.shape:
        raise ValueError(f"expected a group for each of {len(ranks)} queries, got {len(group)}")
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    order = np.argsort(ranks)
    samples = _figures(ranks[order], draws[:, group[order]], at)
    low, high = np.quantile(samples, (0.025, 0.975), axis=0, method="nearest")  # an infinite rank interpolates to NaN
    (true,) = _figures(ranks[order], np.ones((1, len(ranks)), dtype=np.int64), at)
    figures = zip(true.tolist(), low.tolist(), high.tolist(), strict=True)
    estimates = [Estimate(value=value, low=lo, high=hi) for value, lo, hi in figures]
    return Quality(n=len(ranks), recall=dict(zip(at, estimates, strict=False)), mrr=estimates[-2], mr=estimates[-1])


def _figures(ranks: Ranks, times: NDArray[np.int64], at: Sequence[int]) -> NDArray[np.float64]:
    """Returns R@k for each k, MRR and median rank of each bootstrap sample, (samples, len(at) + 2).

    ranks: (queries,), rising.
    times: (samples, queries), how often each sample contains each query.
    """
    upto = np.cumsum(times, axis=1)
    n = upto[:, -1]
    gains = np.stack([*(ranks <= k for k in at), 1 / ranks], axis=1)
    middles = [ranks[np.argmax(upto > middle[:, None], axis=1)] for middle in ((n - 1) // 2, n // 2)]
    return np.column_stack([times @ gains / n[:, None], (middles[0] + middles[1]) / 2])


def _plain(value: float) -> float | None:
    """Returns a finite value as it is, and None for an infinite value or NaN."""
    return float(value) if math.isfinite(value) else None
