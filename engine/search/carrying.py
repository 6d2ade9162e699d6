"""Carrying a box from a page of one document to another: another edition, or a recording.

Both documents are aligned from end to end. The box covers a stretch of one or more systems, and the path says which
stretch of the other document it matches: parts of systems, or seconds. The path has a cell every 7 staff spaces;
between cells, and for half a snippet before the first and after the last, places are interpolated.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Backend, Path
from engine.collection import AnyCollection
from engine.config import Alignment
from engine.errors import QueryError
from engine.search.answers import as_box, clock
from engine.search.location import Ruler, jumps
from engine.values import Box, Document, SnippetSequence, System

JUMP_PENALTY = 10.0
"""Cost of a jump between two scores. They print the same music in the same order, so a path that jumps to the second
print of a strain is wrong, at equal cost of its cells. It pays to jump over what one edition lacks."""
OUTER_HOPS = 2.0
"""Hops from the middle of a snippet to its end."""

Floats = NDArray[np.float64]
"""Positions on a ruler, float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedPart:
    """A stretch of the other document that a box matches: a part of one system, or seconds."""

    system: System | None = None
    """The system; None in a recording."""
    start: float
    """Where the stretch starts, in page widths or in seconds."""
    end: float

    def as_dict(self) -> dict[str, Any]:
        """Returns the part as a map: a box of a page, or seconds."""
        if self.system is None:
            return {"start_s": self.start, "end_s": self.end}
        return as_box(self.system) | {"x0": self.start, "x1": self.end}

    @property
    def text(self) -> str:
        """Returns the part for people."""
        if self.system is None:
            return f"{clock(self.start)}-{clock(self.end)}"
        box = self.system.box
        corners = f"{self.start:.3f},{box.y0:.3f},{self.end:.3f},{box.y1:.3f}"
        return f"p. {self.system.page}, system {self.system.number}: {corners}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The places in another document that a box matches, in the order of the box's music."""

    parts: tuple[CarriedPart, ...]
    cost: float
    """Mean cost of the path's cells in the box: near that of the whole path if the documents match there."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the parts and the cost as a map of plain values."""
        return {"parts": [part.as_dict() for part in self.parts], "cost": self.cost}

    def table(self) -> str:
        """Returns the parts and the cost for people, a line for each part."""
        return "\n".join([*(part.text for part in self.parts), f"cost {self.cost:.3f}"])


def carry(
    collection: AnyCollection, id: str, page: int, box: Box, to: str, backend: Backend, alignment: Alignment
) -> Carried:
    """Returns the places in the document `to` that a box on a page of the document `id` matches.

    box: in page widths. alignment: without rests.
    Raises QueryError if `id` is no score, the box covers no system or the documents cannot be aligned;
    DocumentMissingError if a document is missing.
    """
    source, target = collection.document(id), collection.document(to)
    if source.kind != "score":
        raise QueryError(f"{id}: expected a score, whose pages have boxes, got a recording")
    query, other = collection.sequence(source.id), collection.sequence(target.id)
    ruler = Ruler.of(query, source.systems)
    stretches = list(_stretches(source, ruler, page, box))
    if not stretches:
        raise QueryError(f"{id}: no system on page {page} reaches into the box {box.x0},{box.y0},{box.x1},{box.y1}")
    same = source.kind == target.kind
    settings = replace(alignment, bias_weight=0.0, jump_penalty=JUMP_PENALTY) if same else alignment
    path = backend.path(query.embeddings, other.embeddings, other.bias, settings)
    if len(path) == 0:
        reason = "one of both is too short for the steps and jumps that [search.alignment] allows"
        raise QueryError(f"{source.id} and {target.id} cannot be aligned: {reason}")
    cost = _cost(path, query, other, settings, ruler, stretches)
    mapped = _mapped(path, ruler, Ruler.of(other, target.systems), stretches)
    return Carried(parts=tuple(part for one in mapped for part in _parts(one, other, target)), cost=cost)


