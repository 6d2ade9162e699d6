"""Staff lines -> courses: smooth curves across the page, along which five lines run at equal distances."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.kernels import best_path, staff_evidence
from engine.score.levels import Grey
from engine.score.lines import Floats, Lines
from engine.score.rejection import Reject, Rejection, ignore
from engine.values import Box

LINES = np.array([-2, -1, 0, 1, 2], np.float32)
"""Places of a staff's lines, in staff spaces from its middle line."""
BETWEEN = np.array([-1.5, -0.5, 0.5, 1.5], np.float32)
"""Places between the lines, in staff spaces from the middle line."""
BEYOND = np.array([-3, 3], np.float32)
"""Places just above and below the staff, in staff spaces from the middle line."""

SIZES = (0.7, 0.8, 0.9, 1.0, 1.1)
"""Staff spaces searched for, relative to the page's commonest: a singer's staff is often printed smaller."""
BEYOND_WEIGHT = 0.2
"""Weight of a line just above or below as evidence against a staff. Ledger lines may lie there too."""
PLACE_WEIGHTS = np.repeat(
    np.array([1 / len(LINES), -1 / len(BETWEEN), -BEYOND_WEIGHT / len(BEYOND)], np.float32),
    [len(LINES), len(BETWEEN), len(BEYOND)],
)
"""Weights of a line at LINES, BETWEEN and BEYOND, in this order, as evidence for a staff."""
MOVE_COST = 0.02
"""Cost, in evidence, of moving a path up or down by one row. A level path costs nothing."""
MIN_EVIDENCE = 0.3
"""Smallest evidence (0..1) at a place where a staff continues."""
MIN_MEAN_EVIDENCE = 0.42
"""Smallest mean evidence along a course."""
MIN_LENGTH = 12
"""Smallest length of a course and of a staff, in staff spaces: slurs and ledger lines are shorter."""
MAX_BREAK = 8
"""Longest break that is bridged in a course, in staff spaces: a run of chords is shorter."""
MIN_SHARE_OF_STRONGEST = 0.08
"""Smallest evidence of a path, as a share of the strongest path's. At a path with less the search ends."""
MAX_PATHS = 100
"""Largest number of paths on a page that is up to MAX_HEIGHT high. On a higher page, the number grows with the height.
No page has this many staves; the limit ends the search on pages of hatching."""
MAX_HEIGHT = 2
"""Height of a page up to which MAX_PATHS holds, in page widths. Screenshots of whole scores are higher."""
MAX_EXPLAINED = 3.5
"""Distance from a course, in staff spaces, up to which evidence belongs to the same staff and is not used again."""
END_STRIPS = 2
"""Distance beyond the ends of a course, in staff spaces, up to which evidence belongs to the same staff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A curve across the page, in pixels."""

    xs: Floats
    """Columns of the curve's points, (k,), increasing from the left end to the right end."""
    ys: Floats
    """Rows of the curve's points, (k,)."""

    @property
    def x0(self) -> float:
        """Returns the column of the left end."""
        return float(self.xs[0])

    @property
    def x1(self) -> float:
        """Returns the column of the right end."""
        return float(self.xs[-1])

    @property
    def length(self) -> float:
        """Returns the length from the left end to the right end, in columns."""
        return self.x1 - self.x0

    @property
    def y(self) -> float:
        """Returns the median row of the curve."""
        return float(np.median(self.ys))

    @property
    def slope(self) -> float:
        """Returns the slope of the straight line closest to the curve, in rows per column."""
        across = self.xs - self.xs.mean()
        return float((across * (self.ys - self.ys.mean())).sum() / max(float((across * across).sum()), 1e-9))

    def rows(self, columns: Floats | NDArray[np.float64]) -> Floats:
        """Returns the curve's row at each column, float32 (columns,). Beyond its ends the curve continues straight."""
        rows = np.interp(columns, self.xs, self.ys)
        beyond = columns - np.clip(columns, self.xs[0], self.xs[-1])
        return np.asarray(rows + self.slope * beyond if beyond.any() else rows, dtype=np.float32)


