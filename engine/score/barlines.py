"""The strip of a system -> its barlines: columns of ink through all staves, and through the room between two of them.

A stem may be as long as a staff is high, but it ends in a staff or beyond it, and none runs through two staves. A line
that is worn, so that it is grey or broken, counts if nothing else is near it. Some lines are doubtful: those that are
worn and have a note beside them, and those that go on beyond the staves, as the stem of a chord over both staves does.
Whether they are barlines is seen from the widths of the measures (`engine.measures`). Where no line runs between the
staves, as in choral scores, or where there is one staff only, a barline must also end with the staff and have no note
beside it. A repeat sign that follows the clef and the key ends no measure, and the lines of a double bar are one
barline.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.levels import Grey
from engine.values import Box, System

DARK = 0.25
"""Darkness, 0..1, from which a pixel of the strip is ink: a thin line is grey at 7 px a staff space."""
FAINT = 0.18
"""Darkness from which a pixel is ink of a worn line."""
MIN_STAFF_INK = 0.9
"""Smallest share of ink in a column of each staff at a barline."""
MIN_GAP_INK = 0.98
"""Smallest share of ink between two staves at a barline. With 0.9, beams and slurs between the staves make two barlines
too many for each that is found."""
MIN_WORN_GAP_INK = 0.8
"""Smallest share of ink between two staves at a worn line. Of 767 systems of rags, the right measures are found in 96.6
% with worn lines and in 95.8 % without, at the same number of lines that are none."""
MIN_CONTRAST = 0.5
"""Smallest difference between this share and that of the columns at `ASIDE`, where a slur or a beam would go on."""
MIN_DOUBTFUL_INK = 0.65
"""Smallest share of ink in each staff, and between two, at a line that is doubtful. Higher shares lose more lines of
rags whose print is worn artificially, and none finds fewer that are none."""
MIN_DOUBTFUL_CONTRAST = 0.4
"""Smallest contrast of a line that is doubtful."""
ASIDE = (-0.6, 0.6)
"""Where the room beside a worn line is looked at, in staff spaces."""
MAX_BEYOND_INK = 0.5
"""Largest share of ink just above and below the staves at a barline that is not doubtful."""
BEYOND = (0.5, 1.6)
"""Start and stop of the room above and below a staff that is looked at, in staff spaces."""
BESIDE = (-0.9, -0.7, 0.7, 0.9)
"""Where the room beside such a line is looked at, in staff spaces: a note hangs on a stem."""
MAX_BESIDE_INK = 0.15
"""Largest share of ink in a column of the staff beside such a line, if it is no line too, above the share of an empty
column, which has the staff lines: 0.2 to 0.4. The head of a note adds 0.17."""
MAX_BESIDE_WORN = 0.25
"""That limit beside a worn line, which runs through two staves: a head that touches it is no sign of a stem."""
EMPTIEST = 0.1
"""Share of a system's columns that are empty."""
MERGED = 1.5
"""Distance in staff spaces up to which lines are one barline: a double bar, or a repeat sign."""
MIN_DOUBLE = 0.65
"""Smallest width of a double bar or a repeat sign, in staff spaces, from its first column to its last. Of 2,869
barlines of rags, plain ones are 0.6 wide at most."""
MIN_FIRST = 9.0
"""Smallest distance in staff spaces from the start of a system to a barline that ends a measure: there is room for a
clef and the one note of a pickup. Nearer lines open the system."""
MAX_OPENING = 14.0
"""Distance up to which a repeat sign follows clef, key and time, and ends no measure. Of 90 repeat signs in the first
17 spaces of rags, those up to 13.1 follow them, and those from 15.7 on end a pickup."""
MIN_LAST = 6.0
"""Smallest distance in staff spaces from the last barline to the end of a system for a measure between them."""
MAX_CLOSING = 9.0
"""Distance from the end up to which a double bar is followed by a key that is announced, and by no measure. Of 40
double bars in the last 12 spaces of rags, such keys have 2 to 7.6, and measures 11.6 or more."""

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Grades = NDArray[np.uint8]


