"""How the best wrong cost falls as a crowd grows."""

import itertools

import numpy as np
import pytest

from bench.distractors import DOUBLINGS, doubling, expected_best


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_the_expected_best_is_the_mean_over_all_choices(count: int) -> None:
    costs = np.random.default_rng(0).random((3, 7))
    every = [costs[:, list(choice)].min(axis=1) for choice in itertools.combinations(range(7), count)]
    assert expected_best(costs, count) == pytest.approx(np.mean(every, axis=0))


def test_a_known_slope_is_found() -> None:
    """The best of n values whose logarithm is exponential falls by a constant each time that n doubles."""
    costs = -0.02 * np.random.default_rng(0).exponential(size=(400, 512))
    assert doubling(costs) == pytest.approx(0.02 * np.log(2), rel=0.05)
    assert DOUBLINGS == 3
