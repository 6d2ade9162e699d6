"""Ink and staff lines of a page: how far apart the lines lie, where they are seen, and the courses staves may take."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]

DARK = 110
"""Grey level of what is ink wherever it is."""
LEAST_STEP = 40
"""Least difference in grey of a thin line and the paper on both sides."""
SCALES = (0.7, 0.8, 0.9, 1.0, 1.1)
"""Staff sizes sought, relative to the commonest one: a singer's staff is often printed smaller."""
FOUND = 0.3
"""Least evidence (0..1) for a staff to go on in a place."""
ACCEPTED = 0.42
"""Least mean evidence along a candidate."""
LEAST_LENGTH = 12
"""Least length of a staff, in staff spaces."""
BREAK = 8
"""Longest gap in a staff that is bridged, in staff spaces."""
LEAST_TOTAL = 0.08
"""Candidates with less evidence than this share of the strongest one's are not looked for."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a page shows of staff lines; images are float32 (h, w) of 0 and 1."""

    lines: Floats
    """Parts of thin horizontal lines, one pixel fatter above and below than printed."""
    visible: Floats
    """Where a line could be seen, because no note or beam covers it."""
    sharp: Floats
    """All ink at the page's own resolution, a little fatter above and below: letters run together in a smaller one."""
    finer: float
    """Size of `sharp`, relative to the others."""