_DOUBTFUL, _CROSSING, _CERTAIN = 1, 2, 3
"""Grades of a column: a worn line that may be none, a line that may be a stem or hyphens, and a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureEnds:
    """Where the measures of a system end, or may end."""

    places: Floats
    """In page widths, rising, (n,), n >= 1. The last is the end of the system."""
    doubled: Flags
    """Whether a double bar or a repeat sign stands there, (n,); not known of the last."""
    doubtful: Flags
    """Whether the line there may be none, (n,); the end of the system is not doubtful."""
    opening: float
    """In page widths: the repeat sign after clef and key, or the start of the system."""
    closing: float
    """In page widths: the double bar before a key that is announced, or the end of the system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """The lines of a barline."""

    place: float
    """Distance from the start of the system to the middle, in staff spaces."""
    doubled: bool
    doubtful: bool

    @property
    def opens(self) -> bool:
        """Returns whether the line opens the system, and ends no measure."""
        return self.place < (MAX_OPENING if self.doubled else MIN_FIRST)

    def closes(self, length: float) -> bool:
        """Returns whether no measure begins at the line, because a system of this length ends."""
        return length - self.place < (MAX_CLOSING if self.doubled else MIN_LAST)


def measure_ends(strip: Grey, system: System) -> MeasureEnds:
    """Returns where the measures of a system end.

    strip: the system cut out, uint8 (rows, W), white 255, as `engine.score.strips.cut_strip` returns it.
    """
    box = system.box
    length = (box.x1 - box.x0) / system.staff_space
    lines = _barlines(_grades(strip, system), length)
    opening = max((line.place for line in lines if line.doubled and line.opens), default=0.0)
    announced = (line.place for line in lines if line.doubled and line.closes(length) and length - line.place > MERGED)
    closing = min(announced, default=length)
    inner = [line for line in lines if not line.opens and not line.closes(length)]
    return MeasureEnds(
        places=np.array([*(box.x0 + line.place * system.staff_space for line in inner), box.x1]),
        doubled=np.array([*(line.doubled for line in inner), False]),
        doubtful=np.array([*(line.doubtful for line in inner), False]),
        opening=box.x0 + opening * system.staff_space,
        closing=box.x0 + closing * system.staff_space,
    )


def _grades(strip: Grey, system: System) -> Grades:
    """Returns the grade of each column of a strip, 0 where no line is, (W,)."""
    ink, staves = _InkOfSystem(strip, system, DARK), system.staves
    through = ink.through_staves(MIN_STAFF_INK)
    grades = np.zeros(ink.columns, np.uint8)
    if len(staves) > 1:
        faint = _InkOfSystem(strip, system, FAINT)
        line = through & (ink.between() >= MIN_GAP_INK)
        ends = faint.ends_at(staves[0], staves[-1])
        grades[_may_be_worn(faint) & ends] = _DOUBTFUL
        grades[line] = _CROSSING
        grades[line & ends & (faint.contrast() >= MIN_CONTRAST) | _worn(faint) & ends] = _CERTAIN
    if (grades[ink.px(MIN_FIRST) :] > _DOUBTFUL).any():
        return grades
    for staff in staves:
        through &= ink.ends_at(staff, staff) & ink.is_free_beside(staff, MAX_BESIDE_INK)
    grades[through] = _CERTAIN
    return grades


def _worn(ink: "_InkOfSystem") -> Flags:
    """Returns whether each column has a line that is worn, and stands alone."""
    found = (ink.between() >= MIN_WORN_GAP_INK) & (ink.contrast() >= MIN_CONTRAST) & ink.through_staves(MIN_STAFF_INK)
    for staff in ink.system.staves:
        found &= ink.is_free_beside(staff, MAX_BESIDE_WORN)
    return np.asarray(found)


