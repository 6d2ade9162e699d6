"""The methods of identifying a piece that are compared. Each computes the costs of all documents for a query.

As published (Carvalho & Widmer, EUSIPCO 2021; their code where the text is silent):

- `vote(k)`: 100 evenly spaced windows of the query, whatever its length. Each window gives one vote to the piece of
  each of its k nearest snippets. The text has k = 1, the code k = 25. Our windows are the nearest snippets on the grid,
  at most 0.25 s or 25 px away.
- `shazam`: fingerprints at one tempo (`engine.search.fingerprint.LITERAL`). The paper has one sentence on it.
- `dtw`, `sdtw`: `engine.config.PUBLISHED_DTW` and `PUBLISHED_SDTW`.

`shipped(method)` searches as `scorefind query --method` does.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.lib.queries import AMONG, LabelledQuery
from engine.collection import Collection
from engine.config import SearchSettings
from engine.metrics import Ranks, ranks_by_cost
from engine.search import fingerprint
from engine.search.fingerprint import LITERAL
from engine.search.searcher import Query, Searcher
from engine.search.voting import vote as votes
from engine.values import Method

WINDOWS = 100

Costs = NDArray[np.floating]
"""Costs (documents,) of the searched kind; lower is better, infinite means not ranked."""
Cost = Callable[[LabelledQuery], Costs]


def vote(collection: Collection, neighbours: int, *, threads: int = 1) -> Cost:
    """The method `vote`: costs are minus the votes of each document."""

    def cost(query: LabelledQuery) -> Costs:
        kind = AMONG[query.direction]
        windows = query.sequence.part(evenly_spaced(len(query.sequence)))
        offsets = collection.packed(kind).offsets
        return -votes(collection.index(kind), windows.embeddings, offsets, neighbours, threads=threads).counts.astype(
            float
        )

    return cost


def evenly_spaced(length: int) -> NDArray[np.int64]:
    """The numbers of the snippets that are the windows: int64 (WINDOWS,). Short queries repeat some snippets."""
    return np.linspace(0, length - 1, WINDOWS).round().astype(np.int64)


def shazam(collection: Collection, *, threads: int = 1) -> Cost:
    """The method `shazam`: costs are minus the highest bin of each document's histogram of offsets, at equal tempo."""

    def cost(query: LabelledQuery) -> Costs:
        kind = AMONG[query.direction]
        offsets, index = collection.packed(kind).offsets, collection.index(kind)
        found = fingerprint.offsets(index, query.sequence.embeddings, offsets, settings=LITERAL, threads=threads)
        return -found.similarity

    return cost


def shipped(collection: Collection, method: Method, settings: SearchSettings) -> Cost:
    """The method of `scorefind query --method`: costs of the matches, infinite for other documents."""
    searcher = Searcher(collection, settings)
    numbers = {kind: {id: number for number, id in enumerate(collection.ids(kind))} for kind in AMONG.values()}

    def cost(query: LabelledQuery) -> Costs:
        kind = AMONG[query.direction]
        costs = np.full(len(numbers[kind]), np.inf)
        found = searcher.ranking(Query(sequence=query.sequence, among=kind, method=method))
        costs[[numbers[kind][id] for id in found.ids]] = found.keys
        return costs

    return cost


def ranks(collection: Collection, asked: Sequence[LabelledQuery], cost: Cost, name: str = "") -> Ranks:
    """The rank of each query's right document; infinite if the collection lacks it, or if it is no match.

    Ties count against the right piece. All pieces without a vote are tied, so they share the last rank. (The published
    code breaks ties by order, and ranks a piece without votes directly after the pieces with votes.)

    asked: queries of one direction.
    """
    ids = collection.ids(AMONG[asked[0].direction])
    numbers = {id: number for number, id in enumerate(ids)}
    costs = np.stack([cost(query) for query in tqdm(asked, name, unit="query", disable=None, leave=False)])
    missing = np.full((len(asked), 1), np.inf)
    truths = np.array([numbers.get(query.truth, len(ids)) for query in asked])
    return ranks_by_cost(np.hstack([costs, missing]), truths)
