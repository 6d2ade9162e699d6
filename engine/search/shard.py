"""The work of a search that is done beside the data: neighbours are found there, documents are aligned and read.

A `Searcher` plans, votes, ranks and judges. It asks a `Shard` for everything that grows with the collection. A shard is
a whole collection (`CollectionShard`), several shards that answer as one (`engine.search.shards`), or one that lies on
another machine (`cluster.client`). Documents are named by their *positions* in the order of addition, and snippets by
their rows in that order. So votes, shortlists and confidences come from the whole collection, however many shards it
has.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Backend
from engine.collection import Collection
from engine.config import Alignment, FrontEnd
from engine.errors import ShardLostError
from engine.neighbours import Neighbours, cell_count, nearest
from engine.values import DIMENSION, Document, Embeddings, Kind, Packed, SnippetSequence, UnseenShard

Positions = NDArray[np.int64]
"""Positions of documents of one kind in the order of addition, (k,)."""
Costs = NDArray[np.float32]
"""Cost of each of some documents, (k,); infinity where there is no alignment."""
Aligner = Callable[[Sequence[Embeddings], Alignment], list[Costs]]
"""Aligns each of several queries with chosen documents, and returns the costs of these documents for each query."""


MIN_PROBES = 16
"""Smallest number of cells that a shard searches for each query snippet."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a searcher knows of all documents of one kind. No document is read for it."""

    ids: tuple[str, ...]
    """Ids of the documents, in the order of addition."""
    numbers: NDArray[np.int64]
    """Numbers under which the documents are stored, (documents,), rising; no two shards of a collection share one."""
    lengths: NDArray[np.int64]
    """Number of snippets of each document, (documents,)."""

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Returns the first row of each document, and the number of rows, (documents + 1,)."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths, dtype=np.int64)])

    @functools.cached_property
    def id_ranks(self) -> NDArray[np.int64]:
        """Returns the rank of each document's id in alphabetical order, (documents,); it decides ties."""
        return np.argsort(np.argsort(np.array(self.ids, dtype=object)))

    @property
    def snippets(self) -> int:
        """Returns the number of snippets of all documents."""
        return int(self.offsets[-1])


@runtime_checkable
class Shard(Protocol):
    """A part of a collection, or all of it, with the work that is done beside its data."""

    @property
    def front_end(self) -> FrontEnd:
        """Returns the front end of the network that embedded the documents."""

    @property
    def times_ms(self) -> dict[str, float]:
        """Returns how long each shard has worked in this visit, in ms, by stage; empty for a collection in one."""

    @property
    def unseen(self) -> tuple[UnseenShard, ...]:
        """Returns the shards that do not answer; the documents here are those of the others."""

    def visit(self) -> "Shard":
        """Returns the shard for one batch of queries: it keeps its generation and measures its own `times_ms`."""

    def without(self, lost: frozenset[str]) -> "Shard":
        """Returns the shard without those parts. Raises ShardLostError if no part is left."""

    def count(self, kind: Kind) -> int:
        """Returns the number of documents of a kind, also if the shard does not answer any more."""

    def listing(self, kind: Kind) -> Listing:
        """Returns what is known of all documents of a kind, listed once and kept."""

    def nearest(self, kind: Kind, query: Embeddings, neighbours: int, probes: int, cells: int) -> Neighbours:
        """Returns the nearest rows of each query snippet, see `engine.neighbours.nearest`.

        probes: number of cells searched of an index of all documents, which has so many `cells`. A shard that has fewer
            cells searches fewer.
        """

    def aligner(self, kind: Kind, documents: Positions | None) -> Aligner:
        """Returns the function that aligns queries with these documents, read from disk; None: with all, in memory."""

    def documents(self, kind: Kind, chosen: Sequence[int]) -> list[Document]:
        """Returns the documents at these positions."""

    def sequences(self, kind: Kind, chosen: Sequence[int]) -> list[SnippetSequence]:
        """Returns the snippets of the documents at these positions."""

    def load(self, kind: Kind, *, packed: bool, index: bool) -> None:
        """Loads what queries need, so that the first one does not wait for it.

        packed: whether all snippets are kept in memory. index: whether neighbours are searched.
        """

    def fell_back(self) -> frozenset[str]:
        """Returns which parts of the work the CPU does because a GPU has failed: `alignment`, `neighbours`."""