def find_courses(lines: Lines, reject: Reject = ignore) -> Iterator[Course]:
    """Yields the courses of the middle lines of staves, strongest first.

    Each course is a part of the best path across the page. A path uses no evidence that earlier courses explain.
    """
    evidence = _staff_evidence(lines.seen, lines.space)
    strip = lines.width / len(evidence)
    reach = round(MAX_EXPLAINED * lines.space)
    threshold = MIN_LENGTH * MIN_MEAN_EVIDENCE
    for _ in range(_most_paths(lines.seen)):
        path, total = _best_path(evidence)
        if total < threshold:
            reject(_rejection("evidence along the best path left", total, threshold, path, (0, len(path)), lines))
            return
        threshold = max(threshold, MIN_SHARE_OF_STRONGEST * total)
        along = evidence[np.arange(len(path)), path]
        runs = [run for run in _runs(along) if _accepted(along, path, run, lines, reject)]
        for start, stop in runs:
            sure = start + np.flatnonzero(along[start:stop] >= MIN_EVIDENCE)
            strips = np.arange(start, stop)
            ys = np.interp(strips, sure, path[sure])
            yield Course(xs=((strips + 0.5) * strip).astype(np.float32), ys=smooth(ys))
        for start, stop in runs or [(0, len(path))]:
            strips = np.arange(max(start - END_STRIPS, 0), min(stop + END_STRIPS, len(path)))
            near = np.clip(path[strips, None] + np.arange(-reach, reach + 1), 0, evidence.shape[1] - 1)
            evidence[strips[:, None], near] = 0


def _most_paths(seen: Grey) -> int:
    """Returns the largest number of paths on a page."""
    ratio = float(seen.shape[0] / seen.shape[1])
    return round(MAX_PATHS * max(1.0, ratio / MAX_HEIGHT))


def _staff_evidence(seen: Grey, space: float) -> Floats:
    """Returns the evidence for a staff with its middle line at each row of each strip, float32 (strips, h), up to 1.

    A strip is a column of the page, one staff space wide.
    """
    height, width = seen.shape
    strips = max(1, round(width / space))
    shares = cv2.resize(seen, (strips, height), interpolation=cv2.INTER_AREA)
    margin = round(4 * space * max(SIZES))
    shares = np.pad(cv2.blur(shares, (3, 1)).T.astype(np.float32) / 255, ((0, 0), (margin, margin)))
    places = np.rint(np.outer(np.multiply(SIZES, space), np.concatenate([LINES, BETWEEN, BEYOND]))).astype(np.intp)
    evidence = np.zeros((strips, height), np.float32)
    staff_evidence(shares, margin + places, PLACE_WEIGHTS, evidence)
    return evidence


def _best_path(evidence: Floats) -> tuple[NDArray[np.intp], float]:
    """Returns the row in each strip of the path with the most evidence, and the sum of its evidence.

    The path moves at most one row per strip, which is a slope of 5.7 degrees.
    """
    strips, height = evidence.shape
    total, before = np.empty(height, np.float32), np.empty(height, np.float32)
    path = np.empty(strips, np.intp)
    most = best_path(evidence, np.float32(MOVE_COST), total, before, np.empty((strips, height), np.int8), path)
    return path, float(most)


def _runs(along: Floats) -> Iterator[tuple[int, int]]:
    """Yields start and stop of each stretch of a path with evidence. Short breaks do not end a stretch."""
    seen = np.flatnonzero(np.convolve(along, np.ones(3) / 3, "same") >= MIN_EVIDENCE)
    for run in np.split(seen, np.flatnonzero(np.diff(seen) > MAX_BREAK) + 1):
        if len(run):
            yield int(run[0]), int(run[-1]) + 1


def _accepted(along: Floats, path: NDArray[np.intp], run: tuple[int, int], lines: Lines, reject: Reject) -> bool:
    """Returns whether a stretch of a path is long enough for a staff and has enough evidence."""
    start, stop = run
    if stop - start < MIN_LENGTH:
        reject(_rejection("length below MIN_LENGTH", stop - start, MIN_LENGTH, path, run, lines))
        return False
    mean = along[start:stop].mean()
    if mean < MIN_MEAN_EVIDENCE:
        reject(_rejection("evidence below MIN_MEAN_EVIDENCE", float(mean), MIN_MEAN_EVIDENCE, path, run, lines))
        return False
    return True


def smooth(ys: Floats | NDArray[np.float64]) -> Floats:
    """Returns smoothed rows, (k,), without steps of whole rows and without single outliers."""
    padded = np.pad(ys, 4, mode="edge").astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 9)
    middle = np.sort(windows, axis=1)[:, 2:7].mean(axis=1)
    return np.asarray(middle, dtype=np.float32)


def _rejection(
    reason: str, measured: float, threshold: float, path: NDArray[np.intp], run: tuple[int, int], lines: Lines
) -> Rejection:
    """Returns the rejection of the stretch `run` of a path."""
    start, stop = run
    y = path[(start + stop) // 2] / lines.width
    reach = 2 * lines.space / lines.width
    box = Box(x0=start / len(path), y0=float(y - reach), x1=stop / len(path), y1=float(y + reach))
    return Rejection(stage="course", reason=reason, measured=measured, threshold=threshold, box=box)
