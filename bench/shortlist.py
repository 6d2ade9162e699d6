"""How well, and how fast, does each way to make a shortlist find the document that aligning all documents would find?

    python -m bench.shortlist --data DIR [--set joplin|dev] [--sound NAME] [--corpus DIR [--made N]] [--seed N]
        [--forms FORM ...] [--ways WAY ...] [--quick] [--json FILE] [--plot FILE]

The pieces of the set, real scans and recordings of them, hide in a crowd: the takes of the training corpus
(`bench.crowd`), or with --made the pieces of dev and joplin and made documents, N snippets of each kind, in the
collection that `bench.scale` measures. Without --corpus there is no crowd, and most ways find everything. Queries are
fragments of the documents from random places: 10, 20 and 50 s of a recording among the scores (A2S); one, two and four
systems of a score among the recordings (S2A). Settings are chosen on joplin; dev is reported with another seed.

R@K is the share of queries for which a document is among the first K of the shortlist: the right document (`truth`), or
the document that is first when all are aligned (`winner`), right or wrong. Times are ms of one core for a query.

- in force: what `scorefind query` does where it does not align all documents (`engine.search.plan`). A table shows how
  often the winner is on the shortlist, by multiples of the length that the plan gives the query. Its intervals are
  Wilson's.
- vote: documents by the number of their snippets among the k nearest of each query snippet (`engine.search.voting`).
- literal, tempo-robust: offset histograms of the nearest snippets, with slope 1 alone or a grid of slopes
  (`engine.search.fingerprint`). merged: the documents of vote (k = 25) and tempo-robust in turns.
- align all: no shortlist; a shortlist has to take less time.
"""

import argparse
import contextlib
import functools
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.lib import exhaustive, grown, intervals, pieces, queries, report, sounds, takes
from bench.lib.grown import Folders
from bench.lib.pieces import Piece, collect, collection_sizes
from bench.lib.queries import AMONG, Direction, LabelledQuery
from engine import alignment, process
from engine.alignment import Backend
from engine.arguments import positive
from engine.collection import Collection
from engine.embedding.encoder import Encoder
from engine.metrics import Ranks, summarise
from engine.neighbours import Index
from engine.search import fingerprint, plan, voting
from engine.search.fingerprint import LITERAL, FingerprintSettings
from engine.values import Embeddings, Kind, Packed
from indexer.ingest import LoadEncoder

LENGTHS_S = (10, 20, 50)
SYSTEMS = (1, 2, 4)
FORMS = ("10 s", "20 s", "50 s", "1 system", "2 systems", "4 systems")
KS = (1, 5, 10, 25, 50, 100, 200)
TICKS_MS = (1, 2, 5, 10, 20, 50, 100, 200)
SHOWN_KS = (1, 10, 50, 200)
ENOUGH = 0.99
"""Recall of the winner that a shortlist should reach."""
ALL = "align all"
IN_FORCE = "in force"
MULTIPLES = (0.25, 0.5, 1.0, 2.0)
"""Lengths of the shortlist that are compared, as multiples of the length in force."""
ANY = "any"
"""Name of all kinds of query of a direction together."""
MARKERS = "ov^sPD*Xp"
SEED = 0
QUICK_PIECES = 12

