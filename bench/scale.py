"""How do time and accuracy change as a collection grows to tens of millions of snippets?

    python -m bench.scale --data DIR [--corpus DIR] [--most N] [--quick] [--json FILE] [--plot FILE]

This continues the experiment of Carvalho & Widmer (EUSIPCO 2021), figure 3, which ends at 321 pieces. The pieces of the
dev set, real scans and real playing, are searched among those of joplin and more and more documents that behave as real
ones do (`bench.lib.made_documents`): 1e5 snippets of each kind, four times as many, and so on to 6.4e6, and 2e7.
Queries are those of the paper, 50 s of a recording among the scores (A2S) and four systems of a score among the
recordings (S2A), and harder ones: 10 s and one system.

- refine: what `scorefind query` does. It aligns a shortlist, or all documents if that is faster.
- fingerprint, vote: the rankings that make a shortlist, each alone (`vote`: 25 neighbours of each snippet).
- exhaustive: all documents are aligned. Times come from a few queries of each size, accuracy from all queries.
- librosa: `librosa.sequence.dtw(subseq=True)` on one document after the other, at the smallest size, for a few queries.
- peers: libraries that could be used instead (`bench.lib.peers`), at one size.

p50_ms is the median time of the search stages, without embedding the query and without locating matches.
recall_of_exhaustive is the share of queries with the same first match as the exhaustive alignment, right or wrong. It
may be below 1 even where all documents are aligned: a search aligns some queries again, with rests, and the exhaustive
alignment has none.
The collection and the results of each size are kept below --work, so a run that was stopped can be continued.
"""

import argparse
import functools
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.lib import exhaustive, grown, peers, queries, report
from bench.lib.grown import Folders
from bench.lib.pieces import Piece
from bench.lib.queries import AMONG, Direction, LabelledQuery
from bench.lib.scale_plot import draw
from engine import alignment, process
from engine.arguments import positive
from engine.collection import Collection
from engine.config import SearchSettings
from engine.embedding.encoder import Encoder
from engine.finder import Engine
from engine.metrics import summarise
from engine.search.searcher import Query, Searcher
from engine.values import Embeddings, Kind, Method
from engine.workers import Worker

FORMS: tuple[tuple[Direction, int, int], ...] = (("A2S", 50, 1), ("A2S", 10, 2), ("S2A", 4, 1), ("S2A", 1, 2))
"""Forms of the queries: direction, seconds or systems, and number of fragments of each piece."""
METHODS: tuple[Method, ...] = ("refine", "fingerprint", "vote")
MIN_SNIPPETS, MAX_SNIPPETS, QUICK_MAX_SNIPPETS = 100_000, 20_000_000, 200_000
QUICK_PIECES = 12
PEERS_AT = 400_000
TIMED_EXHAUSTIVE, BY_LIBROSA = 5, 20
"""Number of queries of each form that time the exhaustive alignment, and number that librosa gets."""
SEED = 0

Ranked = list[tuple[str, float, float]]
"""Answers of a method. For each query: id of the first match, rank of the right document (infinite: not found), ms."""


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    load = functools.partial(Encoder.load, options.weights, threads=1)
    encoder = load()
    environment = report.environment()
    print(report.heading(environment), flush=True)
    first = QUICK_PIECES if options.quick else None
    with grown.growing(_folders(options), encoder, load, first=first, jobs=options.jobs) as crowd:
        bench = ScaleBench(
            asked=list(ask(crowd.pieces, crowd.found["dev"])),
            engine=Engine.load(options.weights, settings=SearchSettings(threads=options.jobs), encoder=encoder),
        )
        measured = []
        for snippets in sizes(options.most or (QUICK_MAX_SNIPPETS if options.quick else MAX_SNIPPETS)):
            kept = crowd.work / f"{snippets}.json"
            if not kept.exists():
                added = crowd.grow(snippets, jobs=options.jobs)
                with_peers = crowd.work / "peers" if snippets == options.peers_at else None
                content = bench.measure(crowd.path, snippets, with_peers, librosa=snippets == MIN_SNIPPETS)
                report.save(kept, **content, growth=asdict(added))
            measured.append(json.loads(kept.read_text()))
            print(report.table([_for_people(measured[-1])]), flush=True)
        truths = bench.exhaustive(crowd.work, measured)
    rows = quality_rows(bench.asked, measured, truths)
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    built = peer_rows(measured)
    if built:
        print("", "Time to build the peers' indexes, and their size", report.table(built), sep="\n")
    if options.json:
        report.save(
            options.json,
            environment=environment,
            network=report.label(encoder.identity),
            rows=rows,
            peers=built,
            sizes=[{name: value for name, value in one.items() if name != "results"} for one in measured],
        )
    if options.plot:
        draw(rows, options.plot)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument(
        "--corpus", type=Path, help="training corpus whose takes are the sources of documents (default: Joplin rags)"
    )
    parser.add_argument(
        "--most", type=lambda text: int(float(text)), help=f"snippets of each kind (default: {MAX_SNIPPETS})"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_PIECES} pieces, up to {QUICK_MAX_SNIPPETS} snippets"
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw the curves to this file; needs matplotlib")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument("--peers-at", type=int, default=PEERS_AT, help="size at which peers are measured; 0: never")
    parser.add_argument("--jobs", type=positive, default=2, help="processes that make documents, threads that search")
    parser.add_argument(
        "--retrieval", type=Path, default=Path("runs/retrieval"), help="folder that keeps the collections of the sets"
    )
    parser.add_argument("--crowd", type=Path, default=Path("runs/crowd"), help="folder that keeps the takes")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/scale"), help="folder that keeps the growing collection"
    )
    return parser.parse_args(arguments)


