"""Where a match lies: its parts, the range they make, and the path through them point by point.

A jump cuts the path into parts. Parts that overlap in the document or lie near each other, such as the turns of a
repeat, make one passage. A passage that carries less than a tenth of the query is a stray: it is told among the parts,
but does not stretch the range of the match. In a score the range is all other parts, in the query's order; in a
recording, where it has one start and one end, it is the first passage, where the query starts.

What a snippet shows or sounds is its middle, as the network was trained; its ends say only how far it reaches. So the
query starts half a snippet before the middle of its first one, and the match as much earlier as the path's own pace
makes of that: on real scans this puts the start .3 measures wrong in the median, where the first snippet's start
is .8 wrong, nearly always too late.
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

LONGEST_STEP = 3
"""Document snippets that a path advances by between two cells; what moves otherwise has jumped."""
NEAR = 2.0
"""Snippet lengths from the end of one part to the start of the next one of its passage, at most. Where music is slower
than the steps can follow, the path leaps on by less."""
STRAY = 0.1
"""Share of the path below which a passage is no part of the range."""
PACE_CELLS = 20
"""Cells at an end of a part that its pace there is taken from; with fewer than PACE_LEAST it is not known."""
PACE_LEAST = 6

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruler:
    """The snippets of a document on one axis: seconds, or staff spaces along the strip of its systems."""

    starts: Floats
    ends: Floats
    """(n,) of each snippet."""
    systems: tuple[System, ...]
    """None for a recording."""
    borders: Floats
    """(systems + 1,) where each system starts, and the last one ends."""

    @classmethod
    def of(cls, sequence: SnippetSequence, systems: tuple[System, ...] = ()) -> "Ruler":
        """The ruler of a document or query; a score's needs its systems. Raises ValueError if they are missing."""
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

        def along(system: str, x: str) -> Floats:
            k = np.searchsorted(numbers, places[system])
            return np.asarray(borders[k] + (places[x] - lefts[k]) / spaces[k], np.float64)

        return cls(starts=along("system", "x"), ends=along("end_system", "end_x"), systems=systems, borders=borders)

    @property
    def middles(self) -> Floats:
        return (self.starts + self.ends) / 2

    def positions(self, along: Floats) -> list[Position]:
        """What lies there on the axis."""
        if not self.systems:
            return [RecordingPosition(s=s) for s in along.tolist()]
        numbers = np.searchsorted(self.borders[1:-1], along, side="right")
        found = zip((self.systems[number] for number in numbers), (along - self.borders[numbers]).tolist(), strict=True)
        return [
            ScorePosition(page=system.page, system=system.number, x=system.box.x0 + spaces * system.staff_space)
            for system, spaces in found
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The path between two jumps."""

    snippets: NDArray[np.int32]
    """Of the document, rising."""
    start: float
    end: float
    """On the document's ruler."""


def reach(front_end: FrontEnd, kind: Kind) -> float:
    """The distance from the middle of a snippet to its end, in snippets; kind: that of the query."""
    if kind == "recording":
        return front_end.excerpt_frames / front_end.excerpt_hop_frames / 2
    return front_end.snippet_px / front_end.snippet_hop_px / 2


def where(path: Path, ruler: Ruler, reach: float) -> tuple[Place, tuple[Part, ...]]:
    """The place of a match by its path, and the parts that the path runs through.

    path: int32 (L, 2), at least one row.
    reach: of the query's snippets.
    """
    runs = _runs(path, ruler, reach)
    passages = _passages(runs, ruler)
    shares = [sum(len(runs[i].snippets) for i in passage) / len(path) for passage in passages]
    parts = tuple(Part(share=len(run.snippets) / len(path), place=_place(ruler, run.start, run.end)) for run in runs)
    least = min(STRAY, max(shares))
    kept = [passage for passage, share in zip(passages, shares, strict=True) if share >= least]
    if not ruler.systems:
        return _place(ruler, min(runs[i].start for i in kept[0]), max(runs[i].end for i in kept[0])), parts
    return _joined([parts[i].place for i in sorted(i for passage in kept for i in passage)]), parts


def points(path: Path, asking: Ruler, found: Ruler) -> tuple[PathPoint, ...]:
    """The cells of a path as pairs of positions, those of the middles of the snippets; rulers of query and document."""
    queries = asking.positions(asking.middles[path[:, 0]])
    documents = found.positions(found.middles[path[:, 1]])
    jumped = _jumped(path).tolist()
    return tuple(PathPoint(query=q, document=d, jump=j) for q, d, j in zip(queries, documents, jumped, strict=True))


def _jumped(path: Path) -> NDArray[np.bool_]:
    """(L,) whether the path came to this cell by a jump."""
    moves = np.diff(path[:, 1], prepend=path[0, 1])
    return (moves < 0) | (moves > LONGEST_STEP)


def _runs(path: Path, ruler: Ruler, reach: float) -> list[_Run]:
    """The parts of the path. The query ends beyond its outer snippets' middles; a jump is half-way between two rows."""
    cut = np.split(path, np.flatnonzero(_jumped(path)))
    return [
        _Run(
            snippets=cells[:, 1],
            start=_edge(cells, ruler, -reach if i == 0 else -0.5),
            end=_edge(cells[::-1], ruler, reach if i == len(cut) - 1 else 0.5),
        )
        for i, cells in enumerate(cut)
    ]


def _edge(cells: Path, ruler: Ruler, rows: float) -> float:
    """Where on the ruler the first of the cells would be `rows` of the query later, at the pace of those after it."""
    snippet = int(cells[0, 1])
    few = cells[:PACE_CELLS]
    middles = ruler.middles[few[:, 1]]
    passed = int(few[-1, 0] - few[0, 0])
    if len(few) < PACE_LEAST or passed == 0:
        return float(ruler.starts[snippet] if rows < 0 else ruler.ends[snippet])
    pace = (middles[-1] - middles[0]) / passed
    return float(np.clip(middles[0] + rows * pace, ruler.starts[0], ruler.ends[-1]))


def _passages(runs: Sequence[_Run], ruler: Ruler) -> list[list[int]]:
    """The numbers of the runs that make each passage, in the query's order."""
    passages: list[list[int]] = []
    reached = -np.inf
    for i in sorted(range(len(runs)), key=lambda i: int(runs[i].snippets[0])):
        first, last = int(runs[i].snippets[0]), int(runs[i].snippets[-1])
        if ruler.starts[first] <= reached:
            passages[-1].append(i)
        else:
            passages.append([i])
        reached = max(reached, float(ruler.ends[last] + NEAR * (ruler.ends[last] - ruler.starts[last])))
    return sorted(passages, key=min)


def _place(ruler: Ruler, start: float, end: float) -> Place:
    """The place from one point of the ruler to another."""
    first, last = ruler.positions(np.array([start, end]))
    if isinstance(first, ScorePosition) and isinstance(last, ScorePosition):
        numbers = range(first.system, last.system + 1)
        systems = tuple(system for system in ruler.systems if system.number in numbers)
        return Place(pages=_pages(systems), systems=systems, start_x=first.x, end_x=last.x)
    return Place(start_s=start, end_s=end)


def _joined(places: Sequence[Place]) -> Place:
    """One place in a score from several, in the query's order; a system that one ends and the next starts in is one."""
    systems: list[System] = []
    for place in places:
        systems += place.systems[1:] if systems[-1:] == [place.systems[0]] else place.systems
    return Place(pages=_pages(systems), systems=tuple(systems), start_x=places[0].start_x, end_x=places[-1].end_x)


def _pages(systems: Iterable[System]) -> tuple[int, ...]:
    """The pages of the systems, each once."""
    return tuple(dict.fromkeys(system.page for system in systems))
