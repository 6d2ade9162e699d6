"""Rebuilds the indexes of a collection and measures their recall: what `scorefind build` does."""

import time
from typing import Any

import numpy as np

from engine.collection import AnyWriter, Collection, ShardedWriter
from engine.collection.manifest import KINDS, Contents
from engine.neighbours import exact, nearest
from engine.search.plan import affordable
from engine.values import OTHER, Embeddings, Kind

RECALL_SNIPPETS = 256
"""Query snippets on which recall is measured: the neighbours from the index are compared with the exact ones."""
NEIGHBOURS = 100
"""Nearest neighbours compared for each query snippet."""
QUERY_LENGTHS = {"long": 92, "short": 12}
"""Lengths of the queries for which recall is measured, in snippets: 50 s and 10 s of a recording.

The snippets of a short query probe more cells, so recall depends on the length.
"""


def build(writer: AnyWriter, *, threads: int = 1) -> dict[str, Any]:
    """Rebuilds the indexes of the collection, publishes them as a new generation, and returns facts about each kind.

    The facts about a collection in shards are those of each shard.

    `recall` is the share of the true 100 nearest snippets that the index finds. The query snippets are of the other
    kind, as in a search; if the collection has no documents of the other kind, they are of the same kind.
    """
    if isinstance(writer, ShardedWriter):
        shards = {name: build(part, threads=threads) for name, part in writer.parts.items()}
        return {"generation": writer.generation, "shards": shards}
    started = time.perf_counter()
    generation = writer.build()
    took_s = time.perf_counter() - started
    with Collection.open(writer.path) as collection:
        facts: dict[str, Any] = {"generation": generation, "seconds": round(took_s, 1)}
        for kind, contents in collection.manifest.kinds.items():
            facts[kind] = _facts(collection, kind, contents, threads)
    return facts


def _facts(collection: Collection, kind: Kind, contents: Contents, threads: int) -> dict[str, Any]:
    """The size of one kind's documents, and type, size and recall of its index."""
    facts: dict[str, Any] = {"documents": contents.documents, "snippets": contents.snippets}
    if contents.index is None:
        return facts | {"index": "none on disk: all snippets are compared"}
    index, queries = collection.index(kind), _query_snippets(collection, kind)
    truth = exact(collection.stored(kind), queries, NEIGHBOURS, threads=threads)[1]
    facts |= {"index": index.describe(), "bytes_a_snippet": round(contents.index.size / contents.snippets, 1)}
    recall = {}
    for name, length in QUERY_LENGTHS.items():
        rows = nearest(index, queries, NEIGHBOURS, threads=threads, probes=affordable(length).probes)[1]
        recall[name] = round(_overlap(rows, truth), 3)
    return facts | {"recall": recall}


def _query_snippets(collection: Collection, kind: Kind) -> Embeddings:
    """Random snippets of documents of the other kind, or of the same kind if there are no others: float32 (n, 32)."""
    rng = np.random.default_rng(0)
    documents = next(collection.stored(one) for one in (OTHER[kind], *KINDS) if collection.ids(one))
    count = len(documents.offsets) - 1
    drawn = documents.take(np.sort(rng.choice(count, min(count, RECALL_SNIPPETS), replace=False))).embeddings
    chosen = rng.choice(len(drawn), min(len(drawn), RECALL_SNIPPETS), replace=False)
    return np.ascontiguousarray(drawn[chosen], dtype=np.float32)


def _overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """The mean share of the true rows that are among the found ones."""
    return float(np.mean([len(np.intersect1d(*pair)) / len(pair[1]) for pair in zip(found, truth, strict=True)]))