Ranking = NDArray[np.int64]
"""Numbers of all documents (B,), best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The documents of one kind, with the indexes that find them."""

    ids: tuple[str, ...]
    packed: Packed
    index: Index
    backend: Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortlistResult:
    """The result of one way to make a shortlist, for one query."""

    query: LabelledQuery
    way: str
    truth: float
    """Rank of the right document; infinite where the collection lacks it."""
    winner: float
    ms: float


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, options.weights, threads=1)
    encoder = load()
    environment = report.environment()
    print(report.heading(environment), flush=True)
    with contextlib.ExitStack() as opened:
        found, collection, playing = _searched(options, encoder, load, opened)
        sizes = collection_sizes(collection)
        print(json.dumps({"network": encoder.identity.name, "set": options.set, **sizes}), flush=True)
        material = {direction: gather(collection, kind) for direction, kind in AMONG.items()}
        per_piece = 1 if options.quick else options.fragments
        asked = list(ask(collection, found, per_piece, playing=playing, seed=options.seed, forms=options.forms))
        results = answer(material, asked, options.ways)
    rows, lengths = quality_rows(results), length_rows(results, material)
    for of in ("truth", "winner"):
        shown = [_for_people(row) for row in rows if row["of"] == of and row["query"] == ANY]
        print("", f"R@K of the {of}, all queries of a direction", report.table(shown), sep="\n")
    enough = enough_rows(rows)
    print(
        "", f"Smallest K with R@K >= {ENOUGH} of the winner, all queries of a direction", report.table(enough), sep="\n"
    )
    title = "Share of queries whose winner is on the shortlist, by multiples of the length in force"
    print("", title, report.table([report.with_intervals(row) for row in lengths]), sep="\n")
    if options.json:
        content = {"set": options.set, "network": report.label(encoder.identity), "collection": sizes}
        report.save(options.json, environment=environment, **content, rows=rows, enough=enough, lengths=lengths)
    if options.plot:
        draw(rows, options.plot)


def _searched(
    options: argparse.Namespace, encoder: Encoder, load: LoadEncoder, opened: contextlib.ExitStack
) -> tuple[list[Piece], Collection, Collection]:
    """The pieces that are searched for, the collection that is searched, and one with the recordings that ask."""
    network, sound = encoder.identity, sounds.sound(options.sound, options.data)
    first = QUICK_PIECES if options.quick else None
    found = pieces.pieces(options.data, options.set)[:first]
    embed = functools.partial(collect, found, options.retrieval / options.set, network, load, options.jobs, fresh=False)
    path = embed()[0]
    playing = opened.enter_context(Collection.open(embed(sound=sound)[0], network))
    if options.made:
        folders = Folders(
            data=options.data,
            corpus=options.corpus,
            retrieval=options.retrieval,
            crowd=options.crowd,
            scale=options.scale,
        )
        with grown.growing(folders, encoder, load, first=first, jobs=options.jobs) as crowd:
            crowd.grow(options.made, jobs=options.jobs)
        path = crowd.path
    elif options.corpus:
        path = takes.hidden(path, options.corpus, options.crowd, encoder)
    return found, opened.enter_context(Collection.open(path, network)), playing


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--set", choices=("joplin", "dev"), default="joplin", help="joplin: validation; dev: report")
    parser.add_argument(
        "--sound",
        default=sounds.TIMGM6MB.name,
        help="what plays the recordings that ask (see bench.retrieval); those that are searched are on TimGM6mb",
    )
    parser.add_argument("--corpus", type=Path, help="training corpus whose takes are the crowd (default: no crowd)")
    parser.add_argument(
        "--made",
        type=lambda text: int(float(text)),
        metavar="N",
        help="search among documents made of the takes, N snippets of each kind",
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the places of the fragments")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="kinds of query (default: all)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="ways measured (default: all)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PIECES} pieces, one fragment of each length")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw the curves to this file; needs matplotlib")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument(
        "--fragments", type=int, default=2, help="number of fragments of each length from each document"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed")
    parser.add_argument(
        "--retrieval", type=Path, default=Path("runs/retrieval"), help="folder that keeps the collections of the sets"
    )
    parser.add_argument(
        "--crowd", type=Path, default=Path("runs/crowd"), help="folder that keeps the takes and the joined collections"
    )
    parser.add_argument(
        "--scale", type=Path, default=Path("runs/scale"), help="folder that keeps the growing collection"
    )
    options = parser.parse_args(arguments)
    if options.made and not options.corpus:
        parser.error("--made needs --corpus: documents are made of its takes")
    return options


def gather(collection: Collection, kind: Kind) -> Candidates:
    """The documents of one kind and the indexes that find them, all in memory."""
    return Candidates(
        ids=tuple(document.id for document in collection.of_kind(kind)),
        packed=collection.packed(kind),
        index=collection.index(kind),
        backend=alignment.choose(threads=1),
    )


