"""Several shards that answer as one: each does its part of the work, and the parts are put together.

The result of each operation is that of one collection with the documents of all shards, to the last bit:

- The neighbours of a query snippet are the best of the neighbours that each shard finds in its own documents. Where an
  index compares all rows, these are the nearest of all rows. Where an index has cells, each shard searches its share of
  the cells, so the hits are about as good as those of one large index, but not the same ones.
- The cost of a document does not depend on other documents.
- Positions follow the documents' numbers, which no two shards share.
"""

import copy
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Backend
from engine.collection import AnyCollection, Collection, ShardedCollection
from engine.collection.manifest import KINDS
from engine.config import Alignment, FrontEnd
from engine.errors import ShardLostError
from engine.neighbours import Neighbours, merged
from engine.search.shard import Aligner, CollectionShard, Costs, Listing, Positions, Shard
from engine.values import Document, Embeddings, Kind, SnippetSequence, UnseenShard

Result = TypeVar("Result")
Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Calls a function with each of some values, and returns the results in order, as `map` does."""


@runtime_checkable
class Elsewhere(Protocol):
    """A collection that this process does not have open itself."""

    @property
    def shard(self) -> Shard:
        """Returns its shards as one."""


def shard_of(collection: AnyCollection | Shard, backend: Backend, threads: int) -> Shard:
    """Returns a collection as a shard: one that this process has open, or one whose shards are elsewhere.

    threads: number of threads that search for neighbours.
    """
    if isinstance(collection, Collection):
        return CollectionShard(collection, backend, threads)
    if isinstance(collection, ShardedCollection):
        return Shards({name: CollectionShard(part, backend, threads) for name, part in collection.parts.items()})
    if isinstance(collection, Shard):
        return collection
    assert isinstance(collection, Elsewhere)
    return collection.shard


class _Merged:
    """The documents of one kind in all shards, in one order."""

    def __init__(self, listings: Mapping[str, Listing]) -> None:
        numbers = np.concatenate([listing.numbers for listing in listings.values()])
        sizes = [len(listing) for listing in listings.values()]
        order = np.argsort(numbers, kind="stable")
        ids = [id for listing in listings.values() for id in listing.ids]
        lengths = np.concatenate([listing.lengths for listing in listings.values()])
        self.listing = Listing(
            ids=tuple(ids[i] for i in order.tolist()), numbers=numbers[order], lengths=lengths[order]
        )
        self.owner = np.repeat(np.arange(len(sizes)), sizes)[order]
        """Number of the shard of each document, (documents,)."""
        self.within = np.concatenate([np.zeros(0, np.int64), *map(np.arange, sizes)])[order].astype(np.int64)
        """Position of each document in its shard, (documents,)."""
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        borders = np.cumsum([0, *sizes])
        self.positions = dict(zip(listings, np.split(position, borders[1:-1]), strict=True))
        """Position of each document of each shard among all documents, by the shard's name."""
        self.starts = {name: listing.offsets for name, listing in listings.items()}

    def rows(self, shard: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns rows of a shard as rows of all documents; -1 stays."""
        starts, positions = self.starts[shard], self.positions[shard]
        documents = np.searchsorted(starts, np.maximum(rows, 0), side="right") - 1
        moved = self.listing.offsets[positions[documents]] + rows - starts[documents]
        return np.where(rows >= 0, moved, -1)


class Shards:
    """Several shards that answer as one shard."""

    def __init__(self, parts: Mapping[str, Shard], run: Run = map, unseen: tuple[UnseenShard, ...] = ()) -> None:
        """parts: the shards by their names. run: how they work: one after the other, or at the same time.

        unseen: the shards that do not answer. Raises ShardLostError if there is no part.
        """
        if not parts:
            raise ShardLostError(frozenset(shard.name for shard in unseen), "no shard answers")
        self._parts = dict(parts)
        self._run = run
        self._fewer = functools.lru_cache(maxsize=4)(self._without)
        self._kinds: dict[Kind, _Merged] = {}
        self._times_ms: dict[str, float] = {}
        self.unseen = unseen

    @property
    def front_end(self) -> FrontEnd:
        return next(iter(self._parts.values())).front_end

    @property
    def times_ms(self) -> dict[str, float]:
        return self._times_ms

    def visit(self) -> "Shards":
        visited = copy.copy(self)
        visited._times_ms = {}
        return visited

    def without(self, lost: frozenset[str]) -> "Shards":
        return self._fewer(lost)

    def _without(self, lost: frozenset[str]) -> "Shards":
        if not lost & self._parts.keys():
            raise ShardLostError(lost, "no such shard is searched")
        gone = tuple(
            UnseenShard(name=name, documents={kind: part.count(kind) for kind in KINDS})
            for name, part in self._parts.items()
            if name in lost
        )
        kept = {name: part for name, part in self._parts.items() if name not in lost}
        return Shards(kept, self._run, self.unseen + gone)

    def count(self, kind: Kind) -> int:
        return sum(part.count(kind) for part in self._parts.values())

    def listing(self, kind: Kind) -> Listing:
        return self._merged(kind).listing

    def nearest(self, kind: Kind, query: Embeddings, neighbours: int, probes: int, cells: int) -> Neighbours:
        of_all = self._merged(kind)

        def find(name: str) -> Neighbours:
            similarities, rows = self._parts[name].nearest(kind, query, neighbours, probes, cells)
            return similarities, of_all.rows(name, rows)

        names = [name for name, positions in of_all.positions.items() if len(positions)]
        if not names:
            return np.full((len(query), 1), -np.inf, np.float32), np.full((len(query), 1), -1, np.int64)
        return merged(self._each("neighbours", find, names), min(neighbours, max(1, of_all.listing.snippets)))

    def aligner(self, kind: Kind, documents: Positions | None) -> Aligner:
        of_all = self._merged(kind)
        places: dict[str, NDArray[np.int64]] = of_all.positions
        chosen: dict[str, NDArray[np.int64] | None] = dict.fromkeys(places)
        if documents is not None:
            owner = of_all.owner[documents]
            places = {name: np.flatnonzero(owner == number) for number, name in enumerate(self._parts)}
            chosen = {name: of_all.within[documents[place]] for name, place in places.items()}
        names = [name for name, place in places.items() if len(place)]
        count = len(of_all.listing) if documents is None else len(documents)

        def prepare(name: str) -> Aligner:
            return self._parts[name].aligner(kind, chosen[name])

        aligners = dict(zip(names, self._each("read", prepare, names), strict=True))

        def align(queries: Sequence[Embeddings], settings: Alignment) -> list[Costs]:
            found = self._each("align", lambda name: aligners[name](queries, settings), names)
            costs = np.full((len(queries), count), np.inf, np.float32)
            for name, of_part in zip(names, found, strict=True):
                costs[:, places[name]] = of_part
            return list(costs)

        return align

    def documents(self, kind: Kind, chosen: Sequence[int]) -> list[Document]:
        return self._fetched(kind, chosen, lambda part, within: part.documents(kind, within))

    def sequences(self, kind: Kind, chosen: Sequence[int]) -> list[SnippetSequence]:
        return self._fetched(kind, chosen, lambda part, within: part.sequences(kind, within))

    def load(self, kind: Kind, *, packed: bool, index: bool) -> None:
        self._each("load", lambda name: self._parts[name].load(kind, packed=packed, index=index), self._parts)

    def fell_back(self) -> frozenset[str]:
        return frozenset().union(*(part.fell_back() for part in self._parts.values()))

    def _merged(self, kind: Kind) -> _Merged:
        if kind not in self._kinds:
            self._kinds[kind] = _Merged({name: part.listing(kind) for name, part in self._parts.items()})
        return self._kinds[kind]

    def _fetched(
        self, kind: Kind, chosen: Sequence[int], fetch: Callable[[Shard, Sequence[int]], list[Result]]
    ) -> list[Result]:
        """Returns what the shards of the chosen documents have of them, in the order of `chosen`."""
        of_all, found = self._merged(kind), dict[int, Result]()
        names = list(self._parts)
        owners: dict[str, list[int]] = {}
        for position in chosen:
            owners.setdefault(names[int(of_all.owner[position])], []).append(position)

        def ask(name: str) -> list[Result]:
            return fetch(self._parts[name], [int(of_all.within[position]) for position in owners[name]])

        for name, of_part in zip(owners, self._each("fetch", ask, owners), strict=True):
            found.update(zip(owners[name], of_part, strict=True))
        return [found[position] for position in chosen]

    def _each(self, stage: str, ask: Callable[[str], Result], names: Iterable[str]) -> list[Result]:
        """Returns what each of the shards answers. Raises ShardLostError with the names of all that do not."""
        lost: dict[str, ShardLostError] = {}

        def timed(name: str) -> Result | None:
            started = time.perf_counter()
            try:
                return ask(name)
            except ShardLostError as exc:
                lost[name] = exc
                return None
            finally:
                took_ms, key = (time.perf_counter() - started) * 1000, f"{stage} {name}"
                self._times_ms[key] = self._times_ms.get(key, 0.0) + took_ms

        found = list(self._run(timed, list(names)))
        if lost:
            raise ShardLostError(frozenset(lost), "; ".join(str(exc) for exc in lost.values()))
        return found