def resize(page: Grey, scale: float) -> Grey:
    """The page at another size, averaged when smaller, interpolated when larger."""
    if scale == 1:
        return page
    size = (max(1, round(page.shape[1] * scale)), max(1, round(page.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(page, size, interpolation=interpolation), dtype=np.uint8)


def binarise(page: Grey) -> Grey:
    """Ink 1, paper 0: dark, or thin and darker than both sides, as the lines of small images are."""
    thin = cv2.morphologyEx(page, cv2.MORPH_BLACKHAT, _bar(5, 5))
    return ((page < DARK) | (thin > LEAST_STEP)).astype(np.uint8)


def staff_space(ink: Grey) -> float | None:
    """Commonest distance of two lines in px: the mode of black run + next white run down the columns; None if no ink.

    Source: Cardoso & Rebelo, Robust staffline thickness and distance estimation (ICPR 2010).
    """
    columns = np.pad(ink[:, ::3].T, ((0, 0), (1, 1)))
    edges = np.flatnonzero(np.diff(columns.ravel().view(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if len(starts) < 100:
        return None
    black, pair = (ends - starts)[:-1], np.diff(starts)
    least, most = max(4, round(ink.shape[1] * 0.004)), max(40, ink.shape[1] // 12)
    counts = np.bincount(pair[(2 * black < pair) & (pair < most)], minlength=most).astype(float)
    counts[:least] = 0
    smooth = np.convolve(counts, [0.5, 1.0, 0.5], "same")
    mode = int(np.argmax(smooth))
    near = slice(max(mode - 1, 0), mode + 2)
    return float(np.average(np.arange(most)[near], weights=counts[near] + 1e-9)) if smooth[mode] else None


def line_evidence(ink: Grey, sharp: Grey, space: float) -> Evidence:
    thick = cv2.morphologyEx(ink, cv2.MORPH_OPEN, _bar(1, max(5, 0.45 * space)))
    thin = cv2.dilate(cv2.subtract(ink, thick), _bar(1, 3))
    thin = cv2.morphologyEx(thin, cv2.MORPH_CLOSE, _bar(0.5 * space, 1))
    lines = cv2.morphologyEx(thin, cv2.MORPH_OPEN, _bar(1.2 * space, 1))
    finer = sharp.shape[1] / ink.shape[1]
    return Evidence(
        lines=np.asarray(lines, dtype=np.float32),
        visible=np.asarray((thick == 0) | (lines > 0), dtype=np.float32),
        sharp=np.asarray(cv2.dilate(sharp, _bar(1, 1 + 2 * max(1.0, 0.08 * space * finer))), dtype=np.float32),
        finer=finer,
    )


def _bar(width: float, height: float) -> Grey:
    """A kernel of the nearest odd sizes: OpenCV shifts what it opens with an even one."""
    return np.ones((2 * round((height - 1) / 2) + 1, 2 * round((width - 1) / 2) + 1), np.uint8)


def _staff_evidence(lines: Floats, space: float) -> Floats:
    """float32 (strips, h): how much a staff's middle line at row y of a strip of one space's width is seen, up to 1."""
    height, width = lines.shape
    strips = max(1, round(width / space))
    shares = cv2.resize(lines, (strips, height), interpolation=cv2.INTER_AREA)
    shares = np.asarray(cv2.blur(shares, (3, 1)).T, dtype=np.float32)
    margin = round(4 * space * max(SCALES))
    padded = np.pad(shares, ((0, 0), (margin, margin)))

    def at(steps: float, size: float) -> Floats:
        start = margin + round(steps * size)
        return np.asarray(padded[:, start : start + height], dtype=np.float32)

    best = np.zeros_like(shares)
    for size in (space * scale for scale in SCALES):
        five = sum(at(k, size) for k in (-2, -1, 0, 1, 2)) / 5
        between = sum(at(k, size) for k in (-1.5, -0.5, 0.5, 1.5)) / 4
        beyond = (at(-3, size) + at(3, size)) / 2
        best = np.maximum(best, five - between - 0.2 * beyond)
    return np.asarray(best, dtype=np.float32)


def courses(lines: Floats, space: float) -> Iterator[tuple[Floats, Floats]]:
    """Columns and rows of the middle line of each staff, strongest first.

    Each is the best smooth path over the page through the evidence not yet explained.
    """
    evidence = _staff_evidence(lines, space)
    width = lines.shape[1] / len(evidence)
    band = round(3.5 * space)
    least = LEAST_LENGTH * ACCEPTED
    for _ in range(100):
        path, total = _best_path(evidence)
        if total < least:
            return
        least = max(least, LEAST_TOTAL * total)
        along = evidence[np.arange(len(path)), path]
        runs = list(_runs(along))
        for start, stop in runs:
            sure = start + np.flatnonzero(along[start:stop] >= FOUND)
            strips = np.arange(start, stop)
            ys = np.interp(strips, sure, path[sure])
            yield ((strips + 0.5) * width).astype(np.float32), smooth(ys)
        for start, stop in runs or [(0, len(path))]:
            for strip in range(max(start - 2, 0), min(stop + 2, len(path))):
                evidence[strip, max(path[strip] - band, 0) : path[strip] + band + 1] = 0


def _best_path(evidence: Floats) -> tuple[NDArray[np.intp], float]:
    """Row of each strip on the path of most evidence, which moves at most a row a strip (5.7 degrees); and its sum."""
    strips, height = evidence.shape
    moves = np.zeros((strips, height), np.int8)
    total = evidence[0].copy()
    for strip in range(1, strips):
        above, below = np.full(height, -1.0, np.float32), np.full(height, -1.0, np.float32)
        above[1:], below[:-1] = total[:-1] - np.float32(0.02), total[1:] - np.float32(0.02)
        moves[strip] = np.where(above > total, -1, 0)
        total = np.maximum(total, above)
        moves[strip][below > total] = 1
        total = np.maximum(total, below) + evidence[strip]
    path = np.empty(strips, np.intp)
    path[-1] = np.argmax(total)
    for strip in range(strips - 1, 0, -1):
        path[strip - 1] = path[strip] + moves[strip, path[strip]]
    return path, float(total.max())


def _runs(along: Floats) -> Iterator[tuple[int, int]]:
    """Start and stop of the stretches of a path that are staves."""
    seen = np.flatnonzero(np.convolve(along, np.ones(3) / 3, "same") >= FOUND)
    for run in np.split(seen, np.flatnonzero(np.diff(seen) > BREAK) + 1):
        if len(run) and run[-1] + 1 - run[0] >= LEAST_LENGTH:
            start, stop = int(run[0]), int(run[-1]) + 1
            if along[start:stop].mean() >= ACCEPTED:
                yield start, stop


def smooth(ys: Floats | NDArray[np.float64]) -> Floats:
    """ys without the steps of whole rows and without single outliers."""
    padded = np.pad(ys, 4, mode="edge").astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 9)
    middle = np.sort(windows, axis=1)[:, 2:7].mean(axis=1)
    return np.asarray(middle, dtype=np.float32)
