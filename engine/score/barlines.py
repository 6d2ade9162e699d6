"""The strip of a system -> its barlines: columns of ink through all staves, and through the room between two of them.

A stem may be as long as a staff is high, but it ends in a staff or beyond it, and none runs through two staves. A line
that is worn, so that it is grey or broken, counts if nothing else is near it. Where no line runs between the staves, as
in choral scores, or where there is one staff only, a barline must also end with the staff and have no note beside it. A
repeat sign that follows the clef and the key ends no measure, and the lines of a double bar are one barline.
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
ASIDE = (-0.6, 0.6)
"""Where the room beside a worn line is looked at, in staff spaces."""
MAX_BEYOND_INK = 0.5
"""Largest share of ink just above and below a staff at a barline that runs through no room between staves."""
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
MIN_FIRST = 12.0
"""Smallest distance in staff spaces from the start of a system to a barline that ends a measure. Nearer lines open the
system, or are repeat signs that follow clef, key and time."""
MIN_LAST = 7.0
"""Smallest distance in staff spaces from the last barline to the end of a system for a measure between them. Less has
room for a key that is announced: of 767 systems of rags, two more are right than with 6."""

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureEnds:
    """Where the measures of a system end."""

    places: Floats
    """In page widths, rising, (n,), n >= 1. The last is the end of the system."""
    doubled: Flags
    """Whether a double bar or a repeat sign stands there, (n,); not known of the last."""


def measure_ends(strip: Grey, system: System) -> MeasureEnds:
    """Returns where the measures of a system end.

    strip: the system cut out, uint8 (rows, W), white 255, as `engine.score.strips.cut_strip` returns it.
    """
    box = system.box
    length = (box.x1 - box.x0) / system.staff_space
    found, widths = _merged(np.flatnonzero(_lines(strip, system)) / strip.shape[1] * length)
    inner = (found >= MIN_FIRST) & (found <= length - MIN_LAST)
    return MeasureEnds(
        places=np.append(box.x0 + found[inner] * system.staff_space, box.x1),
        doubled=np.append(widths[inner] >= MIN_DOUBLE, False),
    )


def _lines(strip: Grey, system: System) -> Flags:
    """Returns whether each column of a strip has a line through all staves, (W,)."""
    ink, staves = _InkOfSystem(strip, system, DARK), system.staves
    through = ink.through_staves()
    gaps = [ink.share(above.y1, below.y0) >= MIN_GAP_INK for above, below in pairwise(staves)]
    joined = through & np.any(gaps, axis=0) if gaps else np.zeros(strip.shape[1], bool)
    if gaps:
        joined |= _worn(_InkOfSystem(strip, system, FAINT))
    if joined[ink.px(MIN_FIRST) :].any():
        return np.asarray(joined)
    for staff in staves:
        through &= ink.ends_at(staff, staff) & ink.is_free_beside(staff, MAX_BESIDE_INK)
    return np.asarray(through)


def _worn(ink: "_InkOfSystem") -> Flags:
    """Returns whether each column has a line that is worn, and stands alone."""
    staves = ink.system.staves
    found = np.zeros(ink.columns, bool)
    for above, below in pairwise(staves):
        between = ink.share(above.y1, below.y0)
        aside = np.max([np.roll(between, ink.px(place)) for place in ASIDE], axis=0)
        found |= (between >= MIN_WORN_GAP_INK) & (between - aside >= MIN_CONTRAST)
    found &= ink.through_staves() & ink.ends_at(staves[0], staves[-1])
    for staff in staves:
        found &= ink.is_free_beside(staff, MAX_BESIDE_WORN)
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

    def through_staves(self) -> Flags:
        """Returns whether a line runs through each staff."""
        shares = [self.share(staff.y0, staff.y1) for staff in self.system.staves]
        return np.asarray(np.min(shares, axis=0) >= MIN_STAFF_INK)

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


def _merged(places: Floats) -> tuple[Floats, Floats]:
    """Returns the middle and the width of each group of places, in staff spaces.

    A group ends where more than `MERGED` is empty.
    """
    groups = [one for one in np.split(places, np.flatnonzero(np.diff(places) > MERGED) + 1) if len(one)]
    middles, widths = [group.mean() for group in groups], [group[-1] - group[0] for group in groups]
    return np.array(middles, np.float64), np.array(widths, np.float64)
