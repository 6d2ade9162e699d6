"""Measures: where each is printed, and when it is played.

The measures of a score are those between the barlines that are found on its pages (`engine.score.barlines`), counted
from 1 through the document. Lines that are doubtful count where they bring the widths of the measures nearer to the
usual one. A count is wrong from the first barline that is missed on. A pickup counts as a measure. The parts of a
measure that a repeat sign or the end of a system divides, because a section begins with a pickup, have one number: both
are short, and as long as a measure together.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.score import Score
from engine.score.barlines import MeasureEnds, measure_ends
from engine.timemap import HEAD_SPACES, Stretch, TimeMap
from engine.values import System

MAX_PART = 0.75
"""Largest width of a part of a measure that is divided, by the median width of the score's measures."""
MAX_PARTS = 1.1
"""Largest width of both parts together, by the same. Of 767 systems of rags, a measure begins in one and ends in the
next in four, with 0.6 to 1.1; two whole measures there have 1.25 or more. With 0.8 and 1.35, endings of repeats are
taken for parts."""
DOUBTFUL_GAIN = 0.2
"""What a barline more gains, if it is doubtful, against the squared logarithms of the widths by the usual one. With it
a measure is halved that is 1.4 times as wide as usual, without it at 1.5 times. On rags with artificial wear, .93 of
the systems have the right count with it and .91 without; with 0.4 stems are taken for barlines."""
FIRST_NOTE = 2.0
"""Distance in staff spaces from a barline to the note that follows it. The measure begins to sound when the music is
there; at the barline it would begin 0.1 s too soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedMeasure:
    """A measure where it is printed."""

    number: int
    """Number of the measure, from 1, counted through the document."""
    system: System
    """The system that holds the measure."""
    x0: float
    """Left end of the measure, in page widths: a barline, or the end of the system."""
    x1: float
    """Right end of the measure, in page widths."""
    is_second_part: bool = False
    """Whether the measure is the second part of one that is divided, and has the number of the first."""

    @property
    def name(self) -> str:
        """Returns the number, with a letter for a second part: no other measure of the score has this name."""
        return f"{self.number}b" if self.is_second_part else str(self.number)

    @property
    def first_note(self) -> float:
        """Returns where the first note of the measure is expected, in page widths."""
        return self.x0 + FIRST_NOTE * self.system.staff_space


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedMeasure:
    """A measure as it is played once. A measure that is repeated is played several times."""

    measure: PrintedMeasure
    start_s: float
    """Second of the recording at which the measure, or the part of it that is played, begins."""
    end_s: float


def printed_measures(score: Score) -> tuple[PrintedMeasure, ...]:
    """Returns the measures of a score, in order."""
    possible = [
        measure_ends(strip.unpacked(), system) for system, strip in zip(score.systems, score.strips, strict=True)
    ]
    certain = [_without(one, one.doubtful) for one in possible]
    usual = _usual(score.systems, certain)
    found: list[PrintedMeasure] = []
    width = 0.0
    for system, one in zip(score.systems, possible, strict=True):
        ends = _without(one, ~_kept(_edges(system, one), one.doubtful, usual))
        x0, divided = system.box.x0, len(found) > 0
        for x1, own, doubled in zip(ends.places.tolist(), _widths(system, ends).tolist(), ends.doubled, strict=True):
            second = divided and not found[-1].is_second_part and _are_parts(width, own, usual)
            number = found[-1].number + (not second) if found else 1
            found.append(PrintedMeasure(number=number, system=system, x0=x0, x1=x1, is_second_part=second))
            x0, width, divided = x1, own, bool(doubled)
    return tuple(found)


def _without(ends: MeasureEnds, left_out: NDArray[np.bool_]) -> MeasureEnds:
    """Returns the ends without some of them."""
    kept = {name: getattr(ends, name)[~left_out] for name in ("places", "doubled", "doubtful")}
    return replace(ends, **kept)


def _usual(systems: Iterable[System], ends: Iterable[MeasureEnds]) -> float:
    """Returns the median width of the measures in staff spaces, 0 if there is none."""
    widths = [_widths(system, one) for system, one in zip(systems, ends, strict=True)]
    return float(np.median(np.concatenate(widths))) if widths else 0.0


def _edges(system: System, ends: MeasureEnds) -> NDArray[np.float64]:
    """Returns the edges of the measures of a system in staff spaces, without clef and key at its start."""
    edges = np.append(system.box.x0, ends.places) / system.staff_space
    edges[-1] = ends.closing / system.staff_space
    edges[0] = min(max(edges[0] + HEAD_SPACES, ends.opening / system.staff_space), edges[1])
    return np.asarray(edges)


def _widths(system: System, ends: MeasureEnds) -> NDArray[np.float64]:
    """Returns the widths of the measures of a system in staff spaces."""
    return np.diff(_edges(system, ends))


def _kept(edges: NDArray[np.float64], doubtful: NDArray[np.bool_], usual: float) -> NDArray[np.bool_]:
    """Returns which ends are barlines: all that are not doubtful, and those that make the widths most usual, (n,).

    edges: (n + 1,), as `_edges` returns them.
    """
    best, before = [0.0], [0]
    for end in range(1, len(edges)):
        start = end - 1
        ways = []
        while True:
            width = max(edges[end] - edges[start], 1.0)
            ways.append((best[start] + float(np.log(width / usual)) ** 2 - DOUBTFUL_GAIN, start))
            if start == 0 or not doubtful[start - 1]:
                break
            start -= 1
        least, start = min(ways)
        best.append(least)
        before.append(start)
    kept, end = np.zeros(len(doubtful), bool), len(doubtful)
    while end > 0:
        kept[end - 1] = True
        end = before[end]
    return kept


def _are_parts(first: float, second: float, usual: float) -> bool:
    """Returns whether two measures are parts of one, which a repeat sign or the end of a system divides."""
    return max(first, second) <= MAX_PART * usual and first + second <= MAX_PARTS * usual


def played_measures(time_map: TimeMap, measures: Iterable[PrintedMeasure]) -> tuple[PlayedMeasure, ...]:
    """Returns the measures in the order in which a recording plays them."""
    in_system: dict[int, list[PrintedMeasure]] = {}
    for measure in measures:
        in_system.setdefault(measure.system.number, []).append(measure)
    return tuple(
        played for stretch in time_map.stretches for played in _played(stretch, in_system[stretch.system.number])
    )


def _played(stretch: Stretch, measures: list[PrintedMeasure]) -> Iterator[PlayedMeasure]:
    """Yields the measures of a system that a stretch passes, from left to right."""
    starts = np.array([measure.first_note for measure in measures])
    rising, first = np.unique(stretch.xs, return_index=True)
    at_s = np.interp(starts, rising, np.array(stretch.seconds)[first])
    for i, measure in enumerate(measures):
        passed_before = i == 0 or starts[i] <= rising[0]
        start_s = stretch.seconds[0] if passed_before else float(at_s[i])
        is_last = i + 1 == len(measures) or starts[i + 1] > rising[-1]
        end_s = stretch.seconds[-1] if is_last else float(at_s[i + 1])
        reached = i == 0 or starts[i] <= rising[-1]
        if reached and end_s > start_s:
            yield PlayedMeasure(measure=measure, start_s=start_s, end_s=end_s)