def ask(
    collection: Collection,
    found: Sequence[Piece],
    per_piece: int,
    *,
    playing: Collection | None = None,
    seed: int = SEED,
    forms: Sequence[str] = FORMS,
) -> Iterator[LabelledQuery]:
    """The queries: fragments of every length of each piece that the collection holds.

    playing: holds the recordings that ask; None: the collection does.
    """
    rng = np.random.default_rng(seed)
    front_end = collection.network.front_end
    heard = [query for query in queries.whole(playing or collection, found) if query.direction == "A2S"]
    seen = [query for query in queries.whole(collection, found) if query.direction == "S2A"]
    for query in (*heard, *seen):
        for size, _ in itertools.product(LENGTHS_S if query.direction == "A2S" else SYSTEMS, range(per_piece)):
            part = queries.fragment(query, size, front_end, rng)
            if part.form in forms:
                yield part


def vote(material: Candidates, query: Embeddings, neighbours: int) -> Ranking:
    return voting.ranking(voting.vote(material.index, query, material.packed.offsets, neighbours))


def fingerprints(material: Candidates, query: Embeddings, settings: FingerprintSettings) -> Ranking:
    return fingerprint.ranking(fingerprint.offsets(material.index, query, material.packed.offsets, settings))


def merged(material: Candidates, query: Embeddings) -> Ranking:
    """The ranking that takes documents of the vote and of the tempo-robust fingerprint in turns."""
    both = fingerprints(material, query, FingerprintSettings()), vote(material, query, 25)
    places = np.stack([np.argsort(ranking) for ranking in both])
    return np.lexsort((np.argmin(places, axis=0), places.min(axis=0)))


def as_searched(material: Candidates, query: Embeddings) -> Ranking:
    """The ranking whose beginning `scorefind query` aligns."""
    return fingerprints(material, query, plan.affordable(len(query)))


WAYS: Mapping[str, Callable[[Candidates, Embeddings], Ranking]] = {
    IN_FORCE: as_searched,
    "vote, k = 1": functools.partial(vote, neighbours=1),
    "vote, k = 25": functools.partial(vote, neighbours=25),
    "literal": functools.partial(fingerprints, settings=LITERAL),
    "tempo-robust": functools.partial(fingerprints, settings=FingerprintSettings()),
    "merged": merged,
}


def align_all(material: Candidates, query: Embeddings) -> Ranking:
    (costs,) = exhaustive.costs([query], material.packed, material.backend)
    return np.argsort(costs, kind="stable")


def answer(
    material: Mapping[Direction, Candidates], asked: Sequence[LabelledQuery], ways: Sequence[str] = tuple(WAYS)
) -> list[ShortlistResult]:
    """The results of some ways to make a shortlist, and of aligning all, for every query."""
    results = []
    measured = {ALL: align_all, **{name: WAYS[name] for name in ways}}
    for direction in {query.direction for query in asked}:  # compiles kernels, loads pages
        for way in measured.values():
            way(material[direction], asked[0].sequence.embeddings)
    for query in tqdm(asked, unit="query", disable=None, dynamic_ncols=True):
        here, best = material[query.direction], -1
        right = here.ids.index(query.truth) if query.truth in here.ids else -1
        for name, way in measured.items():
            ranking, ms = _timed(way, here, query)
            best = int(ranking[0]) if name == ALL else best
            place = np.argsort(ranking)
            truth = 1.0 + place[right] if right >= 0 else np.inf
            results.append(ShortlistResult(query=query, way=name, truth=truth, winner=1.0 + place[best], ms=ms))
    return results


def _timed(
    way: Callable[[Candidates, Embeddings], Ranking], here: Candidates, query: LabelledQuery
) -> tuple[Ranking, float]:
    started = time.process_time()  # processor time: other programs on a shared machine are not counted
    ranking = way(here, query.sequence.embeddings)
    return ranking, 1000 * (time.process_time() - started)