class ShardDocuments:
    """The documents of one kind in a shard (`engine.values.Documents`)."""

    def __init__(self, shard: Shard, kind: Kind) -> None:
        self._shard = shard
        self._kind = kind

    @property
    def offsets(self) -> NDArray[np.int64]:
        return self._shard.listing(self._kind).offsets

    def take(self, documents: Positions) -> Packed:
        """Returns the chosen documents in memory, in the order of `documents`: int64 (k,)."""
        sequences = self._shard.sequences(self._kind, documents.tolist())
        lengths = np.array([len(one) for one in sequences], dtype=np.int64)
        return Packed(
            embeddings=np.concatenate([np.empty((0, DIMENSION), np.float32), *(one.embeddings for one in sequences)]),
            bias=np.concatenate([np.empty(0, np.float32), *(one.bias for one in sequences)]),
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        )


class ShardIndex:
    """The documents of one kind in a shard, as an index in which votes are looked up (`engine.neighbours.Index`)."""

    concurrent = False
    """The shard shares a search among its own threads."""
    fell_back = False

    def __init__(self, shard: Shard, kind: Kind) -> None:
        self._shard = shard
        self._kind = kind

    @property
    def ntotal(self) -> int:
        return self._shard.listing(self._kind).snippets

    @property
    def cells(self) -> int:
        return cell_count(self.ntotal)

    def search(self, query: Embeddings, k: int, probes: int) -> Neighbours:
        return self._shard.nearest(self._kind, query, k, probes, self.cells)

    def describe(self) -> str:
        return "the indexes of shards"


class CollectionShard:
    """A collection that this process has open, as a shard. Any number of threads may use it at the same time."""

    unseen: tuple[UnseenShard, ...] = ()

    def __init__(self, collection: Collection, backend: Backend, threads: int) -> None:
        """threads: number of threads that search for neighbours."""
        self._collection = collection
        self._backend = backend
        self._threads = threads
        self._listings: dict[Kind, Listing] = {}

    @property
    def front_end(self) -> FrontEnd:
        return self._collection.network.front_end

    @property
    def times_ms(self) -> dict[str, float]:
        return {}

    def visit(self) -> "CollectionShard":
        return self

    def without(self, lost: frozenset[str]) -> "CollectionShard":
        raise ShardLostError(lost, "there is no other shard")

    def count(self, kind: Kind) -> int:
        return self._collection.kinds[kind].documents

    def listing(self, kind: Kind) -> Listing:
        if kind not in self._listings:
            entries = self._collection.entries_of(kind)
            self._listings[kind] = Listing(
                ids=tuple(entry.id for entry in entries),
                numbers=np.array([entry.number for entry in entries], dtype=np.int64),
                lengths=np.array([entry.snippets for entry in entries], dtype=np.int64),
            )
        return self._listings[kind]

    def nearest(self, kind: Kind, query: Embeddings, neighbours: int, probes: int, cells: int) -> Neighbours:
        index = self._collection.index(kind)
        if 0 < index.cells < cells:
            probes = min(probes, max(MIN_PROBES, math.ceil(probes * index.cells / cells)))
        return nearest(index, query, neighbours, threads=self._threads, probes=probes)

    def aligner(self, kind: Kind, documents: Positions | None) -> Aligner:
        collection = self._collection
        packed = collection.packed(kind) if documents is None else collection.stored(kind).take(documents)

        def align(queries: Sequence[Embeddings], settings: Alignment) -> list[Costs]:
            return [found.costs for found in self._backend.align_many(queries, packed, settings)]

        return align

    def documents(self, kind: Kind, chosen: Sequence[int]) -> list[Document]:
        return [self._collection.document(id) for id in self._ids(kind, chosen)]

    def sequences(self, kind: Kind, chosen: Sequence[int]) -> list[SnippetSequence]:
        return [self._collection.sequence(id) for id in self._ids(kind, chosen)]

    def load(self, kind: Kind, *, packed: bool, index: bool) -> None:
        if packed:
            self._collection.packed(kind)
        if index:
            self._collection.index(kind)

    def fell_back(self) -> frozenset[str]:
        indexes = any(index.fell_back for index in self._collection.indexes())
        parts = {"alignment": self._backend.fell_back(), "neighbours": indexes}
        return frozenset(part for part, failed in parts.items() if failed)

    def _ids(self, kind: Kind, chosen: Sequence[int]) -> Iterable[str]:
        ids = self.listing(kind).ids
        return (ids[position] for position in chosen)
