"""Intervals of shares: known values, and what they tell of shares of 1."""

import pytest

from bench.lib import intervals


def test_wilsons_interval_has_the_values_of_the_textbook() -> None:
    assert intervals.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert intervals.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_a_share_of_one_is_surer_with_more_queries() -> None:
    low, high = intervals.wilson(142, 142)
    assert (low, high) == pytest.approx((0.9737, 1), abs=1e-4)
    assert intervals.wilson(690, 690)[0] > 0.994
