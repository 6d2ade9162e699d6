"""Indexes made anew, and how well they find: what `scorefind build` does."""

import time
from typing import Any

import numpy as np

from engine.collection import Collection, CollectionWriter
from engine.collection.manifest import KINDS, Contents
from engine.neighbours import exact, nearest
from engine.search.plan import affordable
from engine.values import OTHER, Embeddings, Kind

ASKED = 256
"""Snippets whose neighbours are compared with those that a flat index finds."""
NEIGHBOURS = 100
LENGTHS = {"long": 92, "short": 12}
"""Snippets of the queries that recall is told for: 50 s and 10 s of a recording. Short ones look into more cells."""


def build(writer: CollectionWriter, *, threads: int = 1) -> dict[str, Any]:
    """Makes the indexes of the collection anew and puts them in force; what they are, by kind.

    `recall`: the share of the true nearest 100 snippets that the index finds, for snippets of the other kind if there
    are any, as users ask.
    """
    started = time.perf_counter()
    generation = writer.build()
    took_s = time.perf_counter() - started
    with Collection.open(writer.path) as collection:
        facts: dict[str, Any] = {"generation": generation, "seconds": round(took_s, 1)}
        for kind, held in collection.manifest.kinds.items():
            facts[kind] = _facts(collection, kind, held, threads)
    return facts


def _facts(collection: Collection, kind: Kind, held: Contents, threads: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"documents": held.documents, "snippets": held.snippets}
    if held.index is None:
        return facts | {"index": "none on disk: all snippets are compared"}
    index, asked = collection.index(kind), _asked(collection, kind)
    truth = exact(collection.stored(kind), asked, NEIGHBOURS, threads=threads)[1]
    facts |= {"index": index.describe(), "bytes_a_snippet": round(held.index.size / held.snippets, 1)}
    recall = {}
    for name, length in LENGTHS.items():
        rows = nearest(index, asked, NEIGHBOURS, threads=threads, probes=affordable(length).probes)[1]
        recall[name] = round(_overlap(rows, truth), 3)
    return facts | {"recall": recall}


def _asked(collection: Collection, kind: Kind) -> Embeddings:
    """Snippets of the other kind, drawn at random; of this one if there are none."""
    rng = np.random.default_rng(0)
    documents = next(collection.stored(one) for one in (OTHER[kind], *KINDS) if collection.ids(one))
    count = len(documents.offsets) - 1
    drawn = documents.take(np.sort(rng.choice(count, min(count, ASKED), replace=False))).embeddings
    chosen = rng.choice(len(drawn), min(len(drawn), ASKED), replace=False)
    return np.ascontiguousarray(drawn[chosen], dtype=np.float32)


def _overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """The mean share of the true rows that were found."""
    return float(np.mean([len(np.intersect1d(*pair)) / len(pair[1]) for pair in zip(found, truth, strict=True)]))
