"""Shares with 95 % intervals: by a bootstrap over pieces, or Wilson's."""

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
"""Number of draws of pieces, with replacement."""


def share(counts: NDArray[np.int64]) -> float:
    """Returns a share. counts: of each piece, good ones and all."""
    good, count = counts.sum(axis=0).tolist()
    return float(good / max(1, count))


def interval(
    name: str, counts: Sequence[Sequence[int]], figure: Callable[[NDArray[np.int64]], float]
) -> dict[str, Any]:
    """Returns a figure with its interval. counts: two numbers of each piece."""
    groups, rng = np.array(counts, dtype=np.int64).reshape(-1, 2), np.random.default_rng(0)
    drawn = rng.integers(max(1, len(groups)), size=(RESAMPLES, len(groups)))
    low, high = np.quantile([figure(groups[draw]) for draw in drawn], (0.025, 0.975)).tolist()
    return {name: figure(groups), f"{name} 95%": [low, high]}


def wilson(good: int, count: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share by Wilson's method, as if all queries were independent.

    A bootstrap of a share of 1 says nothing, because all draws are alike; this interval still tells ten queries from a
    thousand. Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (JASA, 1927).
    """
    z2 = NormalDist().inv_cdf(0.975) ** 2
    middle = (good + z2 / 2) / (count + z2)
    half = (z2 * (good * (count - good) / count + z2 / 4)) ** 0.5 / (count + z2)
    return max(0.0, middle - half), min(1.0, middle + half)
