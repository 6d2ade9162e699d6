"""Do jumps help where music is repeated, and what do they cost where it is not?

    python -m bench.repeats --data DIR [--set mozart|joplin] [--corpus DIR] [--quick] [--json FILE] [--plot FILE]

A repeat is printed once and played twice. `mozart`: real performances; some pieces have repeats that are played, others
have none. `joplin`: every rag twice. Once with its repeats: the recording is cut up and joined in the order that the
kern gives (`bench.lib.visits`). Once without: as it is written. Settings are chosen on joplin.

Each recording is searched among the scores (A2S) and each score among the recordings (S2A). Queries are whole
documents; fragments of 20, 40 and 80 s around places where the music goes back, or from random places where it never
does; eight consecutive systems; and a cut, twice 20 s with 10 to 60 s left out between them. Each set of steps is
measured; `published` are the classic ones without bias, which without jumps (`jump inf`) are published SDTW. With
`--corpus` all pieces hide in a crowd (`bench.crowd`); without, nearly everything is found. The table shows MRR by jump
penalty. `gain` is the mean paired difference between the penalty that ranks and no jumps; its interval comes from
resampling pieces. `in system` is the share of the path through the right document, whatever its rank, that lies in the
right system.
"""

import argparse
import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.random import Generator
from tqdm import tqdm

from bench import localisation
from bench.lib import intervals, passages, pieces, queries, report, truth, visits
from bench.lib.pieces import Piece
from bench.lib.queries import AMONG, Direction
from bench.lib.takes import collect as collect_takes
from bench.lib.truth import Truth
from bench.lib.visits import Visit
from engine import alignment, process
from engine.arguments import positive
from engine.collection import Collection
from engine.config import Alignment, SearchSettings, StepSet
from engine.embedding.encoder import Encoder
from engine.files import replacing
from engine.metrics import summarise
from engine.search.location import Ruler, points
from engine.values import Document, PathPoint, Position, RecordingPosition, ScorePosition, SnippetSequence

LENGTHS_S = (20, 40, 80)
SYSTEMS = 8
KEPT_S, CUT_S = 20, (10, 60)
"""Seconds that are kept before and after a cut, and least and most seconds that are cut out."""
PENALTIES = (np.inf, 4.0, 2.0, 1.0, 0.5)
SEED = 0


def alignments(default: Alignment) -> dict[str, Alignment]:
    """The alignments that are measured, by name; `published`, without jumps, is published SDTW."""
    steps: tuple[StepSet, ...] = ("wide", "slope", "classic")
    ours = {name: replace(default, steps=name) for name in steps}
    return ours | {"published": replace(default, steps="classic", bias_weight=0.0)}


def unfold(found: Iterable[Piece], work: Path) -> dict[str, list[Visit]]:
    """The visits of each piece's recording with its repeats; makes the recording below `work` if it does not exist.

    A piece is left out if its kern does not give the order of its sections, or if Verovio counts its sections
    differently.
    """
    played = {}
    for piece in tqdm(list(found), desc="unfolding", unit="piece", disable=None):
        written = visits.written(piece, passages.read_measures(piece.notes))
        sections = visits.order(piece.notes.read_text(encoding="utf-8", errors="replace"))
        if not sections or max(section.stop for section in sections) != len(written):
            continue
        folder = work / "unfolded"
        samples, rate = soundfile.read(pieces.recording(piece, work).path, dtype="float32")
        samples, played[piece.id] = visits.unfolded(samples, rate, written, sections)
        path = folder / "recordings" / f"{piece.recording_id}.flac"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                soundfile.write(unfinished, samples, rate, format="FLAC")
    return played


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatQuery:
    """A query and what it should find."""

    group: str
    direction: Direction
    form: str
    truth: Truth
    sequence: SnippetSequence
    right_id: str
    """Id of the right document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatResult:
    """The result of one query with one setting of the alignment."""

    rank: float
    in_system: float | None
    """Share of the path that lies in the right system; None if unknown or not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedDocuments:
    """All documents that are searched: the measured pieces, then the crowd."""

    collection: Collection
    crowd: Collection | None
    backend: alignment.Backend

    def rank(self, query: RepeatQuery, settings: Alignment) -> float:
        """The rank of the right document; ties count against it."""
        kind = AMONG[query.direction]
        parts = [self.collection.packed(kind)] + ([self.crowd.packed(kind)] if self.crowd else [])
        costs = np.concatenate([self.backend.align(query.sequence.embeddings, part, settings).costs for part in parts])
        right = costs[self._number(query)]
        return float(np.sum(costs <= right)) if np.isfinite(right) else np.inf

    def path(self, query: RepeatQuery, settings: Alignment) -> tuple[PathPoint, ...]:
        """The path of a recording through the right score; no points if there is no path."""
        packed, number = self.collection.packed("score"), self._number(query)
        part = slice(*packed.offsets[number : number + 2])
        cells = self.backend.path(query.sequence.embeddings, packed.embeddings[part], packed.bias[part], settings)
        if len(cells) == 0:
            return ()
        score = Ruler.of(self.collection.sequence(query.right_id), self.collection.document(query.right_id).systems)
        return points(cells, Ruler.of(query.sequence), score)

    def in_system(self, query: RepeatQuery, settings: Alignment) -> float | None:
        """The share of the path that lies in the right system."""
        score = self.collection.document(query.right_id)
        _, apart = localisation.path_errors(query.truth, self.path(query, settings), score)
        return float(np.mean(np.array(apart) == 0)) if apart else None

    def _number(self, query: RepeatQuery) -> int:
        ids = [document.id for document in self.collection.of_kind(AMONG[query.direction])]
        return ids.index(query.right_id)