def quality_rows(results: Sequence[ShortlistResult]) -> list[dict[str, Any]]:
    """The table rows of quality by direction, kind of query and way: R@K of the truth and of the winner.

    Intervals come from resampling pieces.
    """
    groups: dict[tuple[Direction, str, str], list[ShortlistResult]] = defaultdict(list)
    for result in results:
        for form in (result.query.form, ANY):
            groups[result.query.direction, form, result.way].append(result)
    rows = []
    for (direction, form, way), group in sorted(groups.items(), key=lambda item: item[0][0]):
        ms = float(np.mean([result.ms for result in group]))
        named: dict[str, Ranks] = {
            "truth": np.array([result.truth for result in group]),
            "winner": np.array([result.winner for result in group]),
        }
        for of, ranks in named.items():
            quality = summarise(ranks, at=KS, groups=[result.query.piece for result in group])
            rows.append({"direction": direction, "query": form, "way": way, "of": of, "ms": ms, **quality.row()})
    return rows


def length_rows(results: Sequence[ShortlistResult], material: Mapping[Direction, Candidates]) -> list[dict[str, Any]]:
    """The table rows with the share of winners on the shortlist in force, and on longer and shorter ones."""
    groups: dict[tuple[Direction, str], list[ShortlistResult]] = defaultdict(list)
    for result in results:
        if result.way == IN_FORCE:
            groups[result.query.direction, result.query.form].append(result)
    rows = []
    for (direction, form), group in groups.items():
        packed = material[direction].packed
        mean = len(packed.embeddings) / len(packed)
        lengths = np.array([plan.shortlist(len(result.query.sequence), mean) for result in group])
        winners = np.array([result.winner for result in group])
        row = {"direction": direction, "query": form, "n": len(group), "length in force": float(lengths.mean())}
        for multiple in MULTIPLES:
            good = int(np.sum(winners <= multiple * lengths))
            row |= {f"x{multiple:g}": good / len(group), f"x{multiple:g} 95%": list(intervals.wilson(good, len(group)))}
        rows.append(row | {"ms": float(np.mean([result.ms for result in group]))})
    return rows


def enough_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table rows with the shortest list of each way that reaches ENOUGH, over all kinds of query of a direction."""
    return [
        {"direction": row["direction"], "way": row["way"], "ms": row["ms"], "K": _least_k(row)}
        for row in rows
        if row["of"] == "winner" and row["query"] == ANY and row["way"] != ALL
    ]


def _least_k(row: Mapping[str, Any]) -> int | None:
    return next((k for k in KS if row[f"R@{k}"] >= ENOUGH), None)


def _for_people(row: Mapping[str, Any]) -> dict[str, Any]:
    left_out = {"query", "of", "MRR", "MR"} | {f"R@{k}" for k in KS if k not in SHOWN_KS}
    return report.with_intervals({key: value for key, value in row.items() if key.removesuffix(" 95%") not in left_out})


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the recall of the winner by length of the shortlist, and the recall of ten documents by time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(AMONG), figsize=(12, 8.4), sharex="row", sharey=True)
    for (by_length, by_time), direction in zip(axes.T, AMONG, strict=True):
        mine = [row for row in rows if (row["direction"], row["query"], row["of"]) == (direction, ANY, "winner")]
        for number, row in enumerate(mine):
            look = {"color": f"C{number}", "marker": MARKERS[number], "label": row["way"]}
            line = "--" if row["way"].startswith(("vote", "literal")) else "-"
            if row["way"] != ALL:
                by_length.plot(KS, [row[f"R@{k}"] for k in KS], line, markersize=5, alpha=0.8, **look)
            by_time.plot(row["ms"], row["R@10"], linestyle="", markersize=9, alpha=0.8, **look)
        by_length.set(title=f"{direction}: by length", xscale="log", xlabel="K, length of the shortlist")
        by_length.set_xticks(KS, [str(k) for k in KS])
        by_length.minorticks_off()
        by_time.set(title=f"{direction}: R@10 by time", xscale="log", xlabel="ms of one core a query")
        by_time.set_xticks(TICKS_MS, [str(ms) for ms in TICKS_MS])
        by_time.minorticks_off()
    for axis in axes.flat:
        axis.axhline(ENOUGH, color="gray", linewidth=0.8, linestyle=":")
        axis.set(ylim=(0.8, 1.01), ylabel="R@K of the winner of aligning all")
        axis.grid(alpha=0.3)
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=5, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