def _may_be_worn(ink: "_InkOfSystem") -> Flags:
    """Returns whether each column has a line that may be a worn barline."""
    inked = ink.through_staves(MIN_DOUBTFUL_INK) & (ink.between() >= MIN_DOUBTFUL_INK)
    return np.asarray(inked & (ink.contrast() >= MIN_DOUBTFUL_CONTRAST))


def _barlines(grades: Grades, length: float) -> list[_Line]:
    """Returns the barlines of a system. A barline ends where more than `MERGED` is empty.

    length: of the system, in staff spaces.
    """
    columns = np.flatnonzero(grades)
    places = columns / len(grades) * length
    found = []
    for group in np.split(np.arange(len(columns)), np.flatnonzero(np.diff(places) > MERGED) + 1):
        if len(group):
            best = grades[columns[group]]
            own = places[group][best > _DOUBTFUL] if best.max() > _DOUBTFUL else places[group]
            doubled = bool(best.max() > _DOUBTFUL and own[-1] - own[0] >= MIN_DOUBLE)
            doubtful = not doubled and bool(best.max() < _CERTAIN)
            found.append(_Line(place=float(own.mean()), doubled=doubled, doubtful=doubtful))
    return found


class _InkOfSystem:
    """The ink of a strip, column by column, between places of the page."""

    def __init__(self, strip: Grey, system: System, darkness: float) -> None:
        # Eroded, because the lines of a scan are not quite upright.
        self._ink = cv2.erode(strip, np.ones((1, 3), np.uint8)) < 255 * (1 - darkness)
        self._scale = strip.shape[1] / (system.box.x1 - system.box.x0)
        self._first_y = (system.box.y0 + system.box.y1) / 2 - strip.shape[0] / 2 / self._scale
        self.system = system
        self.columns = strip.shape[1]

    def px(self, spaces: float) -> int:
        """Returns a length in staff spaces as a number of columns."""
        return round(float(spaces * self.system.staff_space * self._scale))

    def share(self, top: float, bottom: float) -> Floats:
        """Returns the share of ink of each column from one height of the page to another, (W,)."""
        rows = np.rint((np.array([top, bottom]) - self._first_y) * self._scale)
        first, last = rows.astype(int).clip(0, len(self._ink) - 1)
        return np.asarray(self._ink[first : last + 1].mean(axis=0), np.float64)

    def through_staves(self, least: float) -> Flags:
        """Returns whether each column of each staff has this share of ink."""
        shares = [self.share(staff.y0, staff.y1) for staff in self.system.staves]
        return np.asarray(np.min(shares, axis=0) >= least)

    def between(self) -> Floats:
        """Returns the share of ink of each column between two staves, the largest of all pairs of neighbours."""
        return np.asarray(np.max(self._gaps(), axis=0))

    def contrast(self) -> Floats:
        """Returns by how much that share is larger than at the columns at `ASIDE`, likewise."""
        gaps = self._gaps()
        return np.asarray(np.max([gap - self._aside(gap) for gap in gaps], axis=0))

    def _gaps(self) -> list[Floats]:
        return [self.share(above.y1, below.y0) for above, below in pairwise(self.system.staves)]

    def _aside(self, gap: Floats) -> Floats:
        return np.asarray(np.max([np.roll(gap, self.px(place)) for place in ASIDE], axis=0))

    def ends_at(self, first: Box, last: Box) -> Flags:
        """Returns whether no line goes on above the first staff or below the last one."""
        near, far = (distance * self.system.staff_space for distance in BEYOND)
        above, below = self.share(first.y0 - far, first.y0 - near), self.share(last.y1 + near, last.y1 + far)
        return np.asarray(np.maximum(above, below) <= MAX_BEYOND_INK)

    def is_free_beside(self, staff: Box, most: float) -> Flags:
        """Returns whether no note is beside each column of a staff. most: ink that an empty column has not."""
        inside = self.share(staff.y0, staff.y1)
        beside = np.stack([np.roll(inside, self.px(step)) for step in BESIDE])
        empty = np.quantile(inside, EMPTIEST) + most
        return np.asarray(((beside <= empty) | (beside >= MIN_STAFF_INK)).all(axis=0))
