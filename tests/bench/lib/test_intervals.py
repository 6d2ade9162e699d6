"""Intervals of figures: known values, what they tell of shares of 1, and that figures of nothing have no value."""

import numpy as np
import pytest

from bench.lib import intervals, report


def test_wilsons_interval_has_the_values_of_the_textbook() -> None:
    assert intervals.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert intervals.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_a_share_of_one_is_surer_with_more_queries() -> None:
    low, high = intervals.wilson(142, 142)
    assert (low, high) == pytest.approx((0.9737, 1), abs=1e-4)
    assert intervals.wilson(690, 690)[0] > 0.994


def test_a_share_has_the_interval_of_a_bootstrap_over_pieces() -> None:
    row = intervals.interval("recall", [[1, 1]] * 50 + [[0, 1]] * 50)
    assert row["recall"] == 0.5
    assert row["recall 95%"] == pytest.approx(intervals.wilson(50, 100), abs=0.02)
    queries = intervals.interval("recall", [[5, 5]] * 10 + [[0, 5]] * 10)["recall 95%"]
    assert queries == pytest.approx(intervals.wilson(10, 20), abs=0.05)  # of 20 pieces, not of 100 queries


def test_a_mean_is_that_of_the_values_and_its_interval_that_of_the_pieces() -> None:
    row = intervals.mean("overlap", [1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "c"])
    low, high = row["overlap 95%"]
    assert row["overlap"] == 0.5
    assert low < 0.5 < high
    assert intervals.mean("overlap", [0.25, 0.25], ["a", "b"])["overlap 95%"] == [0.25, 0.25]


def test_a_measure_of_queries_that_is_a_mean_has_the_interval_of_the_mean() -> None:
    values = np.random.default_rng(0).random(60)
    pieces = np.arange(60) // 3
    of_queries = intervals.of_queries("x", lambda drawn: float(values[drawn].mean()), pieces)
    of_values = intervals.mean("x", values.tolist(), pieces.tolist())
    assert of_queries["x"] == pytest.approx(of_values["x"])
    assert of_queries["x 95%"] == pytest.approx(of_values["x 95%"], abs=0.01)


def test_draws_without_a_value_are_left_out() -> None:
    def mean_of_even(drawn: np.ndarray) -> float:
        even = drawn[drawn % 2 == 0]
        return float(even.mean()) if len(even) else intervals.NOTHING

    assert intervals.of_queries("x", mean_of_even, np.arange(2)) == {"x": 0.0, "x 95%": [0.0, 0.0]}
    assert intervals.interval("x", [[2, 2], [0, 0]]) == {"x": 1.0, "x 95%": [1.0, 1.0]}


def test_a_figure_of_nothing_has_no_value() -> None:
    nothing = {"x": None, "x 95%": [None, None]}
    assert intervals.interval("x", []) == nothing
    assert intervals.interval("x", [[0, 0], [0, 0]]) == nothing
    assert intervals.mean("x", [], []) == nothing
    assert intervals.of_queries("x", len, np.zeros(0, np.int64)) == nothing
    assert report.with_intervals(nothing) == {"x": "- [-, -]"}
    assert intervals.wilson(0, 0) == (0, 1)
