"""Which pages of a score show no systems, or fewer than their ink or their neighbours promise?"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from engine.score.ink import binarise, runs
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

MAX_DEVIATION = 0.12
"""Largest deviation of the distance of two lines from the staff space, as a share of the staff space."""
MIN_UNREAD_LINES = 0.4
"""Smallest share of the lines at the distance of staff lines that lie outside the systems of a document, with which
staves seem to be lost. On scans of the validation set whose systems are all found it is 0.02 at most, 0.28 if they are
photographed, askew or broken; if half of the systems are lost, it is 0.46 at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCount:
    """The systems on a page, its ink, and its lines."""

    page: int
    """Number of the page, from 1."""
    systems: int
    ink: float
    """Area of the ink, in squares of the page's width."""
    unread_ink: float
    """The part of the ink that belongs to no system."""
    lines: int = 0
    """Number of places where two lines lie as far apart as staff lines, one above the other; 0 without systems."""
    unread_lines: int = 0
    """Number of these places that belong to no system."""


def page_count(number: int, page: Grey, systems: Sequence[PlacedSystem]) -> PageCount:
    """Returns how many systems a page has, and how much ink. page: uint8 (h, w), grey levels normalised."""
    ink = page < INK_GREY
    unread: NDArray[np.bool_] = np.ones(page.shape, np.bool_)
    for system in systems:
        turned = np.rot90(unread, -system.turn // 90)  # a view, upright for this system
        width = turned.shape[1]
        reach = REACH * (system.box.y1 - system.box.y0)
        top, bottom = max(0, round((system.box.y0 - reach) * width)), round((system.box.y1 + reach) * width)
        left, right = max(0, round((system.box.x0 - reach) * width)), round((system.box.x1 + reach) * width)
        turned[top:bottom, left:right] = False
    area = page.shape[1] ** 2
    lines = unread_lines = 0
    if systems:
        rows, columns = _lines(page, systems[0])
        lines = len(rows)
        unread_lines = int(np.count_nonzero(np.rot90(unread, -systems[0].turn // 90)[rows, columns]))
    return PageCount(
        page=number,
        systems=len(systems),
        ink=np.count_nonzero(ink) / area,
        unread_ink=np.count_nonzero(ink & unread) / area,
        lines=lines,
        unread_lines=unread_lines,
    )


def _lines(page: Grey, system: PlacedSystem) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns rows and columns, (n,), of the places where two lines lie as far apart as the staff lines of a system.

    Such places are many in staves, even broken ones, and few in text, shadows and pictures. The page is taken upright
    for the system.
    """
    upright = np.ascontiguousarray(np.rot90(page, -system.turn // 90))
    found = runs(binarise(upright))
    space = system.staff_space * upright.shape[1]
    apart = np.abs(found.to_next - space) <= max(1.0, MAX_DEVIATION * space)
    chosen = apart & (2 * found.lengths < found.to_next)
    return found.rows[chosen], found.columns[chosen]


def report(path: Path | str, counts: Sequence[PageCount], left_out: Sequence[int] = ()) -> None:
    """Logs which pages have fewer systems than one expects: as warnings if music may be missing.

    left_out: numbers of the pages that do not count to the score, though they show systems.
    """
    usual = {count.page: _neighbours(counts, index) for index, count in enumerate(counts)}
    first = next((count.page for count in counts if count.systems), 0)
    empty = [count for count in counts if not count.systems]
    unread = [count.page for count in empty if count.page > first and _has_unread_music(count, usual[count.page])]
    for level, pages in (
        (logging.WARNING, unread),
        (logging.INFO, [count.page for count in empty if count.page not in unread]),
    ):
        if pages:
            logger.log(level, "%s: %s: no staves found", path, named(pages))
    few = [count for count in counts if count.systems and _has_less_than(count, usual[count.page])]
    for count in few:
        found = "1 system" if count.systems == 1 else f"{count.systems} systems"
        expected = _usual_systems(usual[count.page])
        logger.warning("%s: page %d: %s where its neighbours have %d", path, count.page, found, expected)
    told = {*left_out, *(count.page for count in few)}
    _report_lost(path, [count for count in counts if count.systems and count.page not in told])


def _report_lost(path: Path | str, counts: Sequence[PageCount]) -> None:
    """Warns if most staves of a whole document seem to be lost, such as those of a single page.

    Neighbours do not tell, because they are as badly off. A single page of a volume may be a preface with an example.
    """
    lines, unread = sum(count.lines for count in counts), sum(count.unread_lines for count in counts)
    if unread > MIN_UNREAD_LINES * lines:
        pages = [count.page for count in counts if count.unread_lines > MIN_UNREAD_LINES * count.lines]
        found = sum(count.systems for count in counts if count.page in pages)
        text = "%s: %s: %d system%s found, but many lines like staff lines lie outside: staves may be missing"
        logger.warning(text, path, named(pages), found, "" if found == 1 else "s")


def _neighbours(counts: Sequence[PageCount], index: int) -> list[PageCount]:
    """Returns the nearest pages with systems before and after a page."""
    before = [count for count in counts[:index] if count.systems]
    after = [count for count in counts[index + 1 :] if count.systems]
    return before[-NEIGHBOURS:] + after[:NEIGHBOURS]


def _has_less_than(count: PageCount, neighbours: Sequence[PageCount]) -> bool:
    """Returns whether a page has much fewer systems than its neighbours, and ink for more."""
    return _has_unread_music(count, neighbours) and count.systems <= MAX_SHARE * _usual_systems(neighbours)


def _usual_systems(neighbours: Sequence[PageCount]) -> int:
    """Returns the usual number of systems on these pages, of which there is at least one."""
    return round(median(neighbour.systems for neighbour in neighbours))


def _has_unread_music(count: PageCount, neighbours: Sequence[PageCount]) -> bool:
    """Returns whether a page has so much ink outside its systems that some of the ink may be music."""
    return bool(neighbours) and count.unread_ink >= MIN_UNREAD_INK * median(neighbour.ink for neighbour in neighbours)


def named(numbers: Sequence[int]) -> str:
    """Returns ascending numbers of pages in words: `page 3`, or `pages 3, 7-9`."""
    return f"{'page' if len(numbers) == 1 else 'pages'} {spans(numbers)}"


def spans(numbers: Sequence[int]) -> str:
    """Returns ascending numbers in words, with spans of consecutive numbers put together: `3, 7-9`."""
    starts = [0, *(at for at, (one, next_) in enumerate(pairwise(numbers), start=1) if next_ != one + 1), len(numbers)]
    spans = [numbers[start:stop] for start, stop in pairwise(starts)]
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)
