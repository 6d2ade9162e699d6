"""Score file -> systems -> one strip -> snippets with their places on the pages."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.config import GENEROUS, FrontEnd, MediaLimits
from engine.errors import PageError
from engine.score import census
from engine.score.census import PageCount, named, page_count
from engine.score.layout import PlacedSystem, placed_systems
from engine.score.levels import Grey
from engine.score.packed import PackedStrip, Spool
from engine.score.pages import Progress, numbered_pages, pages_of
from engine.score.systems import SystemCourse
from engine.values import SCORE_PLACE, System

logger = logging.getLogger(__name__)

DEFAULT = FrontEnd()
BLOCK = 4096
"""Snippets that are cut at a time: a batch of a GPU, and a whole number of batches of a CPU."""
PAPER = 255
"""Grey level of paper."""
MIN_MARGIN = 1.5
"""Smallest margin above and below a system in the strip, in staff spaces. A taller system is scaled down."""

MIN_TYPICAL_LENGTH = 0.6
"""Smallest median length of a page's systems, as a share of the usual length. A page with less shows examples, not the
piece."""
MIN_EXAMPLES = 3
"""Smallest number of systems on a page of examples. A page with fewer may hold the end of a piece, whose last system is
often not stretched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSystem:
    """A system and its part of the strip. It does not refer to the image of the page, which would stay in memory."""

    system: System
    """The system; its number is not known yet."""
    length: float
    """Length of the system in staff spaces: a page may lie on a larger sheet."""
    strip: PackedStrip
    """The system cut out."""

    @property
    def page(self) -> int:
        """Returns the number of the page, from 1."""
        return self.system.page


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePart:
    """Some pages of a score. Which of their systems belong to the score is not known yet."""

    pieces: tuple[CutSystem, ...]
    """Systems of the pages, in order."""
    counts: tuple[PageCount, ...]
    """Counts of each page that could be read."""

    def moved_to(self, spool: Spool) -> "ScorePart":
        """Returns the part with its strips waiting in `spool`."""
        return replace(self, pieces=tuple(replace(piece, strip=piece.strip.moved_to(spool)) for piece in self.pieces))


