"""How long is a moving cursor in the right place? Whole recordings aligned with their scans.

    python -m bench.cursor --data DIR [--set mozart|joplin] [--sound NAME ...] [--files] [--quick] [--json FILE]

The snippets are those of a collection, as for `scorefind export`; with `--files` the files are read and embedded as for
`scorefind align`, whose snippets lie closer.

A cursor is where the time map says that the music is. It is asked for ten times a second, wherever the measure that
sounds is known (`bench.lib.visits`), which includes repeats. The systems of pages, with the measures that each holds,
are verified (`systems.csv`).

- in system: the share of the time in which the cursor is in a system that holds the measure.
- in measure: the share of the time in which it also is between the right barlines, of those that are found.
- by number: the share of the time in which the measure's number is right as it is counted, from the first number of the
  piece. It falls behind the share before where a barline is missed, or a pickup or a repeat divides a measure.
- systems counted: the share of systems in which as many measures are found as there are. It does not depend on sound.

Intervals come from resampling pieces. Settings are chosen on joplin, where the kern is played as it is written.
"""

import argparse
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench import localisation, retrieval
from bench.lib import intervals, passages, pieces, report, visits
from bench.lib.pieces import Piece
from bench.lib.printed import MIN_IOU, PrintedSystem, iou, printed_systems
from bench.lib.sounds import Sound
from bench.lib.visits import Visit
from engine import alignment, process
from engine.arguments import positive
from engine.collection import Collection
from engine.config import Alignment, SearchSettings
from engine.embedding.encoder import Encoder
from engine.measures import PrintedMeasure, printed_measures
from engine.pairing import EmbeddedDocument, align, align_files
from engine.score import read_score
from engine.timemap import TimeMap
from engine.values import System

STEP_S = 0.1
"""Distance of the moments at which the cursor is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPiece:
    """A piece with the measures that are found on its pages, and those that are there."""

    piece: Piece
    systems: tuple[System, ...]
    measures: Mapping[int, tuple[PrintedMeasure, ...]]
    """The measures that are found in each system, by its number."""
    held: Mapping[int, PrintedSystem]
    """The measures that each system holds, by its number; without systems that nobody has verified."""
    first: int
    """The number of the first measure of the piece."""

    @property
    def counted(self) -> list[bool]:
        """Returns whether the measures of each verified system are as many as are found."""
        return [
            len({one.number for one in self.measures[number]}) == system.last_measure - system.first_measure + 1
            for number, system in self.held.items()
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A moment of a recording: whether the cursor is in the right system, and in the right measure."""

    piece: str
    in_system: bool
    in_measure: bool
    by_number: bool


def read(piece: Piece, printed: Sequence[tuple[int, PrintedSystem]], work: Path) -> ReadPiece:
    """Returns a piece as its pages are read."""
    score = read_score(pieces.score(piece, work).path)
    measures: dict[int, list[PrintedMeasure]] = {}
    for measure in printed_measures(score):
        measures.setdefault(measure.system.number, []).append(measure)
    held = {}
    for page, verified in printed:
        same = [(iou(verified.rows, (s.box.y0, s.box.y1)), s.number) for s in score.systems if s.page == page]
        overlap, number = max(same, default=(0.0, 0))
        if overlap >= MIN_IOU:
            held[number] = verified
    return ReadPiece(
        piece=piece,
        systems=score.systems,
        measures={number: tuple(found) for number, found in measures.items()},
        held=held,
        first=min(verified.first_measure for _, verified in printed),
    )


def moments(known: ReadPiece, time_map: TimeMap, played: Iterable[Visit]) -> Iterator[Moment]:
    """Yields the moments of a recording at which the measure is known."""
    for visit in played:
        if visit.measure < 0:
            continue
        for second in np.arange(visit.start_s + STEP_S / 2, visit.end_s, STEP_S).tolist():
            yield _moment(known, time_map, second, visit.measure)


def _moment(known: ReadPiece, time_map: TimeMap, second: float, measure: int) -> Moment:
    place = time_map.at(second)
    held = None if place is None else known.held.get(place.system)
    if place is None or held is None or not held.first_measure <= measure <= held.last_measure:
        return Moment(piece=known.piece.id, in_system=False, in_measure=False, by_number=False)
    measures = known.measures[place.system]
    index = measure_at(measures, place.x)
    return Moment(
        piece=known.piece.id,
        in_system=True,
        in_measure=held.first_measure + measures[index].number - measures[0].number == measure,
        by_number=measures[index].number - 1 + known.first == measure,
    )


