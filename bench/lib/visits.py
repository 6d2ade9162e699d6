"""Which measure sounds when: in real performances, in kern played as it is written, and in kern with its repeats.

`measure_times.csv` lacks the measure of a visit where a repeat is played (three visits in ten in dev_scans_mozart). The
number of notes of each visit tells the measures: nearly always, the right run of printed measures differs by less than
two per cent in its notes, and the next best run by more than ten. Verovio plays kern straight through, with both
endings of a repeat. The order of the sections that the kern gives (`*>[A,A1,A,A2]`) is therefore applied to the
recording.
"""

import csv
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.lib import pieces
from bench.lib.passages import Measure
from bench.lib.pieces import Piece

MIN_RUN = 4
"""Smallest number of visits in a run that is mapped. A shorter run has too few notes to tell its measures."""
ALIKE = 0.06
"""Largest difference in notes, as a share of the notes, between a run of visits and the measures it is mapped to."""
FADE_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A measure that is played once."""

    measure: int
    """Printed number of the measure; -1 if unknown."""
    start_s: float
    end_s: float


def performed(measure_times: Path) -> dict[str, list[Visit]]:
    """The visits of the performances of a set in order, by performance."""
    rows: dict[str, list[Mapping[str, str]]] = {}
    with measure_times.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            rows.setdefault(row["performance"], []).append(row)
    made = {}
    for performance, own in rows.items():
        measures = restored([int(row["measure"] or -1) for row in own], [int(row["notes"]) for row in own])
        times = [(float(row["t0"]), float(row["t1"])) for row in own]
        made[performance] = [
            Visit(measure=m, start_s=start, end_s=end) for m, (start, end) in zip(measures, times, strict=True)
        ]
    return made


def restored(measures: Sequence[int], notes: Sequence[int]) -> list[int]:
    """The measures of all visits, with unknown ones (-1) filled in where the numbers of notes tell the measures.

    notes: number of notes of each visit.
    """
    filled, count = list(measures), np.array(notes, float)
    printed: dict[int, float] = {}
    for measure, n in zip(measures, count.tolist(), strict=True):
        printed.setdefault(measure, n)
    unknown = "".join("x" if measure < 0 else "." for measure in measures)
    for run in re.finditer(f"x{{{MIN_RUN},}}", unknown):
        heard = count[run.start() : run.end()]
        fits = []
        for first in printed:
            known = [printed.get(first + k, np.inf) for k in range(len(heard))]
            fits.append((float(np.abs(known - heard).mean() / heard.mean()), first))
        difference, first = min(fits)
        if difference <= ALIKE:
            filled[run.start() : run.end()] = range(first, first + len(heard))
    return filled


def written(piece: Piece, measures: Iterable[Measure]) -> list[Visit]:
    """The visits of a kern file as Verovio plays it.

    The parts of a measure that a repeat splits cannot be told apart, so they are unknown.
    """
    performance = pieces.performance(piece)
    made = []
    for measure in measures:
        quarters = np.array([measure.start_quarter, measure.start_quarter + measure.length_quarters])
        start, end = performance.seconds_at(quarters).tolist()
        made.append(Visit(measure=measure.number if measure.whole else -1, start_s=start, end_s=end))
    return made


def order(kern: str) -> list[range]:
    """The sections of a kern file in the order of playing, each as the visits it has in the kern as it is written.

    Empty if the kern gives no order.
    """
    listed = re.search(r"^\*>\[([\w,]+)\]", kern, re.MULTILINE)
    starts: dict[str, int] = {}
    count, begun = 0, False
    for line in kern.splitlines():
        label = re.match(r"\*>(\w+)(\t|$)", line)
        if label:
            starts[label[1]] = count + begun
        elif line.startswith("="):
            count, begun = count + begun, False
        elif line and line[0] not in "!*":
            begun = True
    borders = [*starts.values(), count + begun]
    sections = {name: range(*borders[i : i + 2]) for i, name in enumerate(starts)}
    return [sections[name] for name in listed[1].split(",") if sections[name]] if listed else []


def unfolded(
    samples: NDArray[np.float32], rate: int, visits: Sequence[Visit], sections: Sequence[range]
) -> tuple[NDArray[np.float32], list[Visit]]:
    """A recording that is cut up and joined in the order of `sections`, and its visits.

    samples: float32 (n,), the recording in which `visits` are played. The sound after the last visit stays at the end
        of the section that holds the visit.
    """
    fade = np.linspace(0, 1, round(FADE_S * rate), dtype=np.float32)
    cut: list[NDArray[np.float32]] = []
    made: list[Visit] = []
    start_s = 0.0
    for section in sections:
        first_s = visits[section.start].start_s
        last_s = visits[section.stop].start_s if section.stop < len(visits) else len(samples) / rate
        part = samples[round(first_s * rate) : round(last_s * rate)].copy()
        if len(part) < len(fade):
            continue  # rests after the last note are not recorded
        part[: len(fade)] *= fade
        part[-len(fade) :] *= fade[::-1]
        cut.append(part)
        for visit in visits[section.start : section.stop]:
            shift = start_s - first_s
            made.append(Visit(measure=visit.measure, start_s=visit.start_s + shift, end_s=visit.end_s + shift))
        start_s += len(part) / rate
    return np.concatenate(cut), made


def turns(visits: Sequence[Visit]) -> list[float]:
    """The seconds at which the music goes back to an earlier measure."""
    known = [visit for visit in visits if visit.measure >= 0]
    return [after.start_s for before, after in itertools.pairwise(known) if after.measure < before.measure]


def repeats(visits: Iterable[Visit]) -> int:
    """The number of visits of measures that were played before."""
    known = [visit.measure for visit in visits if visit.measure >= 0]
    return len(known) - len(set(known))
