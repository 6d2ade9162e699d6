"""How exact is the place of a match? Its start and its path, compared with the truth about scans and recordings.

    python -m bench.localisation --data DIR [--set mozart|joplin] [--quick] [--json FILE]

The collection holds all pieces of dev (or of joplin), and every document is aligned. Queries are fragments of 10, 20
and 40 s among the scores (A2S), and one, two and four consecutive systems among the recordings (S2A). A place is
measured only if the right document is ranked first; `n` is the number of such queries. The truth (`bench.lib.truth`)
is good to about half a measure.

- start: distance between the start of the match and the start of the query, median and 90th percentile. A2S: in
  measures, and in systems (a third of a system is a third of the line's width). S2A: in seconds.
- points: the points of the path. A2S: the share in the right system, and the share in the right system or a
  neighbouring one. S2A: the median error in seconds, and the share within 2 s. Music that is played twice is right at
  either time.
"""

import argparse
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.lib import intervals, pieces, queries, report, truth
from bench.lib.queries import AMONG, Direction
from bench.lib.truth import Truth
from engine import process
from engine.arguments import positive
from engine.collection import Collection
from engine.config import Alignment, SearchSettings
from engine.embedding.encoder import Encoder
from engine.search.searcher import Searcher
from engine.values import Document, Match, PathPoint, RecordingPosition, ScorePosition, SnippetSequence, System

SEARCHED = {"mozart": "dev", "joplin": "joplin"}
LENGTHS_S = (10, 20, 40)
SYSTEMS = (1, 2, 4)
NEAR_S = 2.0
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalisationQuery:
    """A part of one form of a piece, to be located in the other form."""

    truth: Truth
    direction: Direction
    form: str
    right_id: str
    """Id of the right document."""
    sequence: SnippetSequence
    score: Document
    """The score of the piece, in both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of one match where the truth is known: in measures (A2S) or in seconds (S2A)."""

    start: float | None
    start_systems: float | None
    points: tuple[float, ...]
    systems: tuple[int, ...]
    """For each point of the path, the number of systems between the right system and the system of the match (A2S)."""


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, options.weights, threads=1)
    searched = SEARCHED[options.set]
    found = pieces.pieces(options.data, searched)[: 12 if options.quick else None]
    identity = load().identity
    path, _ = pieces.collect(found, options.work / searched, identity, load, options.jobs, fresh=False)
    environment = report.environment()
    print(report.heading(environment))
    with Collection.open(path, identity) as collection:
        documents = {document.id: document for document in collection.documents}
        known = truth.truths(options.data, options.set, documents, 4 if options.quick else None)
        recordings = {piece.id: piece.recording_id for piece in found}
        asked = list(ask(collection, known, recordings, 1 if options.quick else options.fragments))
        rows = [
            row
            for name, settings in variants(SearchSettings().alignment).items()
            for row in measure(collection, asked, name, settings, options.jobs)
        ]
    for direction in AMONG:
        shown = [report.with_intervals(row) for row in rows if row["direction"] == direction]
        print("", report.table(shown), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, set=options.set, network=report.label(identity), rows=rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", choices=sorted(SEARCHED), default="mozart")
    parser.add_argument("--quick", action="store_true", help="four of twelve pieces, one fragment of each length")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument(
        "--fragments", type=int, default=5, help="number of fragments of each length from each document"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed, threads that search")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/retrieval"), help="folder that keeps recordings and collections"
    )
    return parser.parse_args(arguments)


def variants(default: Alignment) -> dict[str, Alignment]:
    """The settings that are compared, by the name of their rows; the first is the default."""
    made = {
        f"default (jump {default.jump_penalty:g})": default,
        "jump 2": replace(default, jump_penalty=2.0),
        "no jumps": replace(default, jump_penalty=np.inf),
        "no bias": replace(default, bias_weight=0.0),
        "classic steps": replace(default, steps="classic"),
    }
    return {name: settings for i, (name, settings) in enumerate(made.items()) if i == 0 or settings != default}


def ask(
    collection: Collection, known: Iterable[Truth], recordings: dict[str, str], per_piece: int
) -> Iterator[LocalisationQuery]:
    """The queries: parts of both forms of each piece, from random places.

    recordings: id of the recording by the id of its score.
    """
    rng = np.random.default_rng(SEED)
    front_end = collection.network.front_end
    for one in known:
        score, heard = collection.document(one.piece), collection.sequence(recordings[one.piece])
        seen = collection.sequence(one.piece)
        for _ in range(per_piece):
            for length_s in LENGTHS_S:
                cut = queries.seconds(heard, length_s, front_end, rng)
                yield LocalisationQuery(
                    truth=one, direction="A2S", form=f"{length_s} s", right_id=score.id, sequence=cut, score=score
                )
            for count in SYSTEMS:
                yield LocalisationQuery(
                    truth=one,
                    direction="S2A",
                    form=f"{count} system{'s'[: count > 1]}",
                    right_id=recordings[one.piece],
                    sequence=queries.systems(seen, count, rng),
                    score=score,
                )


