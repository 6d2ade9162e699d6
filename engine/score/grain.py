"""Page image -> the direction in which its staff lines run, whether the page lies straight, askew or on its side."""

import cv2
import numpy as np

from engine.score.ink import bar
from engine.score.levels import Grey

LINE_PX = 5
"""Thickness, in px, below which a dark stroke is a line. Staff lines of a page of 1800 px have 2 to 4 px."""
BINS = 360
"""Number of directions that are told apart, half a degree each."""
SMOOTHED = 5
"""Number of neighbouring directions that are taken together to find the commonest, so that one bin wins no draw."""
REACH = 6
"""Number of directions on both sides of the commonest one over which the direction is averaged."""


def line_direction(page: Grey) -> float:
    """Returns the direction of a page's thin lines, in degrees from -90 to 90: 0 is level, positive sinks to the right.

    Each edge of a thin stroke votes for its direction with its steepness. Staff lines are so long that they win over
    stems, beams and letters: on 500 scans, the direction across has 0.4 of their votes at most.

    page: uint8 (h, w), white 255, grey levels normalised. A page without lines has any direction; a blank one 0.
    """
    thin = cv2.morphologyEx(page, cv2.MORPH_BLACKHAT, bar(LINE_PX, LINE_PX))
    smooth = cv2.GaussianBlur(thin, (0, 0), 1.5)
    across, down = (np.asarray(changes)[::2, ::2].ravel() for changes in cv2.spatialGradient(smooth))
    edges = np.flatnonzero((across != 0) | (down != 0))  # two fifths of a page
    if not len(edges):
        return 0.0
    steepness, angles = cv2.cartToPolar(across[edges].astype(np.float32), down[edges].astype(np.float32))
    bins = np.rint(angles.ravel() * (BINS / np.pi)).astype(np.int64) % BINS
    votes = np.bincount(bins, weights=steepness.ravel(), minlength=BINS)
    wrapped = np.pad(votes, REACH, mode="wrap")
    smoothed = np.convolve(wrapped, np.ones(SMOOTHED), "same")[REACH:-REACH]
    commonest = int(np.argmax(smoothed))
    near = wrapped[commonest : commonest + 2 * REACH + 1]
    offset = float((np.arange(-REACH, REACH + 1) * near).sum() / max(float(near.sum()), 1e-9))
    across_lines = (commonest + offset) * 180 / BINS  # the direction in which grey levels change
    return (across_lines % 180) - 90
