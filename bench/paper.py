"""Table I of the paper this project starts from, on open data, and the default network in the same columns.

    python -m bench.paper --data DIR [--baseline FILE] [--attention FILE] [--default FILE] [--quick] [--json FILE]

Carvalho & Widmer, Exploiting Temporal Dependencies for Cross-Modal Music Piece Identification (EUSIPCO 2021), ask whole
recordings among scores (A2S) and whole scores among recordings (S2A) of 321 pieces that are not public. Here they are
the 71 pieces of the set `dev`: real scans, and recordings synthesised from performances by pianists. Each network has a
collection of its own, made from the same files and kept below `--work` beside those of `bench.retrieval`.

- vote, as published: 100 windows of the query, evenly spaced, whatever its length; each gives one vote to the piece of
  each of its k nearest snippets. The paper's text has k = 1, its code k = 25. The windows are the nearest ones of the
  grid of snippets, at most 0.25 s or 25 px away.
- DTW, as published: both sequences whole, from corner to corner by classic steps; cost D[N, M] / length of the path.
- as shipped: `scorefind query`, that is votes of all snippets, then subsequence alignment with jumps and bias.

Ties, in votes above all, count against the right piece, and so do pieces without a vote: they share the last rank. The
published code breaks ties by order, and ranks a piece without votes right after those that got some.
"""

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench import pieces, queries, report
from bench.pieces import Piece
from bench.queries import AMONG, Direction, Query
from bench.retrieval import collect, collection_sizes
from engine import alignment
from engine.collection import Collection
from engine.config import Alignment, SearchSettings
from engine.encoder import DEFAULT_WEIGHTS, Encoder
from engine.metrics import Ranks, ranks_by_cost, ranks_of, summarise
from engine.search import Searcher
from engine.voting import vote

WINDOWS = 100
NEIGHBOURS = (1, 25)
PUBLISHED_DTW = Alignment(
    steps="classic", whole=True, normalise="path", jump_penalty=float("inf"), use_bias=False
)
RECALLS = (1, 5, 10)
QUICK_PIECES = 12

Costs = NDArray[np.floating]
"""(queries, documents), lower is better."""

PUBLISHED: dict[Direction, dict[str, tuple[float, float, float, int]]] = {
    "A2S": {
        "Baseline": (0.13, 0.42, 0.23, 15),
        "Baseline+Att": (0.29, 0.72, 0.42, 4),
        "DTW": (0.61, 0.87, 0.69, 1),
        "DTW+Att": (0.83, 0.94, 0.87, 1),
    },
    "S2A": {
        "Baseline": (0.36, 0.65, 0.46, 4),
        "Baseline+Att": (0.58, 0.82, 0.66, 1),
        "DTW": (0.70, 0.91, 0.76, 1),
        "DTW+Att": (0.77, 0.93, 0.83, 1),
    },
}
"""R@1, R@10, MRR and MR of the paper's Table I."""

SYSTEMS = {"baseline": ("Baseline", "DTW"), "attention": ("Baseline+Att", "DTW+Att"), "default": ("Default", "Default")}
"""What the rows of each network are called, voting and aligning."""
ORDER = (*PUBLISHED["A2S"], "Default")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    found = pieces.pieces(options.data, "dev")[: QUICK_PIECES if options.quick else None]
    environment = report.environment()
    print(report.heading(environment))
    rows: list[dict[str, Any]] = []
    networks = {}
    for network, systems in SYSTEMS.items():
        weights: Path | None = getattr(options, network)
        if weights is None:
            print(
                f"{network}: `scorefind train indexer/training/{network}.toml` trains it, --{network} FILE measures it"
            )
            continue
        load = functools.partial(Encoder.load, weights, threads=1)
        identity = load().identity
        path, added = collect(found, options.work / "dev", identity, load, options.jobs, fresh=options.fresh)
        with Collection.open(path, identity) as collection:
            sizes = collection_sizes(collection)
            print(f"{network}: {identity.name} {identity.hash[:12]}, {sizes}", flush=True)
            networks[network] = {"name": identity.name, "hash": identity.hash, "collection": sizes, "added": added}
            rows += network_rows(collection, found, systems, options.jobs, shipped=network == "default")
    rows.sort(key=lambda row: (row["direction"], ORDER.index(row["system"])))
    published = published_rows()
    print("", report.table([_for_people(row) for row in rows]), sep="\n")
    print(
        "", "The paper's own figures, of its private collection of 321 other pieces:", report.table(published), sep="\n"
    )
    if options.json:
        ties = "count against the right piece"
        report.save(options.json, environment=environment, networks=networks, ties=ties, rows=rows, published=published)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--baseline", type=Path, help="weights file; its rows are left out if none is named")
    parser.add_argument("--attention", type=Path, help="weights file, likewise")
    parser.add_argument("--default", type=Path, default=DEFAULT_WEIGHTS, help="weights file")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PIECES} pieces")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--jobs", type=int, default=2, help="processes that embed, threads that search")
    parser.add_argument("--work", type=Path, default=Path("runs/retrieval"), help="recordings and collections are kept")
    parser.add_argument("--fresh", action="store_true", help="embed all again, after a change of the front ends")
    return parser.parse_args(arguments)


