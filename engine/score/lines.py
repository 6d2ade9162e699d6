"""Ink -> which of it are staff lines."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.ink import Ink, bar

Floats = NDArray[np.float32]

MAX_THICKNESS = 0.45
"""Thickest staff line, in staff spaces: what is thicker is a note, a beam or a stem."""
MIN_THICK_PX = 5
"""Thickness in px that is thick at any staff space: a line of a coarse page has 3 px."""
MAX_HOLE = 0.5
"""Longest hole in a line that is closed, in staff spaces: stems and specks of paper."""
MIN_PART = 1.2
"""Shortest part of a line, in staff spaces: what is left of note heads is shorter."""
LETTER_MARGIN = 0.08
"""How much sharp ink is fattened above and below, in staff spaces (1 px at least): a line may lie beside its course."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """What a page shows of staff lines; images are float32 (h, w) of 0 and 1."""

    seen: Floats
    """Parts of thin horizontal lines, one pixel fatter above and below than printed."""
    visible: Floats
    """Where a line could be seen, because no note or beam covers it."""
    sharp: Floats
    """All ink at the page's own resolution, a little fatter above and below."""
    finer: float
    """Size of `sharp`, relative to the others."""
    space: float
    """Commonest staff space, in px of `seen`."""

    @property
    def width(self) -> int:
        return int(self.seen.shape[1])


def staff_lines(ink: Ink) -> Lines:
    """The parts of the ink that are thin and horizontal, and where notes hide such parts."""
    space, finer = ink.space, ink.sharp.shape[1] / ink.pixels.shape[1]
    thick = cv2.morphologyEx(ink.pixels, cv2.MORPH_OPEN, bar(1, max(MIN_THICK_PX, MAX_THICKNESS * space)))
    thin = cv2.dilate(cv2.subtract(ink.pixels, thick), bar(1, 3))
    thin = cv2.morphologyEx(thin, cv2.MORPH_CLOSE, bar(MAX_HOLE * space, 1))
    seen = cv2.morphologyEx(thin, cv2.MORPH_OPEN, bar(MIN_PART * space, 1))
    sharp = cv2.dilate(ink.sharp, bar(1, 1 + 2 * max(1.0, LETTER_MARGIN * space * finer)))
    return Lines(
        seen=np.asarray(seen, dtype=np.float32),
        visible=np.asarray((thick == 0) | (seen > 0), dtype=np.float32),
        sharp=np.asarray(sharp, dtype=np.float32),
        finer=finer,
        space=space,
    )
