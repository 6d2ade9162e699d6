"""The time map of a score and a recording: at which place of the score the music is at each second of the recording.

A time map is made of an alignment path between the two, whichever of them was the query. It is cut into *stretches*:
one stretch lies in one system, is played without a jump, and follows the stretch before it. Within a stretch the place
moves to the right as time goes on, and is linear between points. So a cursor needs no more than a stretch, and a
repeat that is played twice has two stretches in the same system.

A system begins with clef and key, where no music is, and a path runs on through them. The map passes to the next system
in the middle of that room: before, the place is the end of the system above, and after, the place of the first note.

A path knows the middles of snippets only. Before its first middle, after its last, and on both sides of a jump, the
map goes on at the pace of the path: to the ends of the snippets, and half-way to the jump.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Path
from engine.search.location import Ruler, jumps
from engine.values import ScorePosition, System

SMOOTHED = 1
"""Cells on each side over which the place of a cell is averaged: a path moves in whole snippets, music does not. With
three cells, one per cent less of the time is in the right measure."""
HEAD_SPACES = 8.0
"""Room of clef and key at the left end of a system, in staff spaces. Without it, the map is in the next system 0.2 s
too soon, two per cent of the time."""
PACE_CELLS = 12
"""Cells at the end of a part from which the pace is taken at which the map goes on beyond it."""
NEAREST_S = 0.001
"""Least time between points beside the end of a system: maps are written in milliseconds, in which seconds rise."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of one system that is played without a jump."""

    system: System
    """The system, with its page and its box."""
    seconds: tuple[float, ...]
    """Seconds of the recording, rising; two or more."""
    xs: tuple[float, ...]
    """Place at each of these seconds, in page widths, never falling."""
    jump: bool
    """Whether the music jumps to this stretch from elsewhere, as in a repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeMap:
    """Where in a score a recording is at each second. The stretches do not overlap in time."""

    stretches: tuple[Stretch, ...]
    """The stretches, in the order of the recording."""

    def at(self, second: float) -> ScorePosition | None:
        """Returns where the music is at a second of the recording; None where the map has no stretch."""
        for stretch in self.stretches:
            if stretch.seconds[0] <= second < stretch.seconds[-1]:
                x = float(np.interp(second, stretch.seconds, stretch.xs))
                return ScorePosition(page=stretch.system.page, system=stretch.system.number, x=x)
        return None

    def seconds_of(self, system: int, x: float) -> list[float]:
        """Returns each second at which the recording passes a place: several if the place is repeated.

        system: number of the system. x: in page widths.
        """
        passing = (stretch for stretch in self.stretches if stretch.system.number == system)
        return [
            float(np.interp(x, stretch.xs, stretch.seconds))
            for stretch in passing
            if stretch.xs[0] <= x <= stretch.xs[-1]
        ]

    def as_list(self) -> list[dict[str, Any]]:
        """Returns the stretches as maps of plain values, as docs/protocol.md describes them."""
        return [
            {
                "page": stretch.system.page,
                "system": stretch.system.number,
                "jump": stretch.jump,
                "s": np.round(stretch.seconds, 3).tolist(),
                "x": np.round(stretch.xs, 5).tolist(),
            }
            for stretch in self.stretches
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A part of the path without a jump, on both rulers."""

    seconds: Floats
    along: Floats
    """Places on the ruler of the score."""
    jump: bool


def time_map(path: Path, query: Ruler, document: Ruler) -> TimeMap:
    """Returns the time map of a path between a score and a recording.

    path: int32 (L, 2); columns: query snippet, document snippet.
    query, document: the rulers of both. Raises ValueError unless one is of a score and the other of a recording.
    """
    if bool(query.systems) == bool(document.systems):
        raise ValueError("expected a score and a recording, got two of a kind")
    score, recording = (query, document) if query.systems else (document, query)
    cells = path[:, ::-1] if query.systems else path
    pieces = np.split(cells, np.flatnonzero(jumps(path)))
    runs = [_run(piece, score, recording, jump=i > 0) for i, piece in enumerate(pieces) if len(piece)]
    stretches = [stretch for run in _continued(_in_time(runs), score, recording) for stretch in _stretches(run, score)]
    return TimeMap(stretches=tuple(stretches))


def _run(cells: Path, score: Ruler, recording: Ruler, *, jump: bool) -> _Run:
    """Returns the run of some cells; columns: recording snippet, score snippet.

    Where a score is the query, several of its snippets may match one excerpt. Their mean is the place at that second.
    Without it seconds did not rise, and the maps of 23 demo scores lay 0.042 systems from the maps of their recordings
    as queries, instead of 0.037.
    """
    seconds, cell_moments, counts = np.unique(recording.middles[cells[:, 0]], return_inverse=True, return_counts=True)
    along = np.bincount(cell_moments, weights=score.middles[cells[:, 1]]) / counts
    return _Run(seconds=seconds, along=np.maximum.accumulate(_smoothed(along)), jump=jump)


