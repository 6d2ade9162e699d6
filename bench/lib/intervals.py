"""Figures with 95 % intervals: by a bootstrap over pieces, or Wilson's. A figure of nothing has no value.

Queries of one piece are easy or hard together, so the bootstraps draw whole pieces.
"""

from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
"""Number of draws of pieces, with replacement."""

NOTHING = float("nan")
"""The figure of no queries. In a row of a table it becomes None."""


def share(totals: NDArray[np.float64]) -> float:
    """Returns a share, or NOTHING. totals: float (2,), the good ones and all."""
    good, count = totals.tolist()
    return float(good / count) if count else NOTHING


def interval(
    name: str, counts: Sequence[Sequence[float]], figure: Callable[[NDArray[np.float64]], float] = share
) -> dict[str, Any]:
    """Returns the cells of a figure and its interval; without a value, None in place of all three numbers.

    counts: two numbers of each piece. figure: is computed of the totals of pieces, float (2,).
    """
    groups = np.array(counts, dtype=np.float64).reshape(-1, 2)
    value, number = figure(groups.sum(axis=0)), max(1, len(groups))
    times = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    return _cells(name, value, [figure(totals) for totals in times[:, : len(groups)] @ groups])


def mean(name: str, values: Sequence[float], pieces: Sequence[Hashable]) -> dict[str, Any]:
    """Returns the cells of a mean and its interval, see `interval`. pieces: the piece of each value."""
    sums: dict[Hashable, list[float]] = {}
    for value, piece in zip(values, pieces, strict=True):
        total = sums.setdefault(piece, [0.0, 0.0])
        total[0] += value
        total[1] += 1
    return interval(name, list(sums.values()))


def of_queries(
    name: str, measure: Callable[[NDArray[np.int64]], float], pieces: NDArray[Any], resamples: int = RESAMPLES
) -> dict[str, Any]:
    """Returns the cells of a measure of queries and its interval, see `interval`.

    This function is slower than `interval`, and needed where the totals of pieces are not enough, as for an AUROC.

    measure: gets the numbers of queries, some of them several times; NaN: the draw has no value.
    pieces: the piece of each query, (queries,).
    """
    rng, everything = np.random.default_rng(0), np.arange(len(pieces))
    if len(pieces) == 0:
        return _cells(name, NOTHING, [])
    _, piece = np.unique(pieces, return_inverse=True)
    members = np.split(np.argsort(piece, kind="stable"), np.cumsum(np.bincount(piece))[:-1])
    draws = (rng.integers(len(members), size=len(members)) for _ in range(resamples))
    return _cells(name, measure(everything), [measure(np.concatenate([members[i] for i in draw])) for draw in draws])


def _cells(name: str, value: float, drawn: Sequence[float]) -> dict[str, Any]:
    """Returns the cells of a figure and of its values among draws; draws without a value are left out."""
    if np.isnan(value):
        return {name: None, f"{name} 95%": [None, None]}
    return {name: float(value), f"{name} 95%": np.nanquantile(drawn, (0.025, 0.975)).tolist()}


def wilson(good: int, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share by Wilson's method, as if all queries were independent.

    A bootstrap of a share of 1 says nothing, because all draws are alike; this interval still tells ten queries from a
    thousand. Of no query it is 0 to 1: nothing is known.
    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (JASA, 1927).
    """
    if count == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf(0.975) ** 2
    middle = (good + z2 / 2) / (count + z2)
    half = (z2 * (good * (count - good) / count + z2 / 4)) ** 0.5 / (count + z2)
    return max(0.0, middle - half), min(1.0, middle + half)
