"""Is a made document (`bench.lib.made_documents`) as easily confused with the right document as a real one?

    python -m bench.distractors --data DIR --corpus DIR [--set dev|joplin] [--quick] [--json FILE]

Pieces of the set are searched among one half of the takes of a training corpus (`real`), and among as many made
documents of the same lengths. The sources of the made documents are the other half of the takes (`made`), or an eighth
of that half (`made of few`). With few sources most made documents share their sources, as they do in a collection of
tens of thousands. The cost of the best wrong document and the MRR should be the same in all cases.

`a doubling` is by how much the best wrong cost falls when the number of documents doubles: the mean over the last
three doublings, each number standing for all choices of so many documents. Made documents only tell how hard a large
collection is if they fall as fast as real ones. Generator and its settings are chosen on `--set joplin`.
"""

import argparse
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib import exhaustive, pieces, queries, report, takes
from bench.lib.made_documents import SEED, DistractorSource, made, pack
from bench.lib.pieces import Piece, collect
from bench.lib.queries import AMONG, LabelledQuery
from engine import alignment, process
from engine.alignment import Backend
from engine.arguments import positive
from engine.collection import Collection
from engine.embedding.documents import Encoder as AnyEncoder
from engine.embedding.encoder import Encoder
from engine.metrics import ranks_by_cost, summarise
from engine.values import Kind, Packed

FRAGMENTS = {"A2S": (10, 20), "S2A": (1, 2)}
"""Lengths of the queries: seconds (A2S) and systems (S2A)."""
FEW = 8
"""Every FEW-th source is used for `made of few`."""
DOUBLINGS = 3
"""Number of doublings of the crowd over which the fall of the best wrong cost is measured."""


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    found = pieces.pieces(options.data, options.set)[: 12 if options.quick else None]
    load = functools.partial(Encoder.load, options.weights, threads=1)
    encoder = load()
    path, _ = collect(found, options.retrieval / options.set, encoder.identity, load, options.jobs, fresh=False)
    others = takes.collect(options.corpus, "train", options.crowd, encoder)
    environment = report.environment()
    print(report.heading(environment))
    backend = alignment.choose("cpu", threads=options.jobs)
    rows: list[dict[str, Any]] = []
    with Collection.open(path) as ours, Collection.open(others) as theirs:
        asked = list(ask(ours, found, 1 if options.quick else options.fragments))
        for direction, kind in AMONG.items():
            members = [query for query in asked if query.direction == direction]
            rows += compare(members, ours, theirs.packed(kind), kind, encoder, backend)
    print("", report.table([report.with_intervals(row) for row in rows]), sep="\n")
    if options.json:
        report.save(options.json, environment=environment, network=report.label(encoder.identity), rows=rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="training corpus, whose takes are real")
    parser.add_argument("--set", choices=("dev", "joplin"), default="dev", help="joplin: validation; dev: report")
    parser.add_argument("--quick", action="store_true", help="12 pieces, one fragment of each length")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument(
        "--fragments", type=int, default=3, help="number of fragments of each length from each document"
    )
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed, threads that align")
    parser.add_argument(
        "--retrieval", type=Path, default=Path("runs/retrieval"), help="folder that keeps the collections of the sets"
    )
    parser.add_argument("--crowd", type=Path, default=Path("runs/crowd"), help="folder that keeps the takes")
    return parser.parse_args(arguments)


def ask(collection: Collection, found: Sequence[Piece], per_piece: int) -> Iterator[LabelledQuery]:
    """The queries: fragments of each length, `per_piece` from each document."""
    rng = np.random.default_rng(SEED)
    for query in queries.whole(collection, found):
        for size in FRAGMENTS[query.direction] * per_piece:
            yield queries.fragment(query, size, collection.network.front_end, rng)


def compare(
    asked: Sequence[LabelledQuery], ours: Collection, takes: Packed, kind: Kind, encoder: AnyEncoder, backend: Backend
) -> list[dict[str, Any]]:
    """The table rows, one for each kind of query and each crowd.

    asked: queries of one direction. ours: the collection with their right documents.
    takes: real documents of other music.
    """
    sources, others = np.arange(0, len(takes), 2), np.arange(1, len(takes), 2)
    real = takes.take(others)
    lengths = np.diff(real.offsets)
    crowds = {"real": real, "real, the other half": takes.take(sources)}
    for name, some in (("made", sources), ("made of few", sources[::FEW])):
        source = DistractorSource.of(takes.take(some), kind, lengths)
        crowds[name] = pack([made(source, number, encoder)[1] for number in range(len(others))])
    ids = ours.ids(kind)
    truths = np.array([ids.index(query.truth) for query in asked])
    right = _costs(asked, ours.packed(kind), backend)[np.arange(len(asked)), truths]
    rows = []
    for form in dict.fromkeys(query.form for query in asked):
        members = np.array([query.form == form for query in asked])
        groups = [query.piece for query in asked if query.form == form]
        for name, packed in crowds.items():
            costs = _costs([query for query in asked if query.form == form], packed, backend)
            ranks = ranks_by_cost(np.column_stack([right[members], costs]), np.zeros(len(costs), np.int64))
            row = {"direction": asked[0].direction, "query": form, "among": name, "documents": len(packed)}
            best = costs.min(axis=1)
            row |= {"best wrong cost": float(best.mean()), "its sd": float(best.std()), "a doubling": doubling(costs)}
            quality = summarise(ranks, groups=groups).row()
            rows.append(row | {name: quality[name] for name in ("n", "R@1", "R@1 95%", "MRR", "MRR 95%")})
    return rows


def doubling(costs: NDArray[np.floating]) -> float:
    """The fall of the best cost for each doubling of the number of documents, over the last DOUBLINGS doublings.

    costs: (queries, documents). A smaller number of documents stands for all choices of so many.
    """
    count = costs.shape[1] // 2**DOUBLINGS
    return float(np.mean(expected_best(costs, count) - costs.min(axis=1)) / DOUBLINGS)


def expected_best(costs: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """The mean over all choices of `count` documents of the best cost, (queries,). costs: (queries, documents).

    The document of rank i is best in a choice if it is chosen, and all others chosen come after it.
    """
    total = costs.shape[1]
    chances, left = np.zeros(total), 1.0
    for i in range(total - count + 1):
        chances[i] = left * count / (total - i)
        left -= chances[i]
    return np.asarray(np.sort(costs, axis=1) @ chances, np.float64)


def _costs(asked: Sequence[LabelledQuery], packed: Packed, backend: Backend) -> NDArray[np.float32]:
    """The cost of each document for each query: float32 (queries, documents)."""
    return exhaustive.costs([query.sequence.embeddings for query in asked], packed, backend)


if __name__ == "__main__":
    main()