def _stretches(document: Document, ruler: Ruler, page: int, box: Box) -> Iterator[tuple[float, float]]:
    """Yields the stretch of each system on the page that the box covers, on the document's ruler."""
    for number, system in enumerate(document.systems):
        middle = (system.box.y0 + system.box.y1) / 2
        start, end = max(box.x0, system.box.x0), min(box.x1, system.box.x1)
        if system.page == page and start < end and _reaches(box, system.box, middle):
            first = ruler.borders[number]
            yield (
                float(first + (start - system.box.x0) / system.staff_space),
                float(first + (end - system.box.x0) / system.staff_space),
            )


def _reaches(box: Box, system: Box, middle: float) -> bool:
    """Returns whether a box has the middle of a system, or lies within it."""
    return box.y0 <= middle <= box.y1 or (system.y0 <= box.y0 and box.y1 <= system.y1)


def _mapped(
    path: Path, source: Ruler, target: Ruler, stretches: list[tuple[float, float]]
) -> Iterator[tuple[float, float]]:
    """Yields the stretches on the target's ruler that stretches on the source's match, one for each part of the path.

    A jump cuts the path. Stretches that go on from system to system are one.
    """
    cut = np.split(path, np.flatnonzero(jumps(path))) if len(path) else []
    for number, part in enumerate(cut):
        outer = number == 0, number == len(cut) - 1
        columns, inverse, counts = np.unique(part[:, 1], return_inverse=True, return_counts=True)
        rows = (
            np.bincount(inverse, weights=source.middles[part[:, 0]]) / counts
        )  # of the cells with one column, the mean
        along, across = _extended(rows, target.middles[columns], outer)
        for start, end in _joined(stretches):
            first, last = max(start, float(along[0])), min(end, float(along[-1]))
            if first < last:
                mapped = np.clip(np.interp((first, last), along, across), target.starts[0], target.ends[-1])
                yield float(mapped[0]), float(mapped[1])


def _extended(along: Floats, across: Floats, outer: tuple[bool, bool]) -> tuple[Floats, Floats]:
    """Returns the cells of a part of the path with a point before and one after it, at its mean pace.

    outer: whether the part is the first, and the last: it goes on for half a snippet, two hops; at a jump for half a
        hop.
    """
    passed = float(along[-1] - along[0])
    pace = float(across[-1] - across[0]) / passed if passed > 0 else 1.0
    hop = passed / (len(along) - 1) if passed > 0 else 1.0
    before, after = (hop * (OUTER_HOPS if one else 0.5) for one in outer)
    return (
        np.concatenate([[along[0] - before], along, [along[-1] + after]]),
        np.concatenate([[across[0] - before * pace], across, [across[-1] + after * pace]]),
    )


def _joined(stretches: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the stretches, those that touch as one."""
    joined: list[tuple[float, float]] = []
    for start, end in stretches:
        if joined and start - joined[-1][1] < 1e-6:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _parts(stretch: tuple[float, float], sequence: SnippetSequence, document: Document) -> Iterator[CarriedPart]:
    """Yields the parts of systems that a stretch of a document's ruler covers; the seconds in a recording."""
    start, end = stretch
    if document.kind == "recording":
        yield CarriedPart(start=start, end=end)
        return
    borders = Ruler.of(sequence, document.systems).borders
    for number, system in enumerate(document.systems):
        first, last = max(start, float(borders[number])), min(end, float(borders[number + 1]))
        if first < last:
            left = system.box.x0 - float(borders[number]) * system.staff_space
            yield CarriedPart(
                system=system, start=left + first * system.staff_space, end=left + last * system.staff_space
            )


def _cost(
    path: Path,
    query: SnippetSequence,
    other: SnippetSequence,
    settings: Alignment,
    ruler: Ruler,
    stretches: list[tuple[float, float]],
) -> float:
    """Returns the mean cost of the cells of a path whose query snippets have their middles near the stretches."""
    middles = ruler.middles[path[:, 0]]
    hop = float(np.median(np.diff(ruler.middles))) if len(ruler.middles) > 1 else 0.0
    near = np.any([(middles >= start - hop) & (middles <= end + hop) for start, end in stretches], axis=0)
    cells = path[near] if near.any() else path
    products = np.sum(query.embeddings[cells[:, 0]] * other.embeddings[cells[:, 1]].astype(np.float32), axis=1)
    return float(np.mean(1 - products + np.float32(settings.bias_weight) * other.bias[cells[:, 1]]))
