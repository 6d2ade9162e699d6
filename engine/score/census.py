"""Which pages of a score show no systems, or fewer than their neighbours, though there is ink enough for them?"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from engine.score.layout import PlacedSystem
from engine.score.levels import Grey

logger = logging.getLogger(__name__)

INK_GREY = 128
"""Grey level below which a pixel counts as ink."""
REACH = 0.5
"""Notes and words above and below a system belong to it up to this distance, as a share of the system's height."""
MIN_UNREAD_INK = 0.5
"""Smallest ink outside the systems of a page, as a share of the ink on its neighbours, that may be unread music. Title
pages and the ends of pieces have less."""
MAX_SHARE = 0.5
"""Largest number of systems of a page, as a share of its neighbours' number, that is reported."""
NEIGHBOURS = 2
"""Pages with systems on each side that a page is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCount:
    """The systems on a page, and its ink."""

    page: int
    """Number of the page, from 1."""
    systems: int
    ink: float
    """Area of the ink, in squares of the page's width."""
    unread_ink: float
    """The part of the ink that belongs to no system."""


def page_count(number: int, page: Grey, systems: Sequence[PlacedSystem]) -> PageCount:
    """Returns how many systems a page has, and how much ink. page: uint8 (h, w), grey levels normalised."""
    ink = page < INK_GREY
    unread = ink.copy()
    for system in systems:
        turned = np.rot90(unread, -system.turn // 90)  # a view, upright for this system
        width = turned.shape[1]
        reach = REACH * (system.box.y1 - system.box.y0)
        top, bottom = max(0, round((system.box.y0 - reach) * width)), round((system.box.y1 + reach) * width)
        left, right = max(0, round((system.box.x0 - reach) * width)), round((system.box.x1 + reach) * width)
        turned[top:bottom, left:right] = False
    area = page.shape[1] ** 2
    return PageCount(
        page=number,
        systems=len(systems),
        ink=np.count_nonzero(ink) / area,
        unread_ink=np.count_nonzero(unread) / area,
    )


def report(path: Path | str, counts: Sequence[PageCount]) -> None:
    """Logs which pages have no systems, or fewer than their neighbours: as warnings if music may be missing."""
    usual = {count.page: _neighbours(counts, index) for index, count in enumerate(counts)}
    first = next((count.page for count in counts if count.systems), 0)
    empty = [count for count in counts if not count.systems]
    unread = [count.page for count in empty if count.page > first and _has_unread_music(count, usual[count.page])]
    for level, pages in (
        (logging.WARNING, unread),
        (logging.INFO, [count.page for count in empty if count.page not in unread]),
    ):
        if pages:
            logger.log(level, "%s: %s %s: no staves found", path, "page" if len(pages) == 1 else "pages", spans(pages))
    for count in counts:
        neighbours = usual[count.page]
        if count.systems and neighbours and _has_unread_music(count, neighbours):
            expected = round(median(neighbour.systems for neighbour in neighbours))
            if count.systems <= MAX_SHARE * expected:
                found = "1 system" if count.systems == 1 else f"{count.systems} systems"
                logger.warning("%s: page %d: %s where its neighbours have %d", path, count.page, found, expected)


def _neighbours(counts: Sequence[PageCount], index: int) -> list[PageCount]:
    """Returns the nearest pages with systems before and after a page."""
    before = [count for count in counts[:index] if count.systems]
    after = [count for count in counts[index + 1 :] if count.systems]
    return before[-NEIGHBOURS:] + after[:NEIGHBOURS]


def _has_unread_music(count: PageCount, neighbours: Sequence[PageCount]) -> bool:
    """Returns whether a page has so much ink outside its systems that some of the ink may be music."""
    return bool(neighbours) and count.unread_ink >= MIN_UNREAD_INK * median(neighbour.ink for neighbour in neighbours)


def spans(numbers: Sequence[int]) -> str:
    """Returns ascending numbers in words, with spans of consecutive numbers put together: `3, 7-9`."""
    starts = [0, *(at for at, (one, next_) in enumerate(pairwise(numbers), start=1) if next_ != one + 1), len(numbers)]
    runs = [numbers[start:stop] for start, stop in pairwise(starts)]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
