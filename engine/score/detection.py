"""Page image -> systems, by way of ink, lines, courses and staves; and the reasons why candidates are rejected."""

from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import numpy as np

from engine.score.courses import find_courses
from engine.score.ink import page_ink
from engine.score.levels import Grey
from engine.score.lines import MAX_BROKEN_HOLE, MAX_HOLE, staff_lines
from engine.score.rejection import Rejection, Stage
from engine.score.staves import Staff, find_staves
from engine.score.systems import FoundSystem, Gap, find_gaps, grouped, within_systems
from engine.values import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Two staves, one below the other, with the gap between them."""

    above: Box
    """Box of the upper staff, in page widths."""
    below: Box
    """Box of the lower staff, in page widths."""
    gap: Gap
    joined: bool
    """Whether both staves are in one system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The systems detected on a page, and the reasons for the decisions."""

    systems: tuple[FoundSystem, ...]
    """Systems of the page, top to bottom."""
    neighbours: tuple[Neighbours, ...]
    """Pairs of each staff and the next staff below, top to bottom."""
    rejections: tuple[Rejection, ...]
    """Rejected candidates, ordered by stage, then in the order of detection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """The staves and systems of an upright page."""

    staves: list[Staff]
    """Staves, top to bottom, in pixels of the page."""
    gaps: list[Gap]
    """Gap below each staff but the last."""
    joined: list[bool]
    """Whether each gap lies within a system."""
    systems: list[FoundSystem]
    """Systems, top to bottom."""
    rejections: list[Rejection]
    """Rejected candidates, in the order of detection."""
    space: float
    """Commonest staff space in px of the page; 0 if the page shows none."""


def find_systems(page: Grey) -> list[FoundSystem]:
    """Returns the systems of an upright page, top to bottom; a blank, title or text page has none.

    page: uint8 (h, w), white 255, grey levels normalised.
    """
    return detect(page).systems


def explain(page: Grey) -> Explanation:
    """Returns the systems of a page, as `find_systems` does, with the candidates that each stage rejected, and why.

    page: uint8 (h, w), white 255, grey levels normalised.
    """
    detected = detect(page)
    pairs = pairwise(staff.box(page.shape[1]) for staff in detected.staves)
    neighbours = tuple(
        Neighbours(above=above, below=below, gap=gap, joined=joined)
        for (above, below), gap, joined in zip(pairs, detected.gaps, detected.joined, strict=True)
    )
    by_stage = sorted(detected.rejections, key=lambda rejection: get_args(Stage).index(rejection.stage))
    return Explanation(systems=tuple(detected.systems), neighbours=neighbours, rejections=tuple(by_stage))


def detect(page: Grey, *, fine: bool = False, broken: bool = False) -> Detected:
    """Returns the staves and systems of an upright page.

    page: uint8 (h, w), white 255, grey levels normalised. fine: whether the page is small print, or shows more than a
    sheet, so that lines are sought at twice the page's size. broken: whether long holes in lines are closed.
    """
    rejections: list[Rejection] = []
    reject = rejections.append
    ink = page_ink(page, reject, fine=fine)
    if ink is None:
        return Detected(staves=[], gaps=[], joined=[], systems=[], rejections=rejections, space=0.0)
    lines = staff_lines(ink, MAX_BROKEN_HOLE if broken else MAX_HOLE)
    courses = find_courses(lines, reject)
    staves = find_staves(courses, lines, reject)
    gaps = find_gaps(staves, ink)
    joined = within_systems(gaps)
    on_page = [staff.scaled(1 / ink.scale) for staff in staves]
    return Detected(
        staves=on_page,
        gaps=gaps,
        joined=joined,
        systems=grouped(on_page, joined, page.shape[1], reject),
        rejections=rejections,
        space=ink.space / ink.scale,
    )


def compile_kernels() -> None:
    """Compiles the loops of detection and caches the machine code on disk, by finding the staves of a drawn page.

    A process that is not allowed to write beside the code must find the machine code there.
    """
    page = np.full((400, 800), 255, np.uint8)
    for top in (100, 220):
        for line in range(5):
            page[top + 12 * line : top + 12 * line + 2, 60:740] = 0
    find_systems(page)
