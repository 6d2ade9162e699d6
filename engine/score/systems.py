"""Staves -> systems: barlines join the staves of a system."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.courses import Course
from engine.score.ink import Ink, bar
from engine.score.levels import Grey
from engine.score.lines import Floats
from engine.score.rejection import Reject, Rejection, ignore
from engine.score.staves import Staff
from engine.values import Box

MIN_BAR_INK = 0.85
"""Smallest share of ink between two staves with which a column is a barline."""
MAX_END_DISTANCE = 1.2
"""Largest distance between the left end of a staff and the line that opens a system, in staff spaces."""
MAX_APART_INK = 0.6
"""Share of ink below which a column cannot be the line that opens a system. The dots of such a line on a bad scan have
more."""
MIN_SURE_BARS = 3
"""Smallest number of barlines that put two staves into one system without an opening line. Slurs may look like two
barlines."""
MAX_APART_BARS = 1
"""Largest number of barlines that two staves of different systems may seem to share, because of a slur."""
MIN_OVERLAP = 0.5
"""Smallest length that two staves of a system have in common, as a share of the longer staff."""
MAX_INNER_DISTANCE = 1.2
"""Largest distance of two staves within a system, relative to the usual distance. Used on a page without a clear gap
between two systems."""
MAX_ALTERNATION = 0.9
"""Largest ratio of the widest of every other gap to the narrowest of the remaining gaps, where every other gap is
clearly narrower."""
MIN_RELATIVE_SPACE, MIN_RELATIVE_LENGTH = 0.8, 0.5
"""Smallest staff space and length of a system, relative to the usual staff. A system below both is an ossia or an
incipit."""
EDGE = 2.3
"""Distance from a middle line where the way to the next staff begins, in staff spaces: just beyond the outer line."""
STEPS = 48
"""Number of points on that way where ink is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemCourse(Course):
    """The course of a system's middle, in pixels of the page, with the sizes needed to cut the system out."""

    height: float
    """Height from the top staff's first line to the bottom staff's last line, in px."""
    staff_space: float
    """Distance of two staff lines, in px."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSystem:
    """One system found on a page."""

    course: SystemCourse
    box: Box
    """Box round the staff lines, in page widths. A skewed or bent system has its height at mid-length."""
    staves: tuple[Box, ...]
    """Boxes of the staves, top to bottom, in page widths."""
    staff_space: float
    """Distance of two staff lines, in page widths."""
    confidence: float
    """Mean strength of the staves, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The gap between a staff and the next staff below, with the evidence for a common system."""

    left: float
    """Largest share of ink of a column near the left ends, 0..1."""
    bars: int
    """Number of barlines that cross the gap."""
    distance: float
    """Distance from middle line to middle line, in staff spaces."""
    overlap: float
    """Length that both staves have in common, as a share of the longer staff."""

    @property
    def surely_inside(self) -> bool:
        """Returns whether a line shows that the gap lies within a system."""
        return self.overlap >= MIN_OVERLAP and (self.left >= MIN_BAR_INK or self.bars >= MIN_SURE_BARS)

    @property
    def surely_between(self) -> bool:
        """Returns whether the lack of lines shows that the gap lies between two systems."""
        return self.overlap < MIN_OVERLAP or (self.left < MAX_APART_INK and self.bars <= MAX_APART_BARS)


def find_gaps(staves: list[Staff], ink: Ink) -> list[Gap]:
    """Returns the gaps between neighbouring staves, one fewer than staves."""
    wide = np.asarray(cv2.dilate(ink.pixels, bar(3, 3)), dtype=np.uint8)
    return [_gap(above, below, wide) for above, below in pairwise(staves)]


def within_systems(gaps: list[Gap]) -> list[bool]:
    """Returns whether each gap lies within a system.

    The evidence of the gap itself decides. If that is not clear, the gap is compared with the other gaps of the page.
    """
    if _alternating(gaps) and all(gap.surely_between for gap in gaps):
        return [number % 2 == 0 for number in range(len(gaps))]
    inner = [gap.distance for gap in gaps if gap.surely_inside]
    outer = [gap.distance for gap in gaps if gap.surely_between]
    if inner and outer:
        limit = float(np.median(inner) + np.median(outer)) / 2
    else:
        limit = MAX_INNER_DISTANCE * float(np.median(inner)) if inner else np.inf
    apart = [True, *(gap.surely_between for gap in gaps), True]
    # Two staves that the page's other systems leave alone belong together, however far apart they are.
    alone = [bool(inner) and apart[number] and apart[number + 2] for number in range(len(gaps))]
    return [
        gap.surely_inside or (not gap.surely_between and (gap.distance < limit or pair))
        for gap, pair in zip(gaps, alone, strict=True)
    ]


def grouped(staves: list[Staff], joined: list[bool], width: int, reject: Reject = ignore) -> list[FoundSystem]:
    """Returns the systems that the staves make, top to bottom, without ossias and incipits.

    joined: whether each staff but the last belongs to one system with the next. width: width of the page in px.
    """
    groups: list[list[Staff]] = [staves[:1]] if staves else []
    for staff, join in zip(staves[1:], joined, strict=True):
        if join:
            groups[-1].append(staff)
        else:
            groups.append([staff])
    return [_system(group, width) for group in _main(groups, width, reject)]


def _gap(above: Staff, below: Staff, wide: Grey) -> Gap:
    """Returns the gap between two staves. wide: the ink, at the size of the staves, one pixel thicker all round."""
    space = (above.space + below.space) / 2
    x0, x1 = max(above.x0, below.x0), min(above.x1, below.x1)
    overlap = (x1 - x0) / max(above.length, below.length)
    distance = (below.y - above.y) / space
    if overlap < MIN_OVERLAP:
        return Gap(left=0.0, bars=0, distance=distance, overlap=overlap)
    reach = MAX_END_DISTANCE * space
    columns = np.arange(min(above.x0, below.x0) - reach, x1 + reach, dtype=np.float32)
    share = _shares(above, below, columns, wide)
    ends = np.abs(columns[:, None] - [above.x0, below.x0]).min(axis=1) <= reach
    bars = _count(share >= MIN_BAR_INK, round(space))
    return Gap(left=float(share[ends].max()), bars=bars, distance=distance, overlap=overlap)


def _shares(above: Staff, below: Staff, columns: Floats, wide: Grey) -> Floats:
    """Returns the share of ink between two staves at each column, along the tilt, float32 (columns,)."""
    top = above.rows(columns) + EDGE * above.space
    bottom = below.rows(columns) - EDGE * below.space
    rows = top + np.linspace(0, 1, STEPS, dtype=np.float32)[:, None] * np.maximum(bottom - top, 1)
    tilt = (above.slope + below.slope) / 2
    tilted = columns - np.float32(tilt) * (rows - rows.mean(axis=0))
    patch = cv2.remap(wide, tilted, rows, cv2.INTER_NEAREST)
    return np.asarray(patch.mean(axis=0), dtype=np.float32)


def _count(flags: NDArray[np.bool_], apart: int) -> int:
    """Returns the number of groups of set flags. Groups lie at least `apart` from each other."""
    where = np.flatnonzero(flags)
    return int(len(where) > 0) + int((np.diff(where) >= apart).sum())


def _alternating(gaps: list[Gap]) -> bool:
    """Returns whether every other gap is clearly narrower, as on a piano page without visible barlines."""
    inner, outer = [gap.distance for gap in gaps[::2]], [gap.distance for gap in gaps[1::2]]
    return len(inner) == len(outer) + 1 >= 2 and max(inner) < MAX_ALTERNATION * min(outer)


def _main(groups: list[list[Staff]], width: int, reject: Reject) -> list[list[Staff]]:
    """Returns the groups of staves without ossias and incipits."""
    staves = [staff for group in groups for staff in group]
    if not staves:
        return []
    length = float(np.median([staff.length for staff in staves]))
    space = float(np.median([staff.space for staff in staves]))
    kept = []
    for group in groups:
        longest, largest = max(staff.length for staff in group), max(staff.space for staff in group)
        if largest < MIN_RELATIVE_SPACE * space and longest < MIN_RELATIVE_LENGTH * length:
            reject(
                Rejection(
                    stage="system",
                    reason="staff space of a short system below MIN_RELATIVE_SPACE",
                    measured=largest / space,
                    threshold=MIN_RELATIVE_SPACE,
                    box=_around([staff.box(width) for staff in group]),
                )
            )
        else:
            kept.append(group)
    return kept


def _system(staves: list[Staff], width: int) -> FoundSystem:
    """Returns the system of these staves. width: width of the page in px."""
    top, bottom = staves[0], staves[-1]
    xs = np.unique(np.concatenate([top.xs, bottom.xs])).astype(np.float32)
    upper = top.rows(xs) - 2 * top.space
    lower = bottom.rows(xs) + 2 * bottom.space
    space = float(np.median([staff.space for staff in staves]))
    middle = ((upper + lower) / 2).astype(np.float32)
    boxes = tuple(staff.box(width) for staff in staves)
    return FoundSystem(
        course=SystemCourse(xs=xs, ys=middle, height=float(np.median(lower - upper)), staff_space=space),
        box=_around(boxes),
        staves=boxes,
        staff_space=space / width,
        confidence=float(np.mean([staff.strength for staff in staves])),
    )


def _around(staves: list[Box] | tuple[Box, ...]) -> Box:
    """Returns the box round all staves, from the first staff's top line to the last staff's bottom line."""
    return Box(
        x0=min(box.x0 for box in staves),
        y0=staves[0].y0,
        x1=max(box.x1 for box in staves),
        y1=staves[-1].y1,
    )
