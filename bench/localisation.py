"""How exactly is the place of a match told? Its start and its path against what is known of scans and recordings.

    python -m bench.localisation --data DIR [--set mozart|joplin] [--quick] [--json FILE]

Asked in a collection of all pieces of dev (or of Joplin's), every document aligned: fragments of 10, 20 and 40 s among
the scores (A2S), and one, two and four systems on end among the recordings (S2A). Only where the right document comes
first is its place measured; `n` says of how many. The truth (`bench.lib.truth`) is good to about half a measure.

- start: how far the match's start lies from that of the query. A2S in measures, and in systems (a third of one is a
  third of the line's width); S2A in seconds. Median and 90th percentile.
- points: of the path. A2S: which share of them lies in the right system, and in that or the ones beside it. S2A: the
  median error in seconds, and the share within 2 s. What is played twice is right either time.
"""

import argparse
import functools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.lib import pieces, queries, report, truth
from bench.lib.queries import AMONG, Direction
from bench.lib.truth import Truth
from engine import process
from engine.collection import Collection
from engine.config import Alignment, SearchSettings
from engine.embedding.encoder import Encoder
from engine.metrics import RESAMPLES, Estimate
from engine.search.searcher import Searcher
from engine.values import Document, Match, PathPoint, RecordingPosition, ScorePosition, SnippetSequence, System

SEARCHED = {"mozart": "dev", "joplin": "joplin"}
LENGTHS_S = (10, 20, 40)
SYSTEMS = (1, 2, 4)
NEAR_S = 2.0
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalisationQuery:
    """A part of one form of a piece, to be located in the other."""

    truth: Truth
    direction: Direction
    form: str
    wanted: str
    """Id of the right document."""
    sequence: SnippetSequence
    score: Document
    """The piece's, whether it is asked or searched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """How far one match is from the truth, as far as that is known: A2S in measures, S2A in seconds."""

    start: float | None
    start_systems: float | None
    points: tuple[float, ...]
    systems: tuple[int, ...]
    """Of points: the number of systems between the right one and the one told (A2S)."""


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare(embeds=True)
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
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--weights", type=Path, help="another network than the shipped one")
    parser.add_argument("--fragments", type=int, default=5, help="of each length, from each document")
    parser.add_argument("--jobs", type=int, default=2, help="processes that embed, threads that search")
    parser.add_argument("--work", type=Path, default=Path("runs/retrieval"), help="recordings and collections are kept")
    return parser.parse_args(arguments)


def variants(default: Alignment) -> dict[str, Alignment]:
    """What is compared with the default, by the name of its rows."""
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
    """Parts of both forms of each piece, from random places; recordings: ids by those of the scores."""
    rng = np.random.default_rng(SEED)
    front_end = collection.network.front_end
    for one in known:
        score, heard = collection.document(one.piece), collection.sequence(recordings[one.piece])
        seen = collection.sequence(one.piece)
        for _ in range(per_piece):
            for length_s in LENGTHS_S:
                cut = queries.seconds(heard, length_s, front_end, rng)
                yield LocalisationQuery(
                    truth=one, direction="A2S", form=f"{length_s} s", wanted=score.id, sequence=cut, score=score
                )
            for count in SYSTEMS:
                yield LocalisationQuery(
                    truth=one,
                    direction="S2A",
                    form=f"{count} system{'s'[: count > 1]}",
                    wanted=recordings[one.piece],
                    sequence=queries.systems(seen, count, rng),
                    score=score,
                )


def measure(
    collection: Collection, asked: Sequence[LocalisationQuery], name: str, settings: Alignment, threads: int
) -> list[dict[str, Any]]:
    """A row for each form of query."""
    searcher = Searcher(collection, SearchSettings(alignment=settings, threads=threads))
    found: dict[tuple[Direction, str], list[tuple[str, Errors | None]]] = {}
    for query in tqdm(asked, desc=name, unit="query", disable=None, dynamic_ncols=True):
        (best,) = searcher.query(
            query.sequence, AMONG[query.direction], "exhaustive", 1, path=True, systems=query.score.systems
        ).matches
        right = errors(query, best) if best.document.id == query.wanted else None
        found.setdefault((query.direction, query.form), []).append((query.truth.piece, right))
    return [
        {"direction": direction, "query": form, "alignment": name} | figures(direction, answers)
        for (direction, form), answers in sorted(found.items(), key=lambda item: item[0][0])
    ]


def figures(direction: Direction, answers: Sequence[tuple[str, Errors | None]]) -> dict[str, Any]:
    """What the errors of one form of query sum up to; each with its piece, None where another document came first."""
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
            row |= _with_interval(title, mean(shares, groups))
        return row
    row["points, s"] = float(np.median([np.median(error.points) for _, error in right]))
    shares = [float(np.mean(np.array(error.points) <= NEAR_S)) for _, error in right]
    return row | _with_interval(f"within {NEAR_S:g} s", mean(shares, groups))


def mean(values: Sequence[float], groups: Sequence[Hashable]) -> Estimate:
    """The mean and its interval by a bootstrap that draws whole groups."""
    names = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    group = np.array([names[name] for name in groups])
    sums, counts = np.bincount(group, values), np.bincount(group)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    low, high = np.quantile(draws @ sums / (draws @ counts), (0.025, 0.975))
    return Estimate(value=float(sums.sum() / counts.sum()), low=float(low), high=float(high))


def errors(query: LocalisationQuery, match: Match) -> Errors:
    """How far the match is from the truth; the start of a score that asks is where its first snippet starts."""
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
    """How far the points of a recording's path are wrong: in measures, and in whole systems, as far as it is known."""
    points, systems = [], []
    by_number = {system.number: system for system in score.systems}
    for point in path:
        assert isinstance(point.query, RecordingPosition)
        assert isinstance(point.document, ScorePosition)
        told = by_number[point.document.system]
        error, _ = _error(known, point.query.s, told, point.document.x)
        place = printed(known, point.query.s)
        if place is not None:
            points += [] if error is None else [error]
            systems.append(abs(place.system - told.number))
    return points, systems


def printed(known: Truth, second: float) -> ScorePosition | None:
    """Where the music of a second stands."""
    point = known.point_at(second)
    return None if point is None else known.place_of(point)


def _error(known: Truth, second: float, told: System, x: float) -> tuple[float | None, float | None]:
    """In measures and in systems."""
    point, place = known.point_at(second), printed(known, second)
    if point is None or place is None:
        return None, None
    (true,) = (line.system for line in known.lines if line.system.number == place.system)
    apart = told.number + _share(told, x) - true.number - _share(true, place.x)
    told_point = known.point_of(told.number, x)
    return None if told_point is None else abs(told_point - point), abs(apart)


def _share(system: System, x: float) -> float:
    return (x - system.box.x0) / (system.box.x1 - system.box.x0)


def _seconds(known: Truth, system: int, x: float) -> list[float]:
    point = known.point_of(system, x)
    return [] if point is None else known.seconds_of(point)


def _nearest(true_s: Sequence[float], told_s: float) -> list[float]:
    """The error against the nearest visit, none where no visit is known."""
    return [min(abs(second - told_s) for second in true_s)] if true_s else []


def _median_and_p90(name: str, values: Sequence[float]) -> dict[str, float | None]:
    middle, high = np.quantile(values, (0.5, 0.9)).tolist() if values else (None, None)
    return {name: middle, f"{name} p90": high}


def _with_interval(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: estimate.value, f"{name} 95%": [estimate.low, estimate.high]}


if __name__ == "__main__":
    main()
