"""Shares of pieces with 95 % intervals, by a bootstrap over pieces."""

from collections.abc import Callable, Sequence
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
