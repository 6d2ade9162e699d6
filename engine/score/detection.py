"""Page image -> systems, by way of ink, lines, courses and staves; and the reasons for what was not accepted."""

from dataclasses import dataclass
from itertools import pairwise

from engine.score.courses import find_courses
from engine.score.ink import page_ink
from engine.score.lines import staff_lines
from engine.score.pages import Grey
from engine.score.rejection import Reject, Rejection, ignore
from engine.score.staves import Staff, find_staves
from engine.score.systems import FoundSystem, Gap, find_gaps, grouped, within_systems
from engine.values import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Two staves, one below the other, and whether they were put into one system."""

    above: Box
    below: Box
    """In page widths."""
    gap: Gap
    joined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What detection found on a page, and why not more."""

    systems: tuple[FoundSystem, ...]
    neighbours: tuple[Neighbours, ...]
    """Each staff with the next one, top to bottom."""
    rejections: tuple[Rejection, ...]
    """Candidates that were not accepted, in the order of the stages."""


def find_systems(page: Grey) -> list[FoundSystem]:
    """The systems of a page, top to bottom; none on a blank, title or text page.

    page: uint8 (h, w), white 255, grey levels normalised.
    """
    return _detected(page, ignore).systems


def explain(page: Grey) -> Explanation:
    """The systems of a page as `find_systems` returns them, with what each stage rejected, and why.

    page: uint8 (h, w), white 255, grey levels normalised.
    """
    rejections: list[Rejection] = []
    found = _detected(page, rejections.append)
    pairs = pairwise(staff.box(page.shape[1]) for staff in found.staves)
    neighbours = tuple(
        Neighbours(above=above, below=below, gap=gap, joined=joined)
        for (above, below), gap, joined in zip(pairs, found.gaps, found.joined, strict=True)
    )
    return Explanation(systems=tuple(found.systems), neighbours=neighbours, rejections=tuple(rejections))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Detected:
    """The staves of a page in its pixels, the gaps below all but the last, and the systems that they make."""

    staves: list[Staff]
    gaps: list[Gap]
    joined: list[bool]
    systems: list[FoundSystem]


def _detected(page: Grey, reject: Reject) -> _Detected:
    ink = page_ink(page, reject)
    if ink is None:
        return _Detected(staves=[], gaps=[], joined=[], systems=[])
    lines = staff_lines(ink)
    courses = find_courses(lines, reject)
    staves = find_staves(courses, lines, reject)
    gaps = find_gaps(staves, ink)
    joined = within_systems(gaps)
    on_page = [staff.scaled(1 / ink.scale) for staff in staves]
    systems = grouped(on_page, joined, page.shape[1], reject)
    return _Detected(staves=on_page, gaps=gaps, joined=joined, systems=systems)
