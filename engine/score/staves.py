"""Page image -> staves: five lines at equal distance, followed across the page however it is skewed or bent."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.staff_lines import (
    BREAK,
    LEAST_LENGTH,
    Evidence,
    Floats,
    Grey,
    binarise,
    courses,
    line_evidence,
    resize,
    smooth,
    staff_space,
)

WORKING_SPACE = 10.0
"""Staff space in px at which lines are sought: pages of another resolution are resized to it."""
SPACE_RANGE = (7.5, 14.0)
"""Staff spaces in px that are left as they are."""
SMALL_PAGE = 1200
"""Pages less wide, in px, are doubled before their staff space is measured."""
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
LONGEST_GAP = 25
"""Longest gap in staff spaces, covered by beams or chords, across which two parts of a staff are put together."""
FIVE_LINES = np.arange(-2, 3, dtype=np.float32)
"""Places of the lines, in staff spaces from the middle one."""
TRACK = 0.4
"""How far, in staff spaces, a course may lie beside its staff."""
LEAST_VISIBLE = 0.3
"""Share of a line that must be free of notes and beams for it to count as fully seen."""


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
    evidence = line_evidence(ink, sharp, space * scale)
    candidates = [_refined(evidence, course, space * scale) for course in courses(evidence.lines, space * scale)]
    staves = _whole(_credible([staff for staff in candidates if staff is not None]))
    return sorted(staves, key=lambda staff: staff.y), ink, scale


def _credible(candidates: list[Staff]) -> list[Staff]:
    """Those that are strong enough for their length and overlap no stronger one."""
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
    return found


def _overlap(a: Staff, b: Staff) -> bool:
    """Whether two staves claim the same place."""
    x0, x1 = max(a.x0, b.x0), min(a.x1, b.x1)
    if x1 <= x0:
        return False
    columns = np.linspace(x0, x1, 9)
    apart = np.abs(a.rows(columns) - b.rows(columns))
    return bool(np.median(apart) < 4.2 * max(a.space, b.space))


def _whole(staves: list[Staff]) -> list[Staff]:
    """The staves, those put together that are parts of one which notes or beams break up."""
    whole: list[Staff] = []
    for staff in sorted(staves, key=lambda staff: staff.x0):
        number = next((n for n, left in enumerate(whole) if _continues(left, staff)), None)
        if number is None:
            whole.append(staff)
        else:
            whole[number] = _joined(whole[number], staff)
    return whole


def _continues(left: Staff, right: Staff) -> bool:
    """Whether the right staff goes on in the row where the left one ends, not too far off."""
    if not 0 < right.x0 - left.x1 <= LONGEST_GAP * left.space:
        return False
    middle = np.array([(left.x1 + right.x0) / 2])
    return bool(abs(left.rows(middle) - right.rows(middle))[0] < 0.6 * left.space)


def _joined(left: Staff, right: Staff) -> Staff:
    shares = np.array([left.length, right.length]) / (left.length + right.length)
    return Staff(
        xs=np.concatenate([left.xs, right.xs]),
        ys=np.concatenate([left.ys, right.ys]),
        space=float(shares @ [left.space, right.space]),
        strength=float(shares @ [left.strength, right.strength]),
    )


def _refined(evidence: Evidence, course: tuple[Floats, Floats], space: float) -> Staff | None:
    """The staff with its own staff space, middle line and ends, measured along its whole course; None if it is none."""
    xs, ys = course
    columns = np.arange(round(xs[0]), round(xs[-1]) + 1, dtype=np.float32)
    strength, shift, own = _fit(evidence, columns, follow(xs, ys, columns), space)
    ys = _tracked(evidence, xs, ys + np.float32(shift), own)
    strength = _fit(evidence, columns, follow(xs, ys, columns), own)[0]
    x0, x1 = _ends(evidence.lines, xs, ys, own)
    if x1 - x0 < LEAST_LENGTH * own or _coverage(evidence, columns, follow(xs, ys, columns), own) < COVERAGE:
        return None
    knots = np.unique(np.concatenate([[x0], xs[(xs > x0) & (xs < x1)], [x1]])).astype(np.float32)
    return Staff(xs=knots, ys=follow(xs, ys, knots), space=own, strength=min(strength, 1.0))


def _tracked(evidence: Evidence, xs: Floats, ys: Floats, space: float) -> Floats:
    """The rows of a course, each moved to where the lines near it are: the course itself lags behind where it tilts."""
    shifts = np.arange(-TRACK, TRACK + 0.01, 0.05, dtype=np.float32) * np.float32(space)
    steps = np.array([-2, -1, 0, 1, 2, -1.5, -0.5, 0.5, 1.5], np.float32) * np.float32(space)
    weights = np.array([0.2] * 5 + [-0.25] * 4, np.float32)
    columns = np.arange(xs[0], xs[-1] + 1, 2, dtype=np.float32)
    offsets = (shifts[:, None] + steps).ravel()
    seen = _sample(evidence.lines, columns, follow(xs, ys, columns), offsets)
    fit = np.tensordot(weights, seen.reshape(len(shifts), len(steps), -1), axes=(0, 1))
    near = cv2.blur(fit, (2 * round(2 * space) + 1, 1))  # four staff spaces to both sides
    near = near[:, np.searchsorted(columns, xs).clip(0, len(columns) - 1)]
    best = (
        near >= near.max(axis=0) - 0.02
    )  # lines are thick, so that neighbouring shifts fit as well: take their middle
    return smooth(ys + (shifts @ best) / best.sum(axis=0))


def _coverage(evidence: Evidence, columns: Floats, rows: Floats, space: float) -> float:
    """Share of the five lines that is ink, whether line or note."""
    finer = np.float32(evidence.finer)
    lines = FIVE_LINES * np.float32(space) * finer
    columns, rows = (finer * (places[::3] + 0.5) - 0.5 for places in (columns, rows))  # centres of pixels
    return float(_sample(evidence.sharp, columns, rows, lines).mean())


def _sample(image: Floats, columns: Floats, rows: Floats, offsets: Floats) -> Floats:
    """float32 (offsets, columns): the image at each row + offset, columns as they are."""
    map_x = np.ascontiguousarray(np.broadcast_to(columns, (len(offsets), len(columns))))
    map_y = rows[None, :] + offsets[:, None]
    return np.asarray(cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR), dtype=np.float32)


def _fit(evidence: Evidence, columns: Floats, rows: Floats, space: float) -> tuple[float, float, float]:
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