def ask(
    collection: Collection, known: Iterable[Truth], recordings: dict[str, str], per_piece: int
) -> Iterator[RepeatQuery]:
    """The queries: both forms of each piece, whole and in parts.

    recordings: id of the recording by the id of its score.
    """
    rng = np.random.default_rng(SEED)
    for one in known:
        group = "with repeats" if visits.turns(one.visits) else "without"
        seen, heard = collection.sequence(one.piece), collection.sequence(recordings[one.piece])
        a2s = functools.partial(RepeatQuery, group=group, direction="A2S", truth=one, right_id=one.piece)
        s2a = functools.partial(RepeatQuery, group=group, direction="S2A", truth=one, right_id=recordings[one.piece])
        yield a2s(form="whole", sequence=heard)
        yield s2a(form="whole", sequence=seen)
        for _ in range(per_piece):
            for length_s in LENGTHS_S:
                yield a2s(form=f"{length_s} s", sequence=fragment(heard, length_s, visits.turns(one.visits), rng))
            if (joined := cut(heard, rng)) is not None:
                yield a2s(form=f"{KEPT_S} + {KEPT_S} s", sequence=joined)
            yield s2a(form=f"{SYSTEMS} systems", sequence=queries.systems(seen, SYSTEMS, rng))


def fragment(sequence: SnippetSequence, length_s: float, turns: Sequence[float], rng: Generator) -> SnippetSequence:
    """A part of `length_s` seconds whose middle half holds one of the turns; from a random place if there are none."""
    starts, ends = sequence.places["start_s"], sequence.places["end_s"]
    start_s = float(rng.uniform(0, max(0.0, ends[-1] - length_s)))
    if turns:
        start_s = float(rng.choice(np.array(turns))) - length_s * float(rng.uniform(0.25, 0.75))
    start_s = min(max(start_s, 0.0), max(0.0, float(ends[-1]) - length_s))
    return sequence.part(np.flatnonzero((starts >= start_s) & (ends <= start_s + length_s + 0.5)))


def cut(sequence: SnippetSequence, rng: Generator) -> SnippetSequence | None:
    """Two parts of KEPT_S seconds joined, with CUT_S seconds left out between; None if the recording is too short."""
    starts, ends = sequence.places["start_s"], sequence.places["end_s"]
    last = float(ends[-1])
    left_out = float(rng.uniform(*CUT_S))
    if last < 2 * KEPT_S + left_out:
        return None
    first = float(rng.uniform(0, last - 2 * KEPT_S - left_out))
    second = first + KEPT_S + left_out
    kept = [(starts >= begin) & (ends <= begin + KEPT_S) for begin in (first, second)]
    return sequence.part(np.flatnonzero(kept[0] | kept[1]))


def measure(field: SearchedDocuments, asked: Sequence[RepeatQuery], default: Alignment) -> list[dict[str, Any]]:
    """The table rows, one for each group, kind of query and alignment."""
    rows, ranking = [], default.ranking.jump_penalty
    penalties = tuple(sorted({*PENALTIES, default.jump_penalty, ranking}, reverse=True))
    kinds = sorted({(query.group, query.direction, query.form) for query in asked})
    for name, base in alignments(default).items():
        found: dict[tuple[str, str, str], list[list[RepeatResult]]] = {kind: [] for kind in kinds}
        for query in tqdm(asked, desc=name, unit="query", disable=None, dynamic_ncols=True):
            results = []
            for penalty in penalties:
                settings = replace(base, jump_penalty=penalty)
                placed = field.in_system(query, settings) if query.direction == "A2S" else None
                results.append(RepeatResult(rank=field.rank(query, settings), in_system=placed))
            found[query.group, query.direction, query.form].append(results)
        for group, direction, form in kinds:
            names = [q.truth.piece for q in asked if (q.group, q.direction, q.form) == (group, direction, form)]
            row = {"group": group, "direction": direction, "query": form, "alignment": name, "n": len(names)}
            rows.append(row | figures(found[group, direction, form], names, penalties, ranking))
    return rows