def measure(
    collection: Collection, asked: Sequence[LocalisationQuery], name: str, settings: Alignment, threads: int
) -> list[dict[str, Any]]:
    """The table rows of one group of settings, one for each form of query."""
    searcher = Searcher(collection, SearchSettings(alignment=settings, threads=threads))
    found: dict[tuple[Direction, str], list[tuple[str, Errors | None]]] = {}
    for query in tqdm(asked, desc=name, unit="query", disable=None, dynamic_ncols=True):
        (best,) = searcher.query(
            query.sequence, AMONG[query.direction], "exhaustive", 1, path=True, systems=query.score.systems
        ).matches
        right = errors(query, best) if best.document.id == query.right_id else None
        found.setdefault((query.direction, query.form), []).append((query.truth.piece, right))
    return [
        {"direction": direction, "query": form, "alignment": name} | figures(direction, answers)
        for (direction, form), answers in sorted(found.items(), key=lambda item: item[0][0])
    ]


def figures(direction: Direction, answers: Sequence[tuple[str, Errors | None]]) -> dict[str, Any]:
    """The table cells of one form of query.

    answers: the piece and the errors of each query; None where another document is ranked first.
    """
    right = [(piece, error) for piece, error in answers if error is not None and error.points]
    row: dict[str, Any] = {"n": len(right), "not found": sum(error is None for _, error in answers)}
    unit = "measures" if direction == "A2S" else "s"
    starts = [error.start for _, error in right if error.start is not None]
    row |= _median_and_p90(f"start, {unit}", starts)
    groups = [piece for piece, _ in right]
    if direction == "A2S":
        row |= _median_and_p90("in systems", [e.start_systems for _, e in right if e.start_systems is not None])
        for title, most in (("points in system", 0), ("+-1", 1)):
            shares = [float(np.mean(np.array(error.systems) <= most)) for _, error in right]
            row |= intervals.mean(title, shares, groups)
        return row
    row["points, s"] = float(np.median([np.median(error.points) for _, error in right])) if right else None
    shares = [float(np.mean(np.array(error.points) <= NEAR_S)) for _, error in right]
    return row | intervals.mean(f"within {NEAR_S:g} s", shares, groups)


def errors(query: LocalisationQuery, match: Match) -> Errors:
    """The errors of a match. A score as a query starts where its first snippet starts."""
    first = query.sequence.places[0]
    if query.direction == "A2S":
        start, start_systems = _error(
            query.truth, float(first["start_s"]), match.place.systems[0], match.place.start_x or 0.0
        )
        points, systems = path_errors(query.truth, match.path, match.document)
        return Errors(start=start, start_systems=start_systems, points=tuple(points), systems=tuple(systems))
    true_s = _seconds(query.truth, int(first["system"]), float(first["x"]))
    points = []
    for point in match.path:
        assert isinstance(point.query, ScorePosition)
        assert isinstance(point.document, RecordingPosition)
        points += _nearest(_seconds(query.truth, point.query.system, point.query.x), point.document.s)
    nearest = _nearest(true_s, match.place.start_s or 0.0)
    return Errors(start=nearest[0] if nearest else None, start_systems=None, points=tuple(points), systems=())


def path_errors(known: Truth, path: Iterable[PathPoint], score: Document) -> tuple[list[float], list[int]]:
    """The errors of the points of a recording's path in measures and in whole systems, where the truth is known."""
    points, systems = [], []
    by_number = {system.number: system for system in score.systems}
    for point in path:
        assert isinstance(point.query, RecordingPosition)
        assert isinstance(point.document, ScorePosition)
        matched = by_number[point.document.system]
        error, _ = _error(known, point.query.s, matched, point.document.x)
        place = printed(known, point.query.s)
        if place is not None:
            points += [] if error is None else [error]
            systems.append(abs(place.system - matched.number))
    return points, systems


def printed(known: Truth, second: float) -> ScorePosition | None:
    """The place on the page of the music at a second of the recording, None if unknown."""
    point = known.point_at(second)
    return None if point is None else known.place_of(point)


def _error(known: Truth, second: float, matched: System, x: float) -> tuple[float | None, float | None]:
    """The error of a place on the page, in measures and in systems."""
    point, place = known.point_at(second), printed(known, second)
    if point is None or place is None:
        return None, None
    (true,) = (line.system for line in known.lines if line.system.number == place.system)
    apart = matched.number + _share(matched, x) - true.number - _share(true, place.x)
    match_point = known.point_of(matched.number, x)
    return None if match_point is None else abs(match_point - point), abs(apart)


def _share(system: System, x: float) -> float:
    return (x - system.box.x0) / (system.box.x1 - system.box.x0)


def _seconds(known: Truth, system: int, x: float) -> list[float]:
    point = known.point_of(system, x)
    return [] if point is None else known.seconds_of(point)


def _nearest(true_s: Sequence[float], matched_s: float) -> list[float]:
    """The error against the nearest visit, as a list of one; an empty list if no visit is known."""
    return [min(abs(second - matched_s) for second in true_s)] if true_s else []


def _median_and_p90(name: str, values: Sequence[float]) -> dict[str, float | None]:
    middle, high = np.quantile(values, (0.5, 0.9)).tolist() if values else (None, None)
    return {name: middle, f"{name} p90": high}


if __name__ == "__main__":
    main()
