"""Page image -> staves: five lines at equal distance, followed across the page however it is skewed or bent."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]

WORKING_SPACE = 10.0
"""Staff space in px at which lines are sought: pages of another resolution are resized to it."""
SPACE_RANGE = (7.5, 14.0)
"""Staff spaces in px that are left as they are."""
SMALL_PAGE = 1200
"""Pages less wide, in px, are doubled before their staff space is measured."""
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
STRENGTH = 0.55
"""Least strength of a staff. Staves of real scans have 0.8 and more."""
COVERAGE = 0.86
"""Least share of the five lines that is ink. Lines of bold text reach 0.83, staves of real scans 0.97 and more."""
SHORT_STRENGTH = 0.7
"""The same for those less than half as long as the longest: slurs, beams and ledger lines make short candidates."""
SHORT = 0.25
"""Least length, as a share of the longest, of a staff that does not start where the long ones do, as last bars do."""
ALIGNED = 2.0
"""Distance of left ends, in staff spaces, up to which two staves start in the same place."""
FIVE_LINES = np.arange(-2, 3, dtype=np.float32)
"""Places of the lines, in staff spaces from the middle one."""
LEAST_VISIBLE = 0.3
"""Share of a line that must be free of notes and beams for it to count as fully seen."""
LEAST_LENGTH = 12
"""Least length of a staff, in staff spaces."""
BREAK = 8
"""Longest gap in a staff that is bridged, in staff spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """One staff, in pixels of its page."""

    xs: Floats
    """(k,) increasing columns, from the left end of the staff lines to the right end."""
    ys: Floats
    """(k,) row of the middle line there."""
    space: float
    """Distance of two lines."""
    strength: float
    """0..1, how much of the five lines was seen."""

    @property
    def x0(self) -> float:
        return float(self.xs[0])

    @property
    def x1(self) -> float:
        return float(self.xs[-1])

    @property
    def length(self) -> float:
        return self.x1 - self.x0

    @property
    def y(self) -> float:
        """Row of the middle line at mid-length."""
        return float(np.median(self.ys))

    @property
    def slope(self) -> float:
        return slope(self.xs, self.ys)

    def rows(self, columns: Floats | NDArray[np.float64]) -> Floats:
        """Row of the middle line at any columns, going on straight beyond the ends."""
        return follow(self.xs, self.ys, columns)

    def scaled(self, factor: float) -> "Staff":
        """The same staff on the page resized by `factor`."""
        return Staff(
            xs=self.xs * np.float32(factor),
            ys=self.ys * np.float32(factor),
            space=self.space * factor,
            strength=self.strength,
        )


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What a page shows of staff lines; images are float32 (h, w) of 0 and 1."""

    lines: Floats
    """Parts of thin horizontal lines, one pixel fatter above and below than printed."""
    visible: Floats
    """Where a line could be seen, because no note or beam covers it."""
    sharp: Floats
    """All ink at the page's own resolution, a little fatter above and below: letters run together in a smaller one."""
    finer: float
    """Size of `sharp`, relative to the others."""


def slope(xs: Floats, ys: Floats) -> float:
    """Rows per column of the straight line closest to a curve."""
    across = xs - xs.mean()
    return float((across * (ys - ys.mean())).sum() / max(float((across * across).sum()), 1e-9))


def follow(xs: Floats, ys: Floats, columns: Floats | NDArray[np.float64]) -> Floats:
    """float32, as many as columns: the curve there; beyond its ends it goes on at its overall slope."""
    beyond = columns - np.clip(columns, xs[0], xs[-1])
    return np.asarray(np.interp(columns, xs, ys) + slope(xs, ys) * beyond, dtype=np.float32)


def find_staves(page: Grey) -> tuple[list[Staff], Grey, float]:
    """Staves of a page from top to bottom, the ink they were found in, and that ink's scale.

    page: uint8 (h, w), white 255, grey levels normalised.
    Returns the staves in pixels of the ink; the ink, uint8 (h', w') of 0 and 1; and w' / w.
    """
    enlarged = 2.0 if page.shape[1] < SMALL_PAGE else 1.0
    ink = binarise(resize(page, enlarged))
    enlarged_space = staff_space(ink)
    if enlarged_space is None:
        return [], ink, enlarged
    space = enlarged_space / enlarged
    scale = 1.0 if SPACE_RANGE[0] <= space <= SPACE_RANGE[1] else WORKING_SPACE / space
    own, ink = ink, ink if scale == enlarged else binarise(resize(page, scale))
    sharp = own if scale < 1 else ink
    evidence = _line_evidence(ink, sharp, space * scale)
    candidates = [_refined(evidence, course, space * scale) for course in _courses(evidence.lines, space * scale)]
    return _credible([staff for staff in candidates if staff is not None]), ink, scale


def _credible(candidates: list[Staff]) -> list[Staff]:
    """Those that are strong enough for their length and overlap no stronger one, top to bottom."""
    strong = [staff for staff in candidates if staff.strength >= STRENGTH]
    longest = max((staff.length for staff in strong), default=0.0)
    long = [staff for staff in strong if staff.length >= longest / 2]
    tilt = float(np.median([staff.slope for staff in long] or [0.0]))
    left = float(np.median([staff.x0 + tilt * staff.y for staff in long] or [0.0]))

    def credible(staff: Staff) -> bool:
        if staff.length >= longest / 2:
            return True
        starts = abs(staff.x0 + tilt * staff.y - left) <= ALIGNED * staff.space
        return staff.strength >= SHORT_STRENGTH and (starts or staff.length >= SHORT * longest)

    found: list[Staff] = []
    for staff in sorted(filter(credible, strong), key=lambda staff: -staff.strength * staff.length):
        if not any(_overlap(staff, other) for other in found):
            found.append(staff)
    return sorted(found, key=lambda staff: staff.y)