def _folders(options: argparse.Namespace) -> Folders:
    return Folders(
        data=options.data,
        corpus=options.corpus,
        retrieval=options.retrieval,
        crowd=options.crowd,
        scale=options.work,
    )


def sizes(most: int) -> list[int]:
    """MIN_SNIPPETS, four times that, and so on, and `most`, which is more than twice the last but one."""
    quadrupled = [MIN_SNIPPETS << 2 * i for i in range(32) if MIN_SNIPPETS << 2 * i < most / 2]
    return [*quadrupled, most]


def ask(collection: Collection, found: Sequence[Piece]) -> Iterator[LabelledQuery]:
    """The queries: fragments of each form of all pieces."""
    whole = list(queries.whole(collection, found))
    rng = np.random.default_rng(SEED)
    for direction, size, count in FORMS:
        for query in whole * count:
            if query.direction == direction:
                yield queries.fragment(query, size, collection.network.front_end, rng)


def members(asked: Sequence[LabelledQuery]) -> dict[tuple[Direction, str], list[LabelledQuery]]:
    """The queries by direction and form."""
    groups: dict[tuple[Direction, str], list[LabelledQuery]] = {}
    for query in asked:
        groups.setdefault((query.direction, query.form), []).append(query)
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleBench:
    """The queries, and the means to answer them."""

    asked: list[LabelledQuery]
    engine: Engine

    @property
    def threads(self) -> int:
        return self.engine.settings.threads

    def measure(self, path: Path, snippets: int, peers_in: Path | None, *, librosa: bool) -> dict[str, Any]:
        """All measurements of a collection at one size. `results` holds answers by method, direction and form."""
        opening = opened(path, self.asked[0], self.threads)
        results: list[dict[str, Any]] = []
        with Collection.open(path) as collection:
            searcher = self.engine.searcher(collection)
            before = _resident_bytes()
            for (direction, form), group in members(self.asked).items():
                for method in (*METHODS, "exhaustive"):
                    some = group[:TIMED_EXHAUSTIVE] if method == "exhaustive" else group
                    ranked, stages = by_search(searcher, some, method)
                    results.append(_result(direction, form, method, ranked) | {"stages_ms": stages})
                if librosa and (costs := by_librosa(collection, AMONG[direction])) is not None:
                    results.append(_result(direction, form, "librosa", by_costs(collection, group[:BY_LIBROSA], costs)))
            if peers_in is not None:
                results += self._peers(collection, peers_in)
            sequences = collection.manifest.lmdb
            held = {kind: asdict(collection.manifest.kinds[kind]) for kind in AMONG.values()}
        return {
            "snippets": snippets,
            "kinds": held,
            "bytes": {"sequences": (path / sequences).stat().st_size}
            | {kind: (one["index"] or {}).get("size", 0) for kind, one in held.items()},
            "opening": opening,
            "resident_mb": (_resident_bytes() - before) / 1e6,
            "results": results,
        }

    def _peers(self, collection: Collection, folder: Path) -> Iterator[dict[str, Any]]:
        for peer in peers.peers(threads=self.threads):
            for direction, kind in AMONG.items():
                here = folder / f"{peer.name}-{kind}".replace(" ", "-")
                here.mkdir(parents=True, exist_ok=True)
                packed = collection.packed(kind)
                before, started = _resident_bytes(), time.perf_counter()
                with peer.build(packed, here) as search:
                    built_s = time.perf_counter() - started
                    for (one, form), group in members(self.asked).items():
                        if one == direction:
                            search(group[0].sequence.embeddings)
                            ranked = by_costs(collection, group, search)
                            cost = {"built_s": built_s, "resident_mb": (_resident_bytes() - before) / 1e6}
                            yield _result(direction, form, peer.name, ranked) | cost | {"disk_bytes": search.disk_bytes}

    def exhaustive(
        self, work: Path, measured: Sequence[dict[str, Any]]
    ) -> dict[tuple[Direction, str], "ExhaustiveResult"]:
        """The result of aligning all documents at each size, computed from the costs at the largest size."""
        truths = {}
        with Collection.open(work / "collection") as collection:
            for (direction, form), group in members(self.asked).items():
                kind = AMONG[direction]
                costs, ids = self._costs(work, collection, group), collection.ids(kind)
                right = np.array([ids.index(query.truth) for query in group])
                counts = [one["kinds"][kind]["documents"] for one in measured]
                truths[direction, form] = ExhaustiveResult.of(costs, right, ids, counts)
        return truths

    def _costs(self, work: Path, collection: Collection, group: Sequence[LabelledQuery]) -> NDArray[np.float32]:
        """The cost of each document for each query, (queries, documents). The folder `work` keeps them in a file.

        group: queries of one direction and form.
        """
        direction, form, settings = group[0].direction, group[0].form.replace(" ", "-"), self.engine.settings.alignment
        # Costs of an earlier version have no penalty in their names: it ranked with other jumps.
        name = f"costs-{collection.manifest.digest[:12]}-jump-{settings.ranking.jump_penalty:g}-{direction}-{form}.npy"
        if not (work / name).exists():
            backend, packed = alignment.choose("cpu", threads=self.threads), collection.packed(AMONG[direction])
            found = [
                exhaustive.costs([query.sequence.embeddings], packed, backend, settings)
                for query in tqdm(group, f"{direction} {form}", disable=None, leave=False)
            ]
            np.save(work / name, np.concatenate(found))
        return np.asarray(np.load(work / name), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExhaustiveResult:
    """The result of aligning all documents, for each size and query."""

    winners: list[list[str]]
    ranks: list[list[float]]

    @classmethod
    def of(
        cls, costs: NDArray[np.float32], right: NDArray[np.int64], ids: Sequence[str], counts: Sequence[int]
    ) -> "ExhaustiveResult":
        """The result at all sizes.

        costs: (queries, documents) at the largest size. A smaller collection holds the first documents of a larger one.
        counts: number of documents at each size.
        """
        winners, ranks = [], []
        own = np.take_along_axis(costs, right[:, None], axis=1)
        for count in counts:
            winners.append([ids[i] for i in np.argmin(costs[:, :count], axis=1).tolist()])
            ranks.append(np.sum(costs[:, :count] <= own, axis=1).astype(float).tolist())
        return cls(winners=winners, ranks=ranks)


def by_search(searcher: Searcher, group: Sequence[LabelledQuery], method: Method) -> tuple[Ranked, dict[str, float]]:
    """The answers of `Searcher`, and the median time of each stage that runs.

    The first query runs twice, to warm up.
    """
    ranked: Ranked = []
    stages: list[dict[str, float]] = []
    for query in [group[0], *group]:
        asked = Query(sequence=query.sequence, among=AMONG[query.direction], method=method)
        found = searcher.ranking(asked)
        rank = found.ids.index(query.truth) + 1 if query.truth in found.ids else float("inf")
        ranked.append((found.ids[0], rank, sum(found.timings_ms.values())))
        stages.append(found.timings_ms)
    names = dict.fromkeys(name for one in stages[1:] for name in one)  # shorter queries may run other stages
    return ranked[1:], {name: float(np.median([one[name] for one in stages[1:] if name in one])) for name in names}


Costs = Callable[[Embeddings], NDArray[np.floating]]
"""Computes the costs (documents,) of a query; lower is better."""


def by_costs(collection: Collection, group: Sequence[LabelledQuery], costs: Costs) -> Ranked:
    """The answers of a function that computes costs. Ties count against the right document."""
    ids = collection.ids(AMONG[group[0].direction])
    number = {id: i for i, id in enumerate(ids)}
    ranked: Ranked = []
    for query in group:
        started = time.perf_counter()
        found = costs(query.sequence.embeddings)
        took_ms = (time.perf_counter() - started) * 1000
        rank = float(np.sum(found <= found[number[query.truth]]))
        ranked.append((ids[int(np.argmin(found))], rank, took_ms))
    return ranked


def by_librosa(collection: Collection, kind: Kind) -> Costs | None:
    """The costs of all documents by librosa, one after the other; None if librosa is not installed."""
    try:
        from librosa.sequence import dtw
    except ImportError:
        return None
    packed = collection.packed(kind)
    rows = packed.embeddings.astype(np.float32)

    def costs(query: Embeddings) -> NDArray[np.floating]:
        local = 1 - query @ rows.T
        parts = np.split(local, packed.offsets[1:-1], axis=1)
        return np.array([dtw(C=part, subseq=True, backtrack=False)[-1].min() / len(query) for part in parts])

    costs(rows[:2])  # compiles
    return costs


def opened(path: Path, query: LabelledQuery, threads: int) -> dict[str, float]:
    """Seconds that a new process takes to open the collection, and then to answer the first query; files are cached."""
    worker = Worker(_first_answer)
    worker.send((path, query, threads))
    found: dict[str, float] = worker.receive()
    worker.end()
    return found


def _first_answer(task: tuple[Path, LabelledQuery, int]) -> dict[str, float]:
    """The times of `opened`, measured in a worker process."""
    path, query, threads = task
    started = time.perf_counter()
    with Collection.open(path) as collection:
        open_s = time.perf_counter() - started
        searcher = Searcher(collection, SearchSettings(threads=threads))
        searcher.query(query.sequence, AMONG[query.direction])
        first_s = time.perf_counter() - started - open_s
        started = time.perf_counter()
        searcher.query(query.sequence, AMONG[query.direction])
        second_s = time.perf_counter() - started
    resident_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"open_s": open_s, "first_s": first_s, "second_s": second_s, "most_resident_mb": resident_mb}


