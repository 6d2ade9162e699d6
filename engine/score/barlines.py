"""The strip of a system -> its barlines: columns of ink through all staves, and through the room between two of them.

A stem may be as long as a staff is high, but it ends in a staff or beyond it, and none runs through two staves. Where
no line runs between the staves, as in choral scores, or where there is one staff only, a barline must also end with the
staff and have no note beside it. A repeat sign that follows the clef and the key ends no measure, and the lines of a
double bar are one barline.
"""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.levels import Grey
from engine.values import System

DARK = 0.25
"""Darkness, 0..1, from which a pixel of the strip is ink: a thin line is grey at 7 px a staff space."""
MIN_STAFF_INK = 0.9
"""Smallest share of ink in a column of each staff at a barline."""
MIN_GAP_INK = 0.98
"""Smallest share of ink between two staves at a barline. With 0.9, beams and slurs between the staves make two barlines
too many for each that is found."""
MAX_BEYOND_INK = 0.5
"""Largest share of ink just above and below a staff at a barline that runs through no room between staves."""
BEYOND = (0.5, 1.6)
"""Start and stop of the room above and below a staff that is looked at, in staff spaces."""
BESIDE = (-0.9, -0.7, 0.7, 0.9)
"""Where the room beside such a line is looked at, in staff spaces: a note hangs on a stem."""
MAX_BESIDE_INK = 0.15
"""Largest share of ink in a column of the staff beside such a line, if it is no line too, above the share of an empty
column, which has the staff lines: 0.2 to 0.4. The head of a note adds 0.17."""
EMPTIEST = 0.1
"""Share of a system's columns that are empty."""
MERGED = 1.5
"""Distance in staff spaces up to which lines are one barline: a double bar, or a repeat sign."""
MIN_FIRST = 12.0
"""Smallest distance in staff spaces from the start of a system to a barline that ends a measure. Nearer lines open the
system, or are repeat signs that follow clef, key and time."""
MIN_LAST = 6.0
"""Smallest distance in staff spaces from the last barline to the end of a system for a measure between them."""

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


def measure_ends(strip: Grey, system: System) -> Floats:
    """Returns where the measures of a system end, in page widths, rising, (n,), n >= 1. The last is the system's end.

    strip: the system cut out, uint8 (rows, W), white 255, as `engine.score.strips.cut_strip` returns it.
    """
    box = system.box
    length = (box.x1 - box.x0) / system.staff_space
    found = _merged(np.flatnonzero(_lines(strip, system)) / strip.shape[1] * length)
    inner = found[(found >= MIN_FIRST) & (found <= length - MIN_LAST)]
    return np.append(box.x0 + inner * system.staff_space, box.x1)


def _lines(strip: Grey, system: System) -> Flags:
    """Returns whether each column of a strip has a line through all staves, (W,)."""
    ink = cv2.erode(strip, np.ones((1, 3), np.uint8)) < 255 * (1 - DARK)  # the lines of a scan are not quite upright
    scale = strip.shape[1] / (system.box.x1 - system.box.x0)
    first_y = (system.box.y0 + system.box.y1) / 2 - strip.shape[0] / 2 / scale

    def share(top: float, bottom: float) -> Floats:
        rows = np.rint((np.array([top, bottom]) - first_y) * scale).astype(int).clip(0, strip.shape[0] - 1)
        return np.asarray(ink[rows[0] : rows[1] + 1].mean(axis=0), np.float64)

    staves = system.staves
    through = np.min([share(staff.y0, staff.y1) for staff in staves], axis=0) >= MIN_STAFF_INK
    gaps = [share(above.y1, below.y0) >= MIN_GAP_INK for above, below in pairwise(staves)]
    joined = through & np.any(gaps, axis=0) if gaps else np.zeros(strip.shape[1], bool)
    if joined[round(MIN_FIRST * system.staff_space * scale) :].any():
        return np.asarray(joined)
    near, far = (distance * system.staff_space for distance in BEYOND)
    steps = [round(step * system.staff_space * scale) for step in BESIDE]
    for staff in staves:
        through &= share(staff.y0 - far, staff.y0 - near) <= MAX_BEYOND_INK
        through &= share(staff.y1 + near, staff.y1 + far) <= MAX_BEYOND_INK
        inside = share(staff.y0, staff.y1)
        empty = np.quantile(inside, EMPTIEST) + MAX_BESIDE_INK
        beside = np.stack([np.roll(inside, step) for step in steps])
        through &= ((beside <= empty) | (beside >= MIN_STAFF_INK)).all(axis=0)
    return np.asarray(through)


def _merged(places: Floats) -> Floats:
    """Returns the middle of each group of places, in staff spaces. A group ends where more than `MERGED` is empty."""
    if len(places) == 0:
        return places
    groups = np.split(places, np.flatnonzero(np.diff(places) > MERGED) + 1)
    return np.array([group.mean() for group in groups])