def _overlap(a: Staff, b: Staff) -> bool:
    """Whether two staves claim the same place."""
    x0, x1 = max(a.x0, b.x0), min(a.x1, b.x1)
    if x1 <= x0:
        return False
    columns = np.linspace(x0, x1, 9)
    apart = np.abs(a.rows(columns) - b.rows(columns))
    return bool(np.median(apart) < 4.2 * max(a.space, b.space))


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


def _line_evidence(ink: Grey, sharp: Grey, space: float) -> _Evidence:
    thick = cv2.morphologyEx(ink, cv2.MORPH_OPEN, _bar(1, max(5, 0.45 * space)))
    thin = cv2.dilate(cv2.subtract(ink, thick), _bar(1, 3))
    thin = cv2.morphologyEx(thin, cv2.MORPH_CLOSE, _bar(0.5 * space, 1))
    lines = cv2.morphologyEx(thin, cv2.MORPH_OPEN, _bar(1.2 * space, 1))
    finer = sharp.shape[1] / ink.shape[1]
    return _Evidence(
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


def _courses(lines: Floats, space: float) -> Iterator[tuple[Floats, Floats]]:
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
        least = max(least, SHORT / 3 * total)
        along = evidence[np.arange(len(path)), path]
        runs = list(_runs(along))
        for start, stop in runs:
            sure = start + np.flatnonzero(along[start:stop] >= FOUND)
            strips = np.arange(start, stop)
            ys = np.interp(strips, sure, path[sure])
            yield ((strips + 0.5) * width).astype(np.float32), _smooth(ys)
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


def _smooth(ys: NDArray[np.float64]) -> Floats:
    """ys without the steps of whole rows and without single outliers."""
    padded = np.pad(ys, 4, mode="edge").astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 9)
    middle = np.sort(windows, axis=1)[:, 2:7].mean(axis=1)
    return np.asarray(middle, dtype=np.float32)


def _refined(evidence: _Evidence, course: tuple[Floats, Floats], space: float) -> Staff | None:
    """The staff with its own staff space, middle line and ends, measured along its whole course; None if it is none."""
    xs, ys = course
    columns = np.arange(round(xs[0]), round(xs[-1]) + 1, dtype=np.float32)
    strength, shift, own = _fit(evidence, columns, follow(xs, ys, columns), space)
    ys = ys + np.float32(shift)
    x0, x1 = _ends(evidence.lines, xs, ys, own)
    if x1 - x0 < LEAST_LENGTH * own or _coverage(evidence, columns, follow(xs, ys, columns), own) < COVERAGE:
        return None
    knots = np.unique(np.concatenate([[x0], xs[(xs > x0) & (xs < x1)], [x1]])).astype(np.float32)
    return Staff(xs=knots, ys=follow(xs, ys, knots), space=own, strength=min(strength, 1.0))


def _coverage(evidence: _Evidence, columns: Floats, rows: Floats, space: float) -> float:
    """Share of the five lines that is ink, whether line or note."""
    finer = np.float32(evidence.finer)
    lines = FIVE_LINES * np.float32(space) * finer
    return float(_sample(evidence.sharp, columns[::3] * finer, rows[::3] * finer, lines).mean())


def _sample(image: Floats, columns: Floats, rows: Floats, offsets: Floats) -> Floats:
    """float32 (offsets, columns): the image at each row + offset, columns as they are."""
    map_x = np.ascontiguousarray(np.broadcast_to(columns, (len(offsets), len(columns))))
    map_y = rows[None, :] + offsets[:, None]
    return np.asarray(cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR), dtype=np.float32)


def _fit(evidence: _Evidence, columns: Floats, rows: Floats, space: float) -> tuple[float, float, float]:
    """Strength, shift of the middle line in px and staff space that explain best what lies round a course.

    Seen are lines at the five places of a staff, less what lies between them and beyond.
    """
    step = 0.125
    offsets = np.arange(-7 * space, 7 * space, step, dtype=np.float32)
    seen = _sample(evidence.lines, columns[::3], rows[::3], offsets).mean(axis=1)
    visible = _sample(evidence.visible, columns[::3], rows[::3], offsets).mean(axis=1)
    profile = seen / np.maximum(visible, LEAST_VISIBLE)
    shifts = np.arange(-1.5, 1.5, 0.05) * space
    spaces = space * np.arange(0.65, 1.25, 0.005)
    steps = np.array([-2, -1, 0, 1, 2, -1.5, -0.5, 0.5, 1.5, -3, 3])
    weights = np.array([0.2] * 5 + [-0.125] * 4 + [-0.05] * 2)
    places = shifts[:, None, None] + spaces[None, :, None] * steps
    fit = profile[np.rint((places - offsets[0]) / step).astype(np.intp)] @ weights
    best = np.unravel_index(np.argmax(fit), fit.shape)
    return float(fit[best]), float(shifts[best[0]]), float(spaces[best[1]])


def _ends(lines: Floats, xs: Floats, ys: Floats, space: float) -> tuple[float, float]:
    """First and last column where most of the five lines are seen, near the ends of the course."""
    reach = BREAK * space
    columns = np.arange(max(0, xs[0] - reach), min(lines.shape[1] - 1, xs[-1] + reach), dtype=np.float32)
    rows = follow(xs, ys, columns)
    seen = _sample(lines, columns, rows, FIVE_LINES * np.float32(space)).sum(axis=0)
    present = np.flatnonzero(np.convolve(seen, np.ones(5) / 5, "same") >= 3)
    if not len(present):
        return float(xs[0]), float(xs[0])
    return float(columns[present[0]]), float(columns[present[-1]])
