"""Page image -> systems: staves that barlines join."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.staff_lines import Floats, Grey
from engine.score.staves import Staff, find_staves
from engine.values import Box

JOINED = 0.85
"""Least share of ink on the way from one staff to the next for a column to be a barline."""
SIDE = 1.2
"""Distance in staff spaces from the left end of a staff within which the line that opens a system lies."""
UNJOINED = 0.6
"""Where less than this share is seen, and at most one barline (or slur), staves belong to different systems."""
SMALL = 0.8
"""Systems whose staves are smaller than this share of the usual staff space, and less than half as long as usual, are
ossias and incipits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The run of a system over its page, in pixels: what is needed to cut it out."""

    xs: Floats
    """(k,) increasing columns from the left end of the staff lines to the right end."""
    ys: Floats
    """(k,) row of the system's middle there."""
    height: float
    """First line of the top staff to last of the bottom one."""
    staff_space: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSystem:
    """One system found on a page."""

    course: Course
    box: Box
    """Its staves only, in page widths; where it is skewed or bent, its height is that at mid-length."""
    staves: tuple[Box, ...]
    staff_space: float
    """In page widths."""
    confidence: float
    """0..1."""


@dataclass(frozen=True, slots=True)
class _Gap:
    """What was seen between a staff and the next one below."""

    left: float
    """Best share of ink of a column at the left end."""
    bars: int
    """Barlines that run through."""
    distance: float
    """Middle line to middle line, in staff spaces."""
    overlap: float
    """Length they have in common, as a share of the longer."""


def find_systems(page: Grey) -> list[FoundSystem]:
    """The systems of a page, top to bottom; none on a blank, title or text page.

    page: uint8 (h, w), white 255, grey levels normalised.
    """
    staves, ink, scale = find_staves(page)
    if not staves:
        return []
    gaps = [_gap(ink, above, below) for above, below in pairwise(staves)]
    joined = _joined(gaps)
    groups = _grouped(staves, joined)
    return [_system([s.scaled(1 / scale) for s in group], page.shape[1]) for group in _main(groups)]


def _gap(ink: Grey, above: Staff, below: Staff) -> _Gap:
    space = (above.space + below.space) / 2
    x0, x1 = max(above.x0, below.x0), min(above.x1, below.x1)
    overlap = (x1 - x0) / max(above.length, below.length)
    distance = (below.y - above.y) / space
    if overlap < 0.5:
        return _Gap(0.0, 0, distance, overlap)
    columns = np.arange(min(above.x0, below.x0) - SIDE * space, x1 + SIDE * space, dtype=np.float32)
    share = _shares(ink, above, below, columns)
    ends = np.abs(columns[:, None] - [above.x0, below.x0]).min(axis=1) <= SIDE * space
    return _Gap(float(share[ends].max()), _count(share >= JOINED, round(space)), distance, overlap)


def _shares(ink: Grey, above: Staff, below: Staff, columns: Floats) -> Floats:
    """float32 (columns,): ink on the way from `above`'s last line to `below`'s first, along the tilt."""
    top = above.rows(columns) + 2.3 * above.space
    bottom = below.rows(columns) - 2.3 * below.space
    steps = np.linspace(0, 1, 48)[:, None]
    rows = top + steps * np.maximum(bottom - top, 1)
    tilt = (above.slope + below.slope) / 2
    tilted = columns - tilt * (rows - rows.mean(axis=0))
    wide = cv2.dilate(ink, np.ones((3, 3), np.uint8))
    patch = cv2.remap(wide, tilted.astype(np.float32), rows.astype(np.float32), cv2.INTER_NEAREST)
    return np.asarray(patch.mean(axis=0), dtype=np.float32)


def _count(flags: NDArray[np.bool_], apart: int) -> int:
    """Groups of set flags that lie at least `apart` from each other."""
    where = np.flatnonzero(flags)
    return int(len(where) > 0) + int((np.diff(where) >= apart).sum())


def _joined(gaps: list[_Gap]) -> list[bool]:
    """Whether each gap lies within a system: by what was seen there; if that leaves doubt, by the page's other gaps."""
    together = [gap.overlap >= 0.5 and (gap.left >= JOINED or gap.bars >= 3) for gap in gaps]
    apart = [gap.overlap < 0.5 or (gap.left < UNJOINED and gap.bars < 2) for gap in gaps]
    if _alternating(gaps) and all(apart):
        return [number % 2 == 0 for number in range(len(gaps))]
    inner = [gap.distance for gap, sure in zip(gaps, together, strict=True) if sure]
    outer = [gap.distance for gap, sure in zip(gaps, apart, strict=True) if sure]
    if inner and outer:
        limit = float(np.median(inner) + np.median(outer)) / 2
    else:
        limit = 1.2 * float(np.median(inner)) if inner else np.inf
    return [a or (not b and gap.distance < limit) for gap, a, b in zip(gaps, together, apart, strict=True)]


def _alternating(gaps: list[_Gap]) -> bool:
    """Whether every other gap is clearly narrower, as on a piano page of which no barline survived."""
    inner, outer = [gap.distance for gap in gaps[::2]], [gap.distance for gap in gaps[1::2]]
    return len(inner) == len(outer) + 1 >= 2 and max(inner) < 0.9 * min(outer)


def _grouped(staves: list[Staff], joined: list[bool]) -> list[list[Staff]]:
    groups = [[staves[0]]]
    for staff, join in zip(staves[1:], joined, strict=True):
        if join:
            groups[-1].append(staff)
        else:
            groups.append([staff])
    return groups


def _main(groups: list[list[Staff]]) -> list[list[Staff]]:
    """The groups without ossias and incipits."""
    staves = [staff for group in groups for staff in group]
    length = float(np.median([staff.length for staff in staves]))
    space = float(np.median([staff.space for staff in staves]))

    def kept(group: list[Staff]) -> bool:
        small = max(staff.space for staff in group) < SMALL * space
        return not small or max(staff.length for staff in group) >= length / 2

    return [group for group in groups if kept(group)]


def _system(staves: list[Staff], width: int) -> FoundSystem:
    top, bottom = staves[0], staves[-1]
    xs = np.unique(np.concatenate([top.xs, bottom.xs])).astype(np.float32)
    upper = top.rows(xs) - 2 * top.space
    lower = bottom.rows(xs) + 2 * bottom.space
    space = float(np.median([staff.space for staff in staves]))
    middle = ((upper + lower) / 2).astype(np.float32)
    course = Course(xs=xs, ys=middle, height=float(np.median(lower - upper)), staff_space=space)
    boxes = tuple(
        Box(x0=s.x0 / width, y0=(s.y - 2 * s.space) / width, x1=s.x1 / width, y1=(s.y + 2 * s.space) / width)
        for s in staves
    )
    box = Box(x0=min(b.x0 for b in boxes), y0=boxes[0].y0, x1=max(b.x1 for b in boxes), y1=boxes[-1].y1)
    confidence = float(np.mean([staff.strength for staff in staves]))
    return FoundSystem(course=course, box=box, staves=boxes, staff_space=space / width, confidence=confidence)
