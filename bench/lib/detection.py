"""Measures of scores that separate positives from negatives, and of calibrated probabilities."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

BINS = 10

Numbers = NDArray[np.float64]
Truths = NDArray[np.bool_]


def auroc(scores: Numbers, positive: Truths) -> float:
    """The share of pairs of a positive and a negative in which the positive has the higher score; ties count half."""
    count, rest = int(positive.sum()), int((~positive).sum())
    if count == 0 or rest == 0:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - count * (count + 1) / 2) / (count * rest))


def false_alarms(scores: Numbers, positive: Truths, detection: float = 0.95) -> float:
    """The share of negatives that reach the score which `detection` of the positives reach."""
    if positive.all() or not positive.any():
        return float("nan")
    threshold = np.quantile(scores[positive], 1 - detection, method="lower")
    return float(np.mean(scores[~positive] >= threshold))


def calibration_error(probabilities: Numbers, true: Truths) -> float:
    """Expected calibration error over BINS bins with equal numbers of values."""
    return float(sum(abs(p - share) * n for p, share, n in bins(probabilities, true)) / len(true))


def bins(probabilities: Numbers, true: Truths) -> list[tuple[float, float, int]]:
    """The mean probability, the share that is true, and the number of values, for each of BINS bins."""
    parts = np.array_split(np.argsort(probabilities, kind="stable"), BINS)
    return [(float(probabilities[i].mean()), float(true[i].mean()), len(i)) for i in parts if len(i)]
