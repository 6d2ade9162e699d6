"""Where a match lies: its parts, the passage they make, and the path through them point by point.

A jump cuts the path into parts. Parts that touch or overlap in the document, such as the turns of a repeat, make one
passage; a match is said to lie in the passage that carries most of the query, so that a jump to some other place for
the last few snippets does not stretch it to there. What the other parts are is told beside it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Path
from engine.values import Document, Part, PathPoint, Position, RecordingPosition, ScorePosition, System

LONGEST_STEP = 2
"""Document snippets that a path advances by between two cells; what moves otherwise has jumped."""


@dataclass(slots=True)
class _Passage:
    first: int
    last: int
    """Snippets of the document."""
    cells: int
    """Of the path."""


def where(path: Path, places: NDArray[Any], document: Document) -> dict[str, Any]:
    """What a match says of the place of its path, by the names of `Match`.

    path: int32 (L, 2), at least one row.
    places: (n,) of SCORE_PLACE or RECORDING_PLACE, where the document's snippets lie.
    """
    runs = np.split(path, np.flatnonzero(_jumped(path)))
    parts = tuple(
        Part(share=len(run) / len(path), **_range(places, int(run[0, 1]), int(run[-1, 1]), document)) for run in runs
    )
    passage = _main_passage(runs, places)
    return {"parts": parts, **_range(places, passage.first, passage.last, document)}


def points(
    path: Path,
    query_places: NDArray[Any],
    query_systems: tuple[System, ...],
    places: NDArray[Any],
    systems: tuple[System, ...],
) -> tuple[PathPoint, ...]:
    """The cells of a path as pairs of positions, those of the centres of the snippets.

    systems: what places in a score refer to; none for a recording.
    Raises ValueError if a score's systems are missing.
    """
    asked = _centres(query_places[path[:, 0]], query_systems)
    found = _centres(places[path[:, 1]], systems)
    jumped = _jumped(path).tolist()
    return tuple(PathPoint(query=q, document=d, jump=j) for q, d, j in zip(asked, found, jumped, strict=True))


def _jumped(path: Path) -> NDArray[np.bool_]:
    """(L,) whether the path came to this cell by a jump."""
    moves = np.diff(path[:, 1], prepend=path[0, 1])
    return (moves < 0) | (moves > LONGEST_STEP)


def _main_passage(runs: list[Path], places: NDArray[Any]) -> _Passage:
    """The snippets from the first to the last of those that carry most of the query together; the earliest of equals.

    Snippets overlap, so parts touch though their snippets do not follow on each other.
    """
    passages: list[_Passage] = []
    for first, last, cells in sorted((int(run[0, 1]), int(run[-1, 1]), len(run)) for run in runs):
        if passages and _start(places[first]) <= _end(places[passages[-1].last]):
            passages[-1].last = max(passages[-1].last, last)
            passages[-1].cells += cells
        else:
            passages.append(_Passage(first, last, cells))
    return max(passages, key=lambda passage: passage.cells)


def _start(place: Any) -> tuple[float, ...]:
    return (place["start_s"],) if "start_s" in place.dtype.names else (place["system"], place["x"])


def _end(place: Any) -> tuple[float, ...]:
    return (place["end_s"],) if "end_s" in place.dtype.names else (place["end_system"], place["end_x"])


def _range(places: NDArray[Any], first: int, last: int, document: Document) -> dict[str, Any]:
    """From the start of one snippet to the end of another, by the names of `Match`."""
    if document.kind == "recording":
        return {"start_s": float(places["start_s"][first]), "end_s": float(places["end_s"][last])}
    numbers = range(int(places["system"][first]), int(places["end_system"][last]) + 1)
    systems = tuple(system for system in document.systems if system.number in numbers)
    return {
        "pages": tuple(dict.fromkeys(system.page for system in systems)),
        "systems": systems,
        "start_x": float(places["x"][first]),
        "end_x": float(places["end_x"][last]),
    }


def _centres(places: NDArray[Any], systems: tuple[System, ...]) -> list[Position]:
    """The middle of each snippet: where what it shows or sounds is, as the network was trained."""
    if "start_s" in (places.dtype.names or ()):
        return [RecordingPosition(s=s) for s in ((places["start_s"] + places["end_s"]) / 2).tolist()]
    if not systems:
        raise ValueError("expected the systems of the score, which the points of a path lie in, got none")
    # Half-way along the strip, whose scale is the staff space of each system.
    spaces = np.array([system.staff_space for system in systems])
    lefts, rights = (np.array([getattr(system.box, side) for system in systems]) for side in ("x0", "x1"))
    borders = np.concatenate([[0.0], np.cumsum((rights - lefts) / spaces)])
    numbers = np.array([system.number for system in systems])

    def along(number: str, x: str) -> NDArray[np.float64]:
        k = np.searchsorted(numbers, places[number])
        return np.asarray(borders[k] + (places[x] - lefts[k]) / spaces[k], np.float64)

    middles = (along("system", "x") + along("end_system", "end_x")) / 2
    at = np.searchsorted(borders[1:-1], middles, side="right")
    xs = lefts[at] + (middles - borders[at]) * spaces[at]
    return [
        ScorePosition(page=systems[k].page, system=systems[k].number, x=x)
        for k, x in zip(at.tolist(), xs.tolist(), strict=True)
    ]