def figures(
    results: Sequence[Sequence[RepeatResult]], names: Sequence[str], penalties: Sequence[float], chosen: float
) -> dict[str, Any]:
    """The table cells of one kind of query: MRR and share in the right system by penalty, and the chosen one's gain.

    The gain is over the first penalty, which is infinite: no jumps.

    results: for each query, the results with all penalties. names: the piece of each query.
    """
    row: dict[str, Any] = {}
    ranks = np.array([[one.rank for one in each] for each in results])
    for penalty, own in zip(penalties, ranks.T, strict=True):
        mrr = summarise(own, groups=names).mrr
        row |= {f"jump {penalty:g}": mrr.value, f"jump {penalty:g} 95%": [mrr.low, mrr.high]}
    row |= intervals.mean("gain", (1 / ranks[:, penalties.index(chosen)] - 1 / ranks[:, 0]).tolist(), names)
    for i, penalty in enumerate(penalties):
        placed = [share for each in results if (share := each[i].in_system) is not None]
        row[f"in system {penalty:g}"] = float(np.mean(placed)) if placed else None
    return row


def plot(path: Path, field: SearchedDocuments, query: RepeatQuery, settings: Alignment) -> None:
    """Draws a recording's path through its score, with the known places."""
    from matplotlib.figure import Figure

    score = field.collection.document(query.right_id)
    points = field.path(query, settings)
    heard_s = np.array([point.query.s for point in points if isinstance(point.query, RecordingPosition)])
    found = np.array([_height(point.document, score) for point in points])
    true_s = np.arange(0, query.truth.visits[-1].end_s, 0.5)
    true = np.array([_height(localisation.printed(query.truth, s), score) for s in true_s.tolist()])
    true[1:][np.diff(true) < 0] = np.nan  # the line breaks where the music goes back
    jumps = np.flatnonzero([point.jump for point in points])
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(true_s, true, color="0.8", linewidth=6, solid_capstyle="butt", label="truth, where known")
    axes.plot(np.insert(heard_s, jumps, np.nan), np.insert(found, jumps, np.nan), color="C0", label="path found")
    for i in jumps:
        axes.plot(heard_s[i - 1 : i + 1], found[i - 1 : i + 1], "C3--", label="jump" if i == jumps[0] else None)
    for before, after in itertools.pairwise(score.systems):
        if before.page != after.page:
            axes.axhline(after.number, color="0.5", linewidth=0.6)
            axes.text(heard_s[-1], after.number, f"page {after.page}", ha="right", va="top", fontsize=8, color="0.4")
    axes.invert_yaxis()
    axes.set(xlabel="second of the recording", ylabel="system of the score", title=query.truth.piece)
    axes.legend(loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _height(place: Position | None, score: Document) -> float:
    """The number of the system plus the share of its width; NaN if the place is unknown."""
    if not isinstance(place, ScorePosition):
        return np.nan
    (box,) = (system.box for system in score.systems if system.number == place.system)
    return place.system + (place.x - box.x0) / (box.x1 - box.x0)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", choices=sorted(localisation.SEARCHED), default="mozart")
    parser.add_argument("--quick", action="store_true", help="three of twelve pieces, one fragment of each length")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw the path of the piece with most repeats to this file")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument("--corpus", type=Path, help="training corpus whose takes are the crowd (default: no crowd)")
    parser.add_argument(
        "--fragments", type=int, default=2, help="number of fragments of each length from each document"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed, threads that search")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder that keeps recordings and collections")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, options.weights, threads=1)
    encoder = load()
    identity = encoder.identity
    searched = localisation.SEARCHED[options.set]
    found = pieces.pieces(options.data, searched)[: 12 if options.quick else None]
    work = options.work / "retrieval" / searched
    environment = report.environment()
    print(report.heading(environment))
    sides: list[tuple[str, Path, list[Piece], dict[str, list[Visit]] | None]] = [("as they are", work, found, None)]
    if options.set == "joplin":
        repeated = unfold(found, work)
        sides.append(("repeats added", work / "unfolded", [piece for piece in found if piece.id in repeated], repeated))
    default, rows = SearchSettings().alignment, []
    with contextlib.ExitStack() as opened:
        crowd = None
        if options.corpus:
            takes = collect_takes(options.corpus, "train", options.work / "crowd", encoder)
            crowd = opened.enter_context(Collection.open(takes, identity))
        print(f"crowd: {len(crowd.documents) if crowd else 0} documents")
        backend = alignment.choose(threads=options.jobs)
        for recorded, folder, own, played in sides:
            path, _ = pieces.collect(own, folder, identity, load, options.jobs, fresh=False)
            collection = opened.enter_context(Collection.open(path, identity))
            documents = {document.id: document for document in collection.documents}
            known = truth.truths(options.data, options.set, documents, 3 if options.quick else None, played)
            field = SearchedDocuments(collection=collection, crowd=crowd, backend=backend)
            recordings = {piece.id: piece.recording_id for piece in own}
            asked = list(ask(collection, known, recordings, 1 if options.quick else options.fragments))
            rows += [{"recordings": recorded} | row for row in measure(field, asked, default)]
            if options.plot:
                whole = [query for query in asked if (query.direction, query.form) == ("A2S", "whole")]
                plot(options.plot, field, max(whole, key=lambda query: visits.repeats(query.truth.visits)), default)
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, set=options.set, network=report.label(identity), rows=rows)


if __name__ == "__main__":
    main()