def _smoothed(values: Floats) -> Floats:
    """Returns the mean of each value and its neighbours: as many on both sides as there are, `SMOOTHED` at most."""
    sums, places = np.concatenate([[0.0], np.cumsum(values)]), np.arange(len(values))
    reach = np.minimum(SMOOTHED, np.minimum(places, places[::-1]))
    return np.asarray((sums[places + reach + 1] - sums[places - reach]) / (2 * reach + 1), np.float64)


def _in_time(runs: list[_Run]) -> list[_Run]:
    """Returns the runs in the order of the recording.

    Where a score is the query, its repeats may be aligned with the same seconds; the longer run keeps them.
    """
    kept: list[_Run] = []
    for run in sorted(runs, key=lambda run: -len(run.seconds)):
        free = np.ones(len(run.seconds), bool)
        for other in kept:
            free &= (run.seconds < other.seconds[0]) | (run.seconds > other.seconds[-1])
        left = np.flatnonzero(free)
        for part in np.split(left, np.flatnonzero(np.diff(left) > 1) + 1):  # on both sides of a run that is kept
            if len(part):
                jump = run.jump or bool(part[0] > 0)
                kept.append(_Run(seconds=run.seconds[part], along=run.along[part], jump=jump))
    return sorted(kept, key=lambda run: float(run.seconds[0]))


def _continued(runs: list[_Run], score: Ruler, recording: Ruler) -> Iterator[_Run]:
    """Yields the runs, each going on to the next one, and the first and the last to the ends of their snippets."""
    reach_s = float(recording.ends[0] - recording.starts[0]) / 2
    for i, run in enumerate(runs):
        first, last = float(run.seconds[0]), float(run.seconds[-1])
        before = reach_s if i == 0 else (first - float(runs[i - 1].seconds[-1])) / 2
        after = reach_s if i == len(runs) - 1 else (float(runs[i + 1].seconds[0]) - last) / 2
        # A gap of more than a snippet is left open: the music in it is not in the score.
        seconds = np.concatenate([[first - min(before, reach_s)], run.seconds, [last + min(after, reach_s)]])
        pace = _pace(run)
        start = run.along[0] - pace[0] * (first - seconds[0])
        end = run.along[-1] + pace[1] * (seconds[-1] - last)
        along = np.clip(np.concatenate([[start], run.along, [end]]), score.borders[0], score.borders[-1])
        yield _Run(seconds=seconds, along=along, jump=run.jump and i > 0)


def _pace(run: _Run) -> tuple[float, float]:
    """Returns the pace at the start and at the end of a run, in units of the score's ruler a second.

    It is 0 where the cells share one moment, as when many snippets of a score match one excerpt.
    """
    found = []
    for part in (slice(None, PACE_CELLS), slice(-PACE_CELLS, None)):
        seconds, along = run.seconds[part], run.along[part]
        lasting = float(seconds[-1] - seconds[0])
        found.append(float(along[-1] - along[0]) / lasting if lasting > 0 else 0.0)
    return found[0], found[1]


def _stretches(run: _Run, score: Ruler) -> Iterator[Stretch]:
    """Yields the stretches of a run: it is cut where one system ends and the next begins."""
    heads = np.minimum(HEAD_SPACES, np.diff(score.borders) / 2)
    borders = score.borders[1:-1] + heads[1:] / 2
    crossed = np.flatnonzero((borders > run.along[0]) & (borders < run.along[-1]))
    at_cuts = np.interp(borders[crossed], *_rising(run))
    late, early = at_cuts > run.seconds[0] + NEAREST_S, at_cuts < run.seconds[-1] - NEAREST_S
    edges = np.concatenate([[run.seconds[0]], at_cuts[late & early], [run.seconds[-1]]])
    first = int(np.searchsorted(borders, run.along[0], side="right")) + int(np.sum(~late))
    for i, (start_s, end_s) in enumerate(itertools.pairwise(edges)):
        number = first + i
        inside = (run.seconds > start_s + NEAREST_S) & (run.seconds < end_s - NEAREST_S)
        seconds = np.concatenate([[start_s], run.seconds[inside], [end_s]])
        first_note = score.borders[number] + heads[number]
        along = np.clip(np.interp(seconds, run.seconds, run.along), first_note, score.borders[number + 1])
        system = score.systems[number]
        xs = system.box.x0 + (along - score.borders[number]) * system.staff_space
        yield Stretch(system=system, seconds=tuple(seconds.tolist()), xs=tuple(xs.tolist()), jump=run.jump and i == 0)


def _rising(run: _Run) -> tuple[Floats, Floats]:
    """Returns the places of a run, each once, and their seconds."""
    along, first = np.unique(run.along, return_index=True)
    return along, run.seconds[first]