def measure_at(measures: Sequence[PrintedMeasure], x: float) -> int:
    """Returns which of a system's measures sounds while the cursor is at `x`, from 0.

    As in a time map, a measure begins with its first note.
    """
    starts = [one.first_note for one in measures[1:]]
    return int(np.searchsorted(starts, x, side="right"))


def figures(found: Sequence[Moment], known: Sequence[ReadPiece]) -> dict[str, Any]:
    """Returns the cells of a row of the table."""
    row: dict[str, Any] = {"pieces": len({one.piece for one in found}), "minutes": len(found) * STEP_S / 60}
    names = [one.piece for one in found]
    for title, values in (
        ("in system", [one.in_system for one in found]),
        ("in measure", [one.in_measure for one in found]),
        ("by number", [one.by_number for one in found]),
    ):
        row |= intervals.mean(title, values, names)
    counted = [(one.piece.id, right) for one in known for right in one.counted]
    return row | intervals.mean("systems counted", [right for _, right in counted], [name for name, _ in counted])


def measure(
    collection: Collection, known: Iterable[ReadPiece], played: Mapping[str, Sequence[Visit]], settings: Alignment
) -> list[Moment]:
    """Returns the moments of all recordings of a collection."""
    backend = alignment.choose(threads=1)
    found: list[Moment] = []
    for one in tqdm(list(known), desc="align", unit="piece", disable=None):
        score, recording = (
            EmbeddedDocument(document=collection.document(id), sequence=collection.sequence(id))
            for id in (one.piece.id, one.piece.recording_id)
        )
        if len(score.document.systems) != len(one.systems):
            raise ValueError(f"{one.piece.id}: the collection has other systems; make it again below --work")
        pair = align(score, recording, backend, settings)
        found += moments(one, pair.time_map, played[one.piece.id])
    return found


def measure_files(
    known: Iterable[ReadPiece], played: Mapping[str, Sequence[Visit]], encoder: Encoder, work: Path, sound: Sound
) -> list[Moment]:
    """Returns the moments of all recordings, which are aligned as files."""
    backend = alignment.choose(threads=1)
    found: list[Moment] = []
    for one in tqdm(list(known), desc="align", unit="piece", disable=None):
        files = (pieces.score(one.piece, work).path, pieces.recording(one.piece, work, sound).path)
        pair = align_files(*files, encoder, backend, SearchSettings().alignment)
        found += moments(one, pair.time_map, played[one.piece.id])
    return found


def visits_of(data: Path, folder: str, known: Iterable[ReadPiece]) -> dict[str, list[Visit]]:
    """Returns the visits of each piece's recording, by piece."""
    times = data / folder / "measure_times.csv"
    performed = visits.performed(times) if times.exists() else {}
    return {
        one.piece.id: performed.get(one.piece.notes.stem)
        or visits.written(one.piece, passages.read_measures(one.piece.notes))
        for one in known
    }


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, options.weights, threads=1)
    identity, searched = load().identity, localisation.SEARCHED[options.set]
    found, work = pieces.pieces(options.data, searched), options.work / searched
    (folder,) = pieces.SETS[options.set]
    printed = passages.by_piece(printed_systems(options.data / folder))
    verified = [piece for piece in pieces.pieces(options.data, options.set) if passages.file_stem(piece) in printed]
    chosen = verified[: 4 if options.quick else None]
    known = [
        read(piece, printed[passages.file_stem(piece)], work) for piece in tqdm(chosen, unit="score", disable=None)
    ]
    played = visits_of(options.data, folder, known)
    environment = report.environment()
    print(report.heading(environment))
    rows = []
    for sound in retrieval.sounds_of(searched, options.sound, options.data):
        path, _ = pieces.collect(found, work, identity, load, options.jobs, fresh=False, sound=sound)
        with Collection.open(path, identity) as collection:
            if options.files:
                moments_found = measure_files(known, played, load(), work, sound)
            else:
                moments_found = measure(collection, known, played, SearchSettings().alignment)
        snippets = "files" if options.files else "collection"
        rows.append(
            {"snippets": snippets, "sound": sound.name, "heard": "yes" if sound.heard else "no"}
            | figures(moments_found, known)
        )
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, set=options.set, network=report.label(identity), rows=rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", choices=sorted(localisation.SEARCHED), default="mozart")
    parser.add_argument(
        "--sound", nargs="+", metavar="NAME", help="sounds that play (default: those of bench.retrieval)"
    )
    parser.add_argument("--files", action="store_true", help="align files, as `scorefind align` does")
    parser.add_argument("--quick", action="store_true", help="the first four pieces only")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps recordings and collections"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
