"""Figures of detection and calibration."""

import numpy as np
import pytest

from bench.lib.detection import auroc, bins, calibration_error, false_alarms

POSITIVE = np.array([True, True, False, False])


def test_auroc_counts_pairs_in_order_and_ties_half() -> None:
    assert auroc(np.array([3.0, 2.0, 1.0, 0.0]), POSITIVE) == 1
    assert auroc(np.array([3.0, 1.0, 2.0, 0.0]), POSITIVE) == 0.75
    assert auroc(np.ones(4), POSITIVE) == 0.5


def test_false_alarms_are_negatives_that_reach_what_most_positives_reach() -> None:
    scores = np.concatenate([np.arange(100.0), np.array([3.0, 5.0, 45.0, 200.0])])
    positive = np.arange(104) < 100
    assert false_alarms(scores, positive) == 0.75  # 96 of 100 positives reach 4
    assert false_alarms(scores, positive, detection=0.5) == 0.25


def test_without_either_there_is_no_figure() -> None:
    assert np.isnan(auroc(np.ones(4), np.ones(4, bool)))
    assert np.isnan(false_alarms(np.ones(4), np.zeros(4, bool)))


def test_a_probability_that_comes_true_has_no_calibration_error() -> None:
    true = np.arange(1000) % 4 == 0
    assert calibration_error(np.full(1000, 0.25), true) == pytest.approx(0, abs=0.001)
    assert calibration_error(np.full(1000, 0.75), true) == pytest.approx(0.5, abs=0.001)


def test_bins_hold_equally_many() -> None:
    assert [count for _, _, count in bins(np.linspace(0, 1, 50), np.zeros(50, bool))] == [5] * 10
