"""How well queries were answered: ranks of the right documents and what they sum up to, for training and bench."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
"""Of the bootstrap."""

Ranks = NDArray[np.float64]
"""(queries,) rank of the right document of each query, from 1; infinite where it is not ranked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How well a set of queries was answered."""

    n: int
    recall: dict[int, Estimate]
    """R@k: the share of queries whose right document is among the first k."""
    mrr: Estimate
    """Mean reciprocal rank; a document not ranked counts 0, not, as published, as if it came after the ranked ones."""
    mr: Estimate
    """Median rank."""

    def row(self) -> dict[str, Any]:
        """Plain values for a table or JSON, intervals as `"MRR 95%": [low, high]`; an infinite median rank is None."""
        named = {f"R@{k}": estimate for k, estimate in self.recall.items()} | {"MRR": self.mrr, "MR": self.mr}
        row: dict[str, Any] = {"n": self.n} | {name: _plain(one.value) for name, one in named.items()}
        return row | {f"{name} 95%": [_plain(one.low), _plain(one.high)] for name, one in named.items()}


def ranks_of(answers: Sequence[Sequence[Hashable]], truths: Sequence[Hashable]) -> Ranks:
    """The rank of each query's right document in its list of answers, best first.

    Raises ValueError unless there are as many truths as answers.
    """
    pairs = zip(answers, truths, strict=True)
    return np.array([answer.index(truth) + 1 if truth in answer else math.inf for answer, truth in pairs], dtype=float)


def ranks_by_cost(costs: NDArray[np.floating], truths: NDArray[np.integer]) -> Ranks:
    """The rank of each query's right document among all costs; ties count against it, so equal costs earn nothing.

    costs: (queries, documents), lower is better; one that is infinite or NaN is not ranked.
    truths: (queries,) column of the right document.
    Raises ValueError if the shapes do not fit.
    """
    if costs.ndim != 2 or truths.shape != costs.shape[:1]:
        raise ValueError(
            f"expected costs (queries, documents) and truths (queries,), got {costs.shape}, {truths.shape}"
        )
    right = np.take_along_axis(costs, truths[:, None], axis=1)
    return np.where(np.isfinite(right[:, 0]), np.sum(costs <= right, axis=1), math.inf)


def summarise(ranks: Ranks, *, at: Sequence[int] = (1, 10), groups: Sequence[Hashable] | None = None) -> Quality:
    """What the ranks sum up to, with intervals from a bootstrap that is the same each time.

    at: the k of R@k.
    groups: what each query was taken from, such as its piece. Fragments of one piece are easy or hard together, so
        whole groups are drawn, which makes the intervals as wide as they are; None: queries are independent.
    Raises ValueError if there are no queries.
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
    """(samples, len(at) + 2): R@k for each k, MRR and MR of each sample.

    ranks: (queries,), rising.
    times: (samples, queries), how often each sample holds each query.
    """
    upto = np.cumsum(times, axis=1)
    n = upto[:, -1]
    gains = np.stack([*(ranks <= k for k in at), 1 / ranks], axis=1)
    middles = [ranks[np.argmax(upto > middle[:, None], axis=1)] for middle in ((n - 1) // 2, n // 2)]
    return np.column_stack([times @ gains / n[:, None], (middles[0] + middles[1]) / 2])


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