def network_rows(
    collection: Collection, found: Sequence[Piece], systems: tuple[str, str], threads: int, *, shipped: bool
) -> Iterator[dict[str, Any]]:
    """The rows of one network: voting and DTW as published and, if it is the `shipped` one, the search as it is."""
    asked = list(queries.whole(collection, found))
    for direction in AMONG:
        some = [query for query in asked if query.direction == direction]
        for neighbours in NEIGHBOURS:
            voted = ranks(collection, some, functools.partial(published_votes, neighbours=neighbours, threads=threads))
            yield _row(direction, systems[0], f"vote, k = {neighbours}", voted)
        aligned = ranks(collection, some, functools.partial(published_dtw, threads=threads))
        yield _row(direction, systems[1], "DTW", aligned)
        if shipped:
            yield _row(direction, systems[1], "as shipped", shipped_ranks(collection, some, threads))


def published_votes(collection: Collection, query: Query, *, neighbours: int, threads: int = 1) -> Costs:
    """(documents,) minus the votes of each document of the kind searched."""
    kind = AMONG[query.direction]
    windows = queries.part(query.sequence, evenly_spaced(len(query.sequence)))
    offsets = collection.packed(kind).offsets
    return -vote(collection.index(kind), windows.embeddings, offsets, neighbours, threads=threads).counts.astype(float)


def evenly_spaced(length: int) -> NDArray[np.int64]:
    """int64 (WINDOWS,): which of so many snippets are the windows; a short query's stand more than once."""
    return np.linspace(0, length - 1, WINDOWS).round().astype(np.int64)


def published_dtw(collection: Collection, query: Query, *, threads: int = 1) -> Costs:
    """(documents,) the cost of aligning the whole query with the whole of each document of the kind searched."""
    packed = collection.packed(AMONG[query.direction])
    return alignment.choose(threads=threads).align(query.sequence.embeddings, packed, PUBLISHED_DTW).costs


def shipped_ranks(collection: Collection, asked: Sequence[Query], threads: int) -> Ranks:
    """The ranks that the search gives as users have it."""
    searcher = Searcher(collection, SearchSettings(threads=threads))
    answers = []
    for query in asked:
        found = searcher.query(query.sequence, AMONG[query.direction], top=len(collection.documents), locate=False)
        answers.append([match.document.id for match in found.matches])
    return ranks_of(answers, [query.truth for query in asked])


def ranks(collection: Collection, asked: Sequence[Query], cost: Callable[[Collection, Query], Costs]) -> Ranks:
    """The rank of each query's right document; infinite where the collection lacks it.

    asked: queries of one direction.
    """
    ids = [document.id for document in collection.of_kind(AMONG[asked[0].direction])]
    costs = np.stack([cost(collection, query) for query in tqdm(asked, unit="query", disable=None, leave=False)])
    missing = np.full((len(asked), 1), np.inf)
    truths = np.array([ids.index(query.truth) if query.truth in ids else len(ids) for query in asked])
    return ranks_by_cost(np.hstack([costs, missing]), truths)


def _row(direction: Direction, system: str, method: str, ranks: Ranks) -> dict[str, Any]:
    counts = {f"R@{k} count": int(np.sum(ranks <= k)) for k in RECALLS}
    quality = summarise(ranks, at=RECALLS)
    return {"direction": direction, "system": system, "method": method, **quality.row(), **counts}


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    """The row with intervals, a count before each share."""
    shown = report.with_intervals(row)
    for k in RECALLS:
        shown[f"R@{k}"] = f"{shown.pop(f'R@{k} count')}: {shown[f'R@{k}']}"
    return shown


def published_rows() -> list[dict[str, Any]]:
    """The paper's own figures; it gives no intervals."""
    return [
        {"direction": direction, "system": system, "n": 321, "R@1": r1, "R@10": r10, "MRR": mrr, "MR": mr}
        for direction, systems in PUBLISHED.items()
        for system, (r1, r10, mrr, mr) in systems.items()
    ]


if __name__ == "__main__":
    main()
