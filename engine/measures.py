"""Measures: where each is printed, and when it is played.

The measures of a score are those between the barlines that are found on its pages (`engine.score.barlines`), counted
from 1 through the document. A count is wrong from the first barline that is missed on. A pickup counts as a measure,
and so do both parts of a measure that a repeat sign or the end of a system divides.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from engine.score import Score
from engine.score.barlines import measure_ends
from engine.timemap import Stretch, TimeMap
from engine.values import System

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
    found: list[PrintedMeasure] = []
    for system, strip in zip(score.systems, score.strips, strict=True):
        x0 = system.box.x0
        for x1 in measure_ends(strip.unpacked(), system).tolist():
            found.append(PrintedMeasure(number=len(found) + 1, system=system, x0=x0, x1=x1))
            x0 = x1
    return tuple(found)


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
