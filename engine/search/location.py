"""The place of a match: its parts, the range that they make, and the alignment path point by point.

A jump cuts the path into parts. Parts that overlap in the document or lie near each other, such as the turns of a
repeat, make one passage. A passage with less than a tenth of the path is a stray: it counts as a part, but not in the
range of the match. In a score the range is all other parts, in the query's order. In a recording the range has one
start and one end; it is the first passage, where the query starts.

The network is trained on the middles of snippets, so a snippet stands for its middle. The query starts half a snippet
before the middle of its first snippet. The match starts earlier than its first middle by the same time, converted at
the pace of the path. On real scans this start is wrong by 0.3 measures in the median. The start of the first document
snippet is wrong by 0.8 measures, and nearly always too late.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Path
from engine.config import FrontEnd
from engine.values import (
    Kind,
    Part,
    PathPoint,
    Place,
    Position,
    RecordingPosition,
    ScorePosition,
    SnippetSequence,
    System,
)

MAX_STEP = 3
"""Largest number of document snippets that a path advances between two cells. A larger move, or a move back, is a
jump."""
MAX_GAP = 2.0
"""Largest gap between two parts of one passage, in lengths of a snippet. Where music is slower than the steps can
follow, the path jumps ahead by less."""
MIN_SHARE = 0.1
"""Smallest share of the path for a passage to count in the range; a passage with less is a stray."""
MAX_PACE_CELLS = 20
"""Number of cells at an end of a part from which the pace there is measured."""
MIN_PACE_CELLS = 6
"""Smallest number of cells that give a pace; with fewer the pace is unknown."""

Floats = NDArray[np.float64]
"""Positions on a ruler, float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruler:
    """The snippets of a document on one axis: seconds, or staff spaces along the strip of its systems."""

    starts: Floats
    """Start of each snippet, (n,)."""
    ends: Floats
    """End of each snippet, (n,)."""
    systems: tuple[System, ...]
    """The systems of a score; empty for a recording."""
    borders: Floats
    """Start of each system, then the end of the last system, (systems + 1,)."""

    @classmethod
    def of(cls, sequence: SnippetSequence, systems: tuple[System, ...] = ()) -> "Ruler":
        """Returns the ruler of a document or query.

        systems: the systems of a score. Raises ValueError if they are missing.
        """
        places = sequence.places
        if sequence.kind == "recording":
            starts, ends = places["start_s"].astype(np.float64), places["end_s"].astype(np.float64)
            return cls(starts=starts, ends=ends, systems=(), borders=np.zeros(1))
        if not systems:
            raise ValueError("expected the systems of the score, which its snippets lie in, got none")
        numbers = np.array([system.number for system in systems])
        spaces = np.array([system.staff_space for system in systems])
        lefts = np.array([system.box.x0 for system in systems])
        lengths = (np.array([system.box.x1 for system in systems]) - lefts) / spaces
        borders = np.concatenate([[0.0], np.cumsum(lengths)])

        def positions(system: str, x: str) -> Floats:
            k = np.searchsorted(numbers, places[system])
            return np.asarray(borders[k] + (places[x] - lefts[k]) / spaces[k], np.float64)

        starts, ends = positions("system", "x"), positions("end_system", "end_x")
        return cls(starts=starts, ends=ends, systems=systems, borders=borders)

    @property
    def middles(self) -> Floats:
        """Returns the middle of each snippet, (n,)."""
        return (self.starts + self.ends) / 2

    def positions(self, along: Floats) -> list[Position]:
        """Returns the positions in the document of points on the axis, (k,)."""
        if not self.systems:
            return [RecordingPosition(s=s) for s in along.tolist()]
        numbers = np.searchsorted(self.borders[1:-1], along, side="right")
        systems = (self.systems[number] for number in numbers)
        distances = (along - self.borders[numbers]).tolist()  # from the left end of the system, in staff spaces
        return [
            ScorePosition(page=system.page, system=system.number, x=system.box.x0 + spaces * system.staff_space)
            for system, spaces in zip(systems, distances, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A part of the path, between two jumps."""

    snippets: NDArray[np.int32]
    """Document snippet of each cell, rising."""
    start: float
    """Start of the part on the document's ruler."""
    end: float
    """End of the part on the document's ruler."""


def reach(front_end: FrontEnd, kind: Kind) -> float:
    """Returns the distance from the middle of a snippet to its end, in snippet hops.

    kind: kind of the snippets.
    """
    if kind == "recording":
        return front_end.excerpt_frames / front_end.excerpt_hop_frames / 2
    return front_end.snippet_px / front_end.snippet_hop_px / 2


def where(path: Path, ruler: Ruler, reach: float) -> tuple[Place, tuple[Part, ...]]:
    """Returns the place of a match and the parts of its path.

    path: int32 (L, 2), at least one row; columns: query snippet, document snippet.
    ruler: of the document.
    reach: distance from the middle of a query snippet to its end, see `reach`.
    """
    runs = _runs(path, ruler, reach)
    passages = _passages(runs, ruler)
    shares = [sum(len(runs[i].snippets) for i in passage) / len(path) for passage in passages]
    parts = tuple(Part(share=len(run.snippets) / len(path), place=_place(ruler, run.start, run.end)) for run in runs)
    min_share = min(MIN_SHARE, max(shares))
    kept = [passage for passage, share in zip(passages, shares, strict=True) if share >= min_share]
    if not ruler.systems:
        return _place(ruler, min(runs[i].start for i in kept[0]), max(runs[i].end for i in kept[0])), parts
    return _joined([parts[i].place for i in sorted(i for passage in kept for i in passage)]), parts


def stretch(path: Path, query: Ruler) -> Place:
    """Returns the stretch of the query from the first to the last snippet that the path aligns.

    The stretch begins at the middle of a snippet, or where the query begins, and ends likewise.
    """
    first, last = int(path[0, 0]), int(path[-1, 0])
    start = query.middles[first] if first > 0 else query.starts[0]
    end = query.middles[last] if last + 1 < len(query.ends) else query.ends[-1]
    return _place(query, float(start), float(end))


def points(path: Path, query: Ruler, document: Ruler) -> tuple[PathPoint, ...]:
    """Returns the points of a path: for each cell the middles of its query snippet and its document snippet.

    query, document: the rulers of both.
    """
    queries = query.positions(query.middles[path[:, 0]])
    documents = document.positions(document.middles[path[:, 1]])
    jumped = jumps(path).tolist()
    return tuple(PathPoint(query=q, document=d, jump=j) for q, d, j in zip(queries, documents, jumped, strict=True))


def jumps(path: Path) -> NDArray[np.bool_]:
    """Returns whether the path jumps to each cell, (L,)."""
    moves = np.diff(path[:, 1], prepend=path[0, 1])
    return (moves < 0) | (moves > MAX_STEP)


def _runs(path: Path, ruler: Ruler, reach: float) -> list[_Run]:
    """Returns the parts of the path.

    The query reaches beyond the middles of its first and last snippet. A jump lies half-way between two query snippets.
    """
    cut = np.split(path, np.flatnonzero(jumps(path)))
    return [
        _Run(
            snippets=cells[:, 1],
            start=_edge(cells, ruler, -reach if i == 0 else -0.5),
            end=_edge(cells[::-1], ruler, reach if i == len(cut) - 1 else 0.5),
        )
        for i, cells in enumerate(cut)
    ]


def _edge(cells: Path, ruler: Ruler, rows: float) -> float:
    """Returns the position on the ruler `rows` query snippets after the first cell, at the pace of the next cells.

    cells: forwards from the start of a part, or backwards from its end.
    rows: negative before the first cell.
    """
    snippet = int(cells[0, 1])
    first_cells = cells[:MAX_PACE_CELLS]
    middles = ruler.middles[first_cells[:, 1]]
    passed = int(first_cells[-1, 0] - first_cells[0, 0])
    if len(first_cells) < MIN_PACE_CELLS or passed == 0:
        return float(ruler.starts[snippet] if rows < 0 else ruler.ends[snippet])
    pace = (middles[-1] - middles[0]) / passed
    return float(np.clip(middles[0] + rows * pace, ruler.starts[0], ruler.ends[-1]))


def _passages(runs: Sequence[_Run], ruler: Ruler) -> list[list[int]]:
    """Returns the numbers of the runs in each passage. The passages are in the query's order."""
    passages: list[list[int]] = []
    reached = -np.inf
    for i in sorted(range(len(runs)), key=lambda i: int(runs[i].snippets[0])):
        first, last = int(runs[i].snippets[0]), int(runs[i].snippets[-1])
        if ruler.starts[first] <= reached:
            passages[-1].append(i)
        else:
            passages.append([i])
        reached = max(reached, float(ruler.ends[last] + MAX_GAP * (ruler.ends[last] - ruler.starts[last])))
    return sorted(passages, key=min)


def _place(ruler: Ruler, start: float, end: float) -> Place:
    """Returns the place from one point of the ruler to another."""
    first, last = ruler.positions(np.array([start, end]))
    if isinstance(first, ScorePosition) and isinstance(last, ScorePosition):
        numbers = range(first.system, last.system + 1)
        systems = tuple(system for system in ruler.systems if system.number in numbers)
        return Place(pages=_pages(systems), systems=systems, start_x=first.x, end_x=last.x)
    return Place(start_s=start, end_s=end)


def _joined(places: Sequence[Place]) -> Place:
    """Returns one place that joins several places in a score, in the query's order.

    A system in which one place ends and the next starts occurs once.
    """
    systems: list[System] = []
    for place in places:
        systems += place.systems[1:] if systems[-1:] == [place.systems[0]] else place.systems
    return Place(pages=_pages(systems), systems=tuple(systems), start_x=places[0].start_x, end_x=places[-1].end_x)


def _pages(systems: Iterable[System]) -> tuple[int, ...]:
    """Returns the pages of the systems, each page once."""
    return tuple(dict.fromkeys(system.page for system in systems))
