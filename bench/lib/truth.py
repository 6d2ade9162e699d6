"""The truth about scans and recordings: when each place on the page sounds.

A *point* of the music is counted in measures: 12.5 is the middle of measure 12. For each measure, `systems.csv` gives
the printed system that holds it, and `visits` give the times when it is played. Its place in the system is estimated
(`passages.places`), and is good to about half a measure. Uncertain points are unknown: systems that detection does not
find, measures that a line break or a repeat splits, visits of unknown measures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.lib import passages, pieces, visits
from bench.lib.passages import HEAD_SPACES, Measure
from bench.lib.printed import MIN_IOU, PrintedSystem, iou, printed_systems
from bench.lib.visits import Visit
from engine.values import Document, ScorePosition, System

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The points of one system with known measures, from left to right."""

    system: System
    points: Floats
    """(n,) points in rising order, in measures."""
    xs: Floats
    """(n,) place of each point, in page widths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The truth about one piece with its scan and its recording."""

    piece: str
    visits: tuple[Visit, ...]
    lines: tuple[Line, ...]
    unsure: frozenset[int]
    """Measures whose place is not known."""

    def point_at(self, second: float) -> float | None:
        """The point that sounds at a second; None if unknown."""
        for visit in self.visits:
            if visit.start_s <= second < visit.end_s:
                if visit.measure < 0 or visit.measure in self.unsure:
                    return None
                return visit.measure + (second - visit.start_s) / (visit.end_s - visit.start_s)
        return None

    def seconds_of(self, point: float) -> list[float]:
        """The seconds at which a point sounds, one for each visit."""
        measure = int(point)
        return [
            visit.start_s + (point - measure) * (visit.end_s - visit.start_s)
            for visit in self.visits
            if visit.measure == measure
        ]

    def place_of(self, point: float) -> ScorePosition | None:
        """The place where a point is printed; None if unknown."""
        for line in self.lines:
            if line.points[0] <= point <= line.points[-1]:
                x = float(np.interp(point, line.points, line.xs))
                return ScorePosition(page=line.system.page, system=line.system.number, x=x)
        return None

    def point_of(self, system: int, x: float) -> float | None:
        """The point that is printed at a place of a system; None if unknown."""
        for line in self.lines:
            if line.system.number == system:
                point = float(np.interp(x, line.xs, line.points))
                return None if int(point) in self.unsure else point
        return None


def join(
    piece: str,
    score: Document,
    printed: Sequence[tuple[int, PrintedSystem]],
    measures: Sequence[Measure],
    played: Iterable[Visit],
) -> Truth:
    """The truth about a piece, joined from its systems, measures and visits.

    printed: the verified systems, each with its page. measures: the measures of the kern.
    played: the visits of the recording.
    """
    several = passages.shared_measures(printed)
    lines = []
    for page, system in printed:
        same = [found for found in score.systems if found.page == page]
        best = max(same, key=lambda found: iou(system.rows, (found.box.y0, found.box.y1)), default=None)
        if best is not None and iou(system.rows, (best.box.y0, best.box.y1)) >= MIN_IOU:
            lines.append(_line(best, system, measures))
    split = {measure.number for measure in measures if not measure.whole}
    return Truth(piece=piece, visits=tuple(played), lines=tuple(lines), unsure=frozenset(several | split))


def _line(found: System, printed: PrintedSystem, measures: Sequence[Measure]) -> Line:
    length = found.box.x1 - found.box.x0
    head = HEAD_SPACES * found.staff_space / length
    quarters = {measure.number: measure.length_quarters for measure in measures if measure.whole}
    shares = passages.places(printed, measures, head)
    at = {number + onset / quarters[number]: share for (number, onset), share in shares.items()}
    at |= {printed.first_measure: head, printed.last_measure + 1: 1.0}
    points = np.array(sorted(at))
    return Line(system=found, points=points, xs=found.box.x0 + length * np.array([at[point] for point in points]))


def truths(
    data: Path,
    name: str,
    documents: Mapping[str, Document],
    count: int | None = None,
    played: Mapping[str, Sequence[Visit]] | None = None,
) -> list[Truth]:
    """The truths of the first `count` pieces of a set of `bench.lib.pieces.SETS` that have verified systems.

    documents: the documents by id. played: the visits of each piece's recording, if it is not the one of the set.
    """
    (folder,) = pieces.SETS[name]
    printed = passages.by_piece(printed_systems(data / folder))
    times = data / folder / "measure_times.csv"
    performances = visits.performed(times) if times.exists() else {}
    known = [piece for piece in pieces.pieces(data, name) if passages.file_stem(piece) in printed]
    made = []
    for piece in [piece for piece in known if piece.id in documents][:count]:
        stem = passages.file_stem(piece)
        measures = passages.read_measures(data / folder / f"{stem}.krn")
        own = performances.get(piece.notes.stem) or visits.written(piece, measures)
        own = own if played is None else list(played[piece.id])
        made.append(join(piece.id, documents[piece.id], printed[stem], measures, own))
    return made
