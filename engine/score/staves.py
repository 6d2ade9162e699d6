"""Courses -> staves: each course is fitted to the five lines along it, and judged by how much of the lines is seen."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from engine.score import kernels
from engine.score.courses import BETWEEN, BEYOND, LINES, MAX_BREAK, MIN_LENGTH, Course, smooth
from engine.score.levels import Grey
from engine.score.lines import Floats, Lines
from engine.score.rejection import Reject, Rejection, ignore
from engine.values import Box

MIN_COVERAGE = 0.86
"""Smallest share of the five lines that is ink. Lines of bold text reach 0.83; staves of real scans have 0.97 and
more."""
MIN_LONG = 0.5
"""Smallest length, as a share of the longest staff's, of the staves that show where staves start on the page."""
MAX_INDENT = 2.0
"""Largest distance between the left ends of a short staff and of the long staves, in staff spaces. A short staff with a
larger distance is indented. The last bars of a piece are short and not indented."""
MIN_INDENTED = 0.25
"""Smallest length of an indented staff, as a share of the longest staff's length. Beams and slurs are shorter. A staff
that ends where a staff beside it does is none of them, however short."""
MIN_DISTANCE = 4.2
"""Smallest distance of two staves, middle line to middle line, in staff spaces. Closer staves are the same staff."""
MAX_GAP = 25
"""Longest gap across which two parts of a staff are joined, in staff spaces: beams and chords cover lines. Beside a
whole staff the gap may be longer."""
MAX_BESIDE = 20
"""Largest distance of a staff and the one beside it, in staff spaces: the other staff of a piano is nearer."""
MAX_STEP = 0.6
"""Largest vertical step between two parts that are joined, in staff spaces: less than the distance of two lines."""
MAX_SHIFT = 1.5
"""Largest distance between a staff's middle line and its course, in staff spaces: courses catch on ledger lines."""
SIZES = (0.65, 1.25)
"""Smallest and largest staff space that is fitted, relative to the page's commonest."""
MAX_LAG = 0.4
"""Largest move of a single row of a course, in staff spaces. Rows are moved because a course lags behind a tilted
staff."""
LAG_REACH = 2
"""Distance on both sides within which columns decide the move of a row, in staff spaces."""
MIN_GAIN = 0.02
"""Smallest difference in fit by which the best move beats another. Lines are thick, so a row moves by the mean of all
moves with nearly the best fit: to the middle of the line."""
MIN_VISIBLE = 0.3
"""Smallest share of a line free of notes and beams with which the line can count as fully seen."""
MIN_LINES = 3
"""Smallest number of the five lines that are seen at a staff's first and last column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff(Course):
    """One staff: the course of its middle line, in pixels."""

    space: float
    """Distance of two lines, in px."""
    strength: float
    """How much of the five lines is seen, 0..1."""

    def scaled(self, factor: float) -> "Staff":
        """Returns the staff on the page resized by `factor`."""
        return replace(
            self, xs=self.xs * np.float32(factor), ys=self.ys * np.float32(factor), space=self.space * factor
        )

    def box(self, width: int) -> Box:
        """Returns the box of the staff's lines, in page widths. A skewed or bent staff has its height at mid-length.

        width: width of the page in px.
        """
        reach = 2 * self.space
        return Box(x0=self.x0 / width, y0=(self.y - reach) / width, x1=self.x1 / width, y1=(self.y + reach) / width)


def find_staves(courses: Iterable[Course], lines: Lines, reject: Reject = ignore) -> list[Staff]:
    """Returns the staves that run along these courses, top to bottom, in pixels of `lines.seen`."""
    fitted = [_fitted(course, lines, reject) for course in courses]
    inked = [staff for staff in fitted if staff is not None]
    staves = _joined(_apart(_in_place(inked, lines, reject), lines, reject))
    return sorted(staves, key=lambda staff: staff.y)


def _fitted(course: Course, lines: Lines, reject: Reject) -> Staff | None:
    """Returns the staff along a course, with its staff space, middle line and ends.

    Returns None if the staff is too short, or too little of its lines is ink.
    """
    columns = np.arange(round(course.x0), round(course.x1) + 1, dtype=np.float32)
    _, shift, space = _fit(lines, columns, course.rows(columns), lines.space)
    middle = _tracked(lines, replace(course, ys=course.ys + np.float32(shift)), space)
    rows = middle.rows(columns)
    strength, _, _ = _fit(lines, columns, rows, space)
    x0, x1 = _ends(lines, middle, space)
    knots = np.unique(np.concatenate([[x0], middle.xs[(middle.xs > x0) & (middle.xs < x1)], [x1]])).astype(np.float32)
    staff = Staff(xs=knots, ys=middle.rows(knots), space=space, strength=min(strength, 1.0))
    if staff.length < MIN_LENGTH * space:
        reject(_rejection(staff, "length below MIN_LENGTH", staff.length / space, MIN_LENGTH, lines))
        return None
    coverage = _coverage(lines, columns, rows, space)
    if coverage < MIN_COVERAGE:
        reject(_rejection(staff, "inked share below MIN_COVERAGE", coverage, MIN_COVERAGE, lines))
        return None
    return staff


def _in_place(staves: list[Staff], lines: Lines, reject: Reject) -> list[Staff]:
    """Returns the staves without the short ones that start elsewhere than the long staves."""
    longest = max((staff.length for staff in staves), default=0.0)
    long = [staff for staff in staves if staff.length >= MIN_LONG * longest]
    tilt = float(np.median([staff.slope for staff in long] or [0.0]))
    left = float(np.median([staff.x0 + tilt * staff.y for staff in long] or [0.0]))
    kept: list[Staff] = []
    doubtful: list[Staff] = []
    for staff in staves:
        indented = abs(staff.x0 + tilt * staff.y - left) > MAX_INDENT * staff.space
        (doubtful if indented and staff.length < MIN_INDENTED * longest else kept).append(staff)
    for staff in doubtful:
        if any(_end_together(staff, other, tilt) for other in kept):
            kept.append(staff)
        else:
            share = staff.length / longest
            reject(_rejection(staff, "length of an indented staff below MIN_INDENTED", share, MIN_INDENTED, lines))
    return kept


def _end_together(a: Staff, b: Staff, tilt: float) -> bool:
    """Returns whether two staves, one beside the other, end at one barline and are about as long."""
    limit = MAX_INDENT * a.space
    return (
        abs(a.y - b.y) <= MAX_BESIDE * a.space
        and abs(a.x1 + tilt * a.y - b.x1 - tilt * b.y) <= limit
        and abs(a.length - b.length) <= 2 * limit
    )


def _apart(staves: list[Staff], lines: Lines, reject: Reject) -> list[Staff]:
    """Returns the staves without those that lie too close to a stronger staff."""
    kept: list[Staff] = []
    for staff in sorted(staves, key=lambda staff: -staff.strength * staff.length):
        distance = min((_distance(staff, other) for other in kept), default=np.inf)
        if distance < MIN_DISTANCE:
            reject(
                _rejection(staff, "distance from a stronger staff below MIN_DISTANCE", distance, MIN_DISTANCE, lines)
            )
        else:
            kept.append(staff)
    return kept


def _distance(a: Staff, b: Staff) -> float:
    """Returns the distance of two middle lines, in staff spaces; infinite if no column has both staves."""
    x0, x1 = max(a.x0, b.x0), min(a.x1, b.x1)
    if x1 <= x0:
        return np.inf
    columns = np.linspace(x0, x1, 9)
    return float(np.median(np.abs(a.rows(columns) - b.rows(columns)))) / max(a.space, b.space)


def _joined(staves: list[Staff]) -> list[Staff]:
    """Returns the staves, with the parts of a staff joined that notes or beams break up."""
    whole: list[Staff] = []
    for staff in sorted(staves, key=lambda staff: staff.x0):
        number = next((n for n, left in enumerate(whole) if _continues(left, staff, staves)), None)
        if number is None:
            whole.append(staff)
        else:
            whole[number] = _join(whole[number], staff)
    return whole


def _continues(left: Staff, right: Staff, staves: list[Staff]) -> bool:
    """Returns whether the right staff continues the left one: in the same row, after a gap that is short or beside a
    staff of the page.

    Two pages side by side have a gap between them in all of their staves.
    """
    middle = np.array([(left.x1 + right.x0) / 2])
    step = abs(left.rows(middle) - right.rows(middle))[0]
    if right.x0 <= left.x1 or step >= MAX_STEP * left.space:
        return False
    if right.x0 - left.x1 <= MAX_GAP * left.space:
        return True
    return any(
        staff.x0 <= left.x1
        and staff.x1 >= right.x0
        and abs(staff.rows(middle) - left.rows(middle))[0] <= MAX_BESIDE * left.space
        for staff in staves
    )


def _join(left: Staff, right: Staff) -> Staff:
    """Returns one staff made of two parts."""
    shares = np.array([left.length, right.length]) / (left.length + right.length)
    return Staff(
        xs=np.concatenate([left.xs, right.xs]),
        ys=np.concatenate([left.ys, right.ys]),
        space=float(shares @ [left.space, right.space]),
        strength=float(shares @ [left.strength, right.strength]),
    )


def _fit(lines: Lines, columns: Floats, rows: Floats, space: float) -> tuple[float, float, float]:
    """Returns strength, shift of the middle line in px, and staff space in px of the best fit to the lines at a course.

    Strength is the seen share of the five lines, minus what is seen between and beyond the lines.
    """
    first = np.float32(-7 * space)
    count = round(14 * space * kernels.PARTS)
    seen, visible = (_profile(image, columns[::3], rows[::3], first, count) for image in (lines.seen, lines.visible))
    shifts = np.arange(-MAX_SHIFT, MAX_SHIFT, 0.05) * space
    spaces = space * np.arange(*SIZES, 0.005)
    steps = np.concatenate([LINES, BETWEEN, BEYOND])
    weights = np.array([0.2] * 5 + [-0.125] * 4 + [-0.05] * 2)
    profile = seen / np.maximum(visible, MIN_VISIBLE)
    strength, shift, size = kernels.best_fit(profile, first, shifts, spaces, steps, weights)
    return float(strength), float(shifts[shift]), float(spaces[size])


def _profile(image: Grey, columns: Floats, rows: Floats, first: np.float32, count: int) -> Floats:
    """Returns the image's mean, 0..1, along the course at `count` offsets from the course, float32 (count,).

    first: the first offset, in px; the others follow in steps of 1 / `kernels.PARTS`.
    """
    last = first + np.float32(count / kernels.PARTS)
    top, bottom = max(0, int(rows.min() + first) - 1), int(rows.max() + last) + 3
    band = np.ascontiguousarray(image[top : max(bottom, top + 1), columns.astype(np.intp)].T, np.float32)
    means = np.empty(count, np.float32)
    kernels.profile(band, rows - np.float32(top), first, means)
    return means / np.float32(255)


def _tracked(lines: Lines, course: Course, space: float) -> Course:
    """Returns the course with each row moved to the nearby lines."""
    shifts = np.arange(-MAX_LAG, MAX_LAG + 0.01, 0.05, dtype=np.float32) * np.float32(space)
    steps = np.concatenate([LINES, BETWEEN]) * np.float32(space)
    weights = np.array([0.2] * 5 + [-0.25] * 4, np.float32)
    columns = np.arange(course.xs[0], course.xs[-1] + 1, 2, dtype=np.float32)
    offsets = (shifts[:, None] + steps).ravel()
    seen = _sample(lines.seen, columns, course.rows(columns), offsets)
    fit = weights @ seen.reshape(len(shifts), len(steps), -1)
    near = cv2.blur(fit, (2 * round(LAG_REACH * space) + 1, 1))
    near = near[:, np.searchsorted(columns, course.xs).clip(0, len(columns) - 1)]
    best = near >= near.max(axis=0) - MIN_GAIN
    return replace(course, ys=smooth(course.ys + (shifts @ best) / best.sum(axis=0)))


def _coverage(lines: Lines, columns: Floats, rows: Floats, space: float) -> float:
    """Returns the share of the five lines that is ink, whether line or note."""
    finer = np.float32(lines.finer)
    columns, rows = (
        finer * (places[::3] + 0.5) - 0.5 for places in (columns, rows)
    )  # from centres of pixels to centres of pixels
    return float(_sample(lines.sharp, columns, rows, LINES * np.float32(space) * finer).mean())


def _ends(lines: Lines, middle: Course, space: float) -> tuple[float, float]:
    """Returns the first and last column with most of the five lines, at or a little beyond the ends of the course."""
    reach = MAX_BREAK * space
    columns = np.arange(max(0, middle.xs[0] - reach), min(lines.width - 1, middle.xs[-1] + reach), dtype=np.float32)
    seen = _sample(lines.seen, columns, middle.rows(columns), LINES * np.float32(space)).sum(axis=0)
    present = np.flatnonzero(np.convolve(seen, np.ones(5) / 5, "same") >= MIN_LINES)
    if not len(present):
        return middle.x0, middle.x0
    return float(columns[present[0]]), float(columns[present[-1]])


def _sample(image: Grey, columns: Floats, rows: Floats, offsets: Floats) -> Floats:
    """Returns the image's values, 0..1, at each column and its row + each offset, float32 (offsets, columns)."""
    map_x = np.ascontiguousarray(np.broadcast_to(columns, (len(offsets), len(columns))))
    map_y = rows[None, :] + offsets[:, None]
    return np.asarray(cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR), dtype=np.float32) / np.float32(255)


def _rejection(staff: Staff, reason: str, measured: float, threshold: float, lines: Lines) -> Rejection:
    """Returns the rejection of a staff."""
    box = staff.box(lines.width)
    return Rejection(stage="staff", reason=reason, measured=measured, threshold=threshold, box=box)