@dataclass(frozen=True, slots=True, kw_only=True)
class SnippetBlock:
    """Neighbouring snippets of a score that are cut at a time."""

    strips: tuple[PackedStrip, ...]
    """Strips of the systems that the snippets show."""
    start_px: int
    """Column of the first strip where the first snippet starts."""
    snippets: int
    """Number of snippets, at least 1."""

    def in_memory(self) -> "SnippetBlock":
        """Returns the block with its strips in memory, from where it can go to another process."""
        return replace(self, strips=tuple(strip.in_memory() for strip in self.strips))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score as one strip, the form that is embedded."""

    pages: int
    """Number of pages up to the last that was read, pages without systems included."""
    systems: tuple[System, ...]
    """Systems of the score, in order."""
    strips: tuple[PackedStrip, ...]
    """Strip of each system, `strip_rows` high."""

    @property
    def strip(self) -> Grey:
        """Returns the systems side by side, uint8 (strip_rows, W), white 255."""
        return np.hstack([strip.unpacked() for strip in self.strips])

    @property
    def starts_px(self) -> NDArray[np.int64]:
        """Returns the column of the strip where each system starts, (systems,)."""
        return np.cumsum([0, *(strip.width for strip in self.strips[:-1])], dtype=np.int64)

    @property
    def width_px(self) -> int:
        """Returns the number of columns of the strip."""
        return sum(strip.width for strip in self.strips)


def read_score(
    path: Path | str,
    front_end: FrontEnd = DEFAULT,
    limits: MediaLimits = GENEROUS,
    progress: Progress | None = None,
) -> Score:
    """Reads a PDF, an image file or a folder of page images, and returns the score as one strip.

    One page is in memory at a time. The strips of the pages before wait compressed, most of them in a temporary file,
    because the last page decides which pages belong to the score.

    progress: is called after each page.
    Raises PageError if no page can be decoded or shows systems, or the file is over a limit.
    """
    return joined([part_of(numbered_pages(path, limits, progress), front_end, Spool())], path)


def score_of(
    images: Iterable[NDArray[np.uint8]], front_end: FrontEnd = DEFAULT, name: Path | str = "page images"
) -> Score:
    """Returns the score on page images in memory as one strip.

    images: uint8 (height, width), or (height, width, 3) in RGB. name: named in errors and warnings.
    Raises PageError if an array is no page, or no page shows systems.
    """
    return joined([part_of(enumerate(pages_of(images), start=1), front_end, Spool())], name)


def joined(parts: Iterable[ScorePart], path: Path | str) -> Score:
    """Returns the score that has these parts, in order, as one strip.

    path: named in errors and warnings.
    Raises PageError if no page could be read, or none shows systems.
    """
    pieces: list[CutSystem] = []
    counts: list[PageCount] = []
    for part in parts:
        pieces += part.pieces
        counts += part.counts
    if not counts:
        raise PageError(path, "none of its pages can be read")
    if not pieces:
        raise PageError(path, f"expected staves of music, found none on {len(counts)} page(s)")
    kept = _without_examples(pieces)
    left_out = sorted({piece.page for piece in pieces} - {piece.page for piece in kept})
    census.report(path, counts, left_out)
    if left_out:
        logger.warning("%s: %s left out: most of the systems are short", path, named(left_out))
    systems = tuple(replace(piece.system, number=number) for number, piece in enumerate(kept, start=1))
    return Score(pages=counts[-1].page, systems=systems, strips=tuple(piece.strip for piece in kept))


def part_of(pages: Iterable[tuple[int, Grey]], front_end: FrontEnd = DEFAULT, spool: Spool | None = None) -> ScorePart:
    """Returns the systems on these pages, each with its number. `joined` makes a score of all parts.

    spool: where the strips wait; by default, in memory.
    """
    pieces: list[CutSystem] = []
    counts: list[PageCount] = []
    for number, page in pages:
        found = placed_systems(page)
        counts.append(page_count(number, page, found))
        pieces += [_piece(number, system, front_end, spool) for system in found]
    return ScorePart(pieces=tuple(pieces), counts=tuple(counts))


def _piece(page: int, placed: PlacedSystem, front_end: FrontEnd, spool: Spool | None) -> CutSystem:
    """Returns the piece of a system. page: number of its page."""
    course = placed.found.course
    system = System(
        page=page,
        number=0,
        box=placed.box,
        staves=placed.staves,
        staff_space=placed.staff_space,
        confidence=placed.found.confidence,
        turn=placed.turn,
    )
    strip = PackedStrip.of(cut_strip(placed.image, course, front_end), spool)
    return CutSystem(system=system, length=course.length / course.staff_space, strip=strip)


def _without_examples(pieces: list[CutSystem]) -> list[CutSystem]:
    """Returns the pieces without pages of short examples, such as critical reports after the music."""
    lengths: dict[int, list[float]] = {}
    for piece in pieces:
        lengths.setdefault(piece.page, []).append(piece.length)
    typical = {page: sorted(on_page)[len(on_page) // 2] for page, on_page in lengths.items()}
    least = MIN_TYPICAL_LENGTH * float(np.median(list(typical.values())))
    examples = {page for page in lengths if typical[page] < least and len(lengths[page]) >= MIN_EXAMPLES}
    return [piece for piece in pieces if piece.page not in examples]


def straight_course(system: System, page_width_px: int) -> SystemCourse:
    """Returns the course of a system that is neither skewed nor bent, as on engraved pages, in pixels of its page."""
    box, width = system.box, page_width_px
    middle = (box.y0 + box.y1) / 2 * width
    return SystemCourse(
        xs=np.array([box.x0 * width, box.x1 * width], np.float32),
        ys=np.array([middle, middle], np.float32),
        height=(box.y1 - box.y0) * width,
        staff_space=system.staff_space * width,
    )


def strip_scale(course: SystemCourse, front_end: FrontEnd) -> float:
    """Returns the scale of the strip, in strip pixels per page pixel: the working scale, or less for a tall system."""
    room = front_end.strip_rows - 2 * MIN_MARGIN * front_end.staff_space_px
    return min(front_end.staff_space_px / course.staff_space, room / course.height)


def cut_strip(page: Grey, course: SystemCourse, front_end: FrontEnd) -> Grey:
    """Returns one system cut out along its course: straight, level and centred, at the working scale.

    page: uint8 (h, w), white 255.
    Returns uint8 (strip_rows, W), W at least 1. Pixels outside the page are white. Column c of the strip shows page
    column xs[0] + c / W * (xs[-1] - xs[0]).
    """
    scale = strip_scale(course, front_end)
    half = front_end.strip_rows / 2 / scale
    tilt = course.slope
    reach = half + half * abs(tilt) + 4
    x0, y0 = max(0, int(course.xs[0] - reach)), max(0, int(course.ys.min() - reach))
    x1, y1 = int(course.xs[-1] + reach) + 1, int(course.ys.max() + reach) + 1
    band = page[y0:y1, x0:x1]
    if not band.size:
        return np.full((front_end.strip_rows, 1), PAPER, np.uint8)
    size = (max(1, round(band.shape[1] * scale)), max(1, round(band.shape[0] * scale)))
    small = cv2.resize(band, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    across, down = size[0] / band.shape[1], size[1] / band.shape[0]

    columns = max(1, round(float(course.xs[-1] - course.xs[0]) * scale))
    xs = course.xs[0] + (np.arange(columns) + 0.5) / scale
    ys = np.interp(xs, course.xs, course.ys)
    rows = (np.arange(front_end.strip_rows) + 0.5) / scale - half
    map_x = (xs[None, :] - tilt * rows[:, None] - x0) * across - 0.5
    map_y = (ys[None, :] + rows[:, None] - y0) * down - 0.5
    strip = cv2.remap(
        small,
        map_x.astype(np.float32),
        map_y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=PAPER,
    )
    return np.asarray(strip, dtype=np.uint8)


def snippets(score: Score, front_end: FrontEnd = DEFAULT) -> tuple[Grey, NDArray[Any]]:
    """Returns the snippets of a score and their places.

    The snippets are windows of the strip, uint8 (n, strip_rows, snippet_px), n at least 1. The places are (n,) of
    SCORE_PLACE. A strip shorter than one snippet is padded with white.
    """
    return np.concatenate(list(windows(score, front_end))), places(score, front_end)


def windows(score: Score, front_end: FrontEnd = DEFAULT) -> Iterator[Grey]:
    """Yields the snippets of a score in blocks of BLOCK, each block as `cut_snippets` returns it."""
    return (cut_snippets(block, front_end) for block in snippet_blocks(score, front_end))


def snippet_blocks(score: Score, front_end: FrontEnd = DEFAULT) -> Iterator[SnippetBlock]:
    """Yields the snippets of a score, in order and not cut yet: BLOCK of them at a time, and the rest."""
    starts, hop, total = score.starts_px, front_end.snippet_hop_px, snippet_count(score, front_end)
    for first in range(0, total, BLOCK):
        snippets = min(BLOCK, total - first)
        start_px = first * hop
        end_px = start_px + (snippets - 1) * hop + front_end.snippet_px
        system = int(np.searchsorted(starts, start_px, side="right")) - 1
        end = int(np.searchsorted(starts, end_px))
        yield SnippetBlock(strips=score.strips[system:end], start_px=start_px - int(starts[system]), snippets=snippets)


def cut_snippets(block: SnippetBlock, front_end: FrontEnd = DEFAULT) -> Grey:
    """Returns the snippets of a block, uint8 (n, strip_rows, snippet_px).

    They are a view of the block's part of the strip, so that only this part is in memory.
    """
    part = np.hstack([strip.unpacked() for strip in block.strips])[:, block.start_px :]
    return _cut(part, block.snippets, front_end)


def _cut(part: Grey, count: int, front_end: FrontEnd) -> Grey:
    """Returns the first `count` snippets of a part of the strip, (count, strip_rows, snippet_px), as a view."""
    length = front_end.snippet_px
    part = (
        np.pad(part, ((0, 0), (0, length - part.shape[1])), constant_values=PAPER) if part.shape[1] < length else part
    )
    cut = np.lib.stride_tricks.sliding_window_view(part, length, axis=1)[:, :: front_end.snippet_hop_px]
    return np.moveaxis(cut[:, :count], 0, 1)


def snippet_count(score: Score, front_end: FrontEnd = DEFAULT) -> int:
    """Returns the number of snippets of a score, at least 1."""
    return max(0, score.width_px - front_end.snippet_px) // front_end.snippet_hop_px + 1


def places(score: Score, front_end: FrontEnd = DEFAULT) -> NDArray[Any]:
    """Returns the places of the snippets of a score, (n,) of SCORE_PLACE."""
    starts = np.arange(snippet_count(score, front_end), dtype=np.int64) * front_end.snippet_hop_px
    found = np.empty(len(starts), SCORE_PLACE)
    found["system"], found["x"] = _places(score, starts)
    ends = np.minimum(starts + front_end.snippet_px, score.width_px) - 1
    found["end_system"], found["end_x"] = _places(score, ends)
    return found


def _places(score: Score, columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the system number and the x in page widths of each column of the strip."""
    starts = score.starts_px
    system = np.searchsorted(starts, columns, side="right") - 1
    widths = np.array([strip.width for strip in score.strips])
    share = (columns - starts[system] + 0.5) / widths[system]
    x0 = np.array([s.box.x0 for s in score.systems])[system]
    x1 = np.array([s.box.x1 for s in score.systems])[system]
    numbers = np.array([s.number for s in score.systems])[system]
    return numbers, x0 + share * (x1 - x0)
