"""Ink -> staff lines: the thin horizontal parts of the ink."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.ink import Ink, bar
from engine.score.levels import Grey

Floats = NDArray[np.float32]
"""Array of float32."""

MAX_THICKNESS = 0.45
"""Largest thickness of a staff line, in staff spaces: notes, beams and stems are thicker."""
MIN_THICK_PX = 5
"""Smallest thickness that counts as thick at any staff space, in px: a line of a coarse page has 3 px."""
MAX_HOLE = 0.5
"""Longest hole in a line that is closed, in staff spaces: a stem or a speck of paper."""
MAX_BROKEN_HOLE = 3.0
"""Longest hole that is closed in the lines of a page whose lines are broken, in staff spaces. Where a threshold took
half of the lines away, 2.0 finds three quarters of the systems that 3.0 finds."""
MIN_PART = 1.2
"""Shortest part of a line, in staff spaces: remains of note heads are shorter."""
LETTER_MARGIN = 0.08
"""Margin added to sharp ink above and below, in staff spaces, at least 1 px: a line may lie beside its course."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The staff lines of a page, as images, uint8 (h, w), of 0 and 255."""

    seen: Grey
    """Parts of thin horizontal lines, one pixel thicker above and below than printed."""
    visible: Grey
    """Places where a line could be seen, because no note or beam covers it."""
    sharp: Grey
    """All ink at the page's own resolution, a little thicker above and below."""
    finer: float
    """Size of `sharp`, relative to `seen`."""
    space: float
    """Commonest staff space, in px of `seen`."""

    @property
    def width(self) -> int:
        """Returns the width of `seen` in px."""
        return int(self.seen.shape[1])


def staff_lines(ink: Ink, max_hole: float = MAX_HOLE) -> Lines:
    """Returns the thin horizontal parts of the ink, and the places where no note hides such a part.

    max_hole: longest hole in a line that is closed, in staff spaces. Above MAX_HOLE, holes in the sharp ink are closed
    too.
    """
    space, finer = ink.space, ink.sharp.shape[1] / ink.pixels.shape[1]
    black = ink.pixels * np.uint8(255)
    thick = cv2.morphologyEx(black, cv2.MORPH_OPEN, bar(1, max(MIN_THICK_PX, MAX_THICKNESS * space)))
    thin = cv2.dilate(cv2.subtract(black, thick), bar(1, 3))
    thin = cv2.morphologyEx(thin, cv2.MORPH_CLOSE, bar(max_hole * space, 1))
    seen = cv2.morphologyEx(thin, cv2.MORPH_OPEN, bar(MIN_PART * space, 1))
    sharp = cv2.dilate(ink.sharp * np.uint8(255), bar(1, 1 + 2 * max(1.0, LETTER_MARGIN * space * finer)))
    if max_hole > MAX_HOLE:
        sharp = cv2.morphologyEx(sharp, cv2.MORPH_CLOSE, bar(max_hole * space * finer, 1))
    return Lines(
        seen=np.asarray(seen, dtype=np.uint8),
        visible=np.asarray(cv2.bitwise_or(cv2.bitwise_not(thick), seen), dtype=np.uint8),
        sharp=np.asarray(sharp, dtype=np.uint8),
        finer=finer,
        space=space,
    )