def _resident_bytes() -> int:
    """Private memory of this process in bytes, without mapped files."""
    resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * resource.getpagesize()


def _result(direction: Direction, form: str, method: str, ranked: Ranked) -> dict[str, Any]:
    winners, ranks, times = (list(column) for column in zip(*ranked, strict=True))
    return {
        "direction": direction,
        "query": form,
        "method": method,
        "winners": winners,
        "times_ms": times,
        "ranks": [rank if np.isfinite(rank) else None for rank in ranks],  # JSON has no infinity
    }


def quality_rows(
    asked: Sequence[LabelledQuery],
    measured: Sequence[dict[str, Any]],
    truths: dict[tuple[Direction, str], ExhaustiveResult],
) -> list[dict[str, Any]]:
    """The table rows of quality and time, one for each direction, form, method and size."""
    groups = members(asked)
    rows = []
    for number, one in enumerate(measured):
        for result in one["results"]:
            key = result["direction"], result["query"]
            truth, method = truths[key], result["method"]
            if method == "exhaustive":
                ranks, recall = truth.ranks[number], 1.0
            else:
                ranks = [np.inf if rank is None else rank for rank in result["ranks"]]
                pairs = zip(result["winners"], truth.winners[number], strict=False)  # some get few queries
                recall = float(np.mean([one == other for one, other in pairs]))
            quality = summarise(np.array(ranks), groups=[query.piece for query in groups[key][: len(ranks)]]).row()
            times = result["times_ms"]
            rows.append(
                {
                    "direction": key[0],
                    "query": key[1],
                    "method": method,
                    "snippets": one["snippets"],
                    "n": len(ranks),
                    "p50_ms": float(np.median(times)),
                    "p95_ms": float(np.quantile(times, 0.95)),
                    "MRR": quality["MRR"],
                    "MRR 95%": quality["MRR 95%"],
                    "recall_of_exhaustive": recall,
                }
            )
    return sorted(rows, key=lambda row: (row["direction"], row["query"], row["method"], row["snippets"]))


def peer_rows(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table rows of the peers, one for each peer and direction, at the size at which they were measured."""
    found = {}
    for one in measured:
        for result in one["results"]:
            if "built_s" in result:
                found[result["method"], result["direction"]] = {
                    "peer": result["method"],
                    "direction": result["direction"],
                    "snippets": one["snippets"],
                    "built s": result["built_s"],
                    "memory MB": result["resident_mb"],
                    "disk MB": result["disk_bytes"] and result["disk_bytes"] / 1e6,
                }
    return list(found.values())


def _for_people(one: dict[str, Any]) -> dict[str, Any]:
    """The table row of one size, for people."""
    count = one["snippets"]
    return {
        "snippets of each kind": count,
        "documents": sum(held["documents"] for held in one["kinds"].values()),
        "sequences B/snippet": one["bytes"]["sequences"] / sum(held["snippets"] for held in one["kinds"].values()),
        "index B/snippet": one["bytes"]["score"] / count,
        "made s": one["growth"]["made_s"],
        "commit s": one["growth"]["commit_s"],
        "open s": one["opening"]["open_s"],
        "first answer s": one["opening"]["first_s"],
    }


if __name__ == "__main__":
    main()
