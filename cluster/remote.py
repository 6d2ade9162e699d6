"""A shard on other machines, and a collection of such shards."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from cluster.group import ReplicaGroup
from engine.collection.manifest import KINDS, Contents, Manifest, added_up
from engine.collection.reader import Checked
from engine.collection.sharding import ShardMap
from engine.config import Alignment, FrontEnd
from engine.errors import CollectionError, ShardLostError
from engine.neighbours import Neighbours
from engine.search.shard import Aligner, Costs, Listing, Positions
from engine.search.shards import Shards
from engine.values import Document, Embeddings, Kind, NetworkIdentity, SnippetSequence, UnseenShard

LOAD_S = 600.0
"""Time for a replica to load what queries need, or to verify itself."""


class RemoteShard:
    """A shard whose replicas are asked (`engine.search.shard.Shard`)."""

    times_ms: dict[str, float] = {}  # noqa: RUF012 (`Shards` measures)
    unseen: tuple[UnseenShard, ...] = ()

    def __init__(self, group: ReplicaGroup, manifest: Manifest) -> None:
        self.group = group
        self.manifest = manifest
        self._listings: dict[Kind, Listing] = {}

    @property
    def front_end(self) -> FrontEnd:
        return self.manifest.network.front_end

    def visit(self) -> "RemoteShard":
        return self

    def without(self, lost: frozenset[str]) -> "RemoteShard":
        raise ShardLostError(lost, "there is no other shard")

    def count(self, kind: Kind) -> int:
        return self.manifest.kinds[kind].documents

    def listing(self, kind: Kind) -> Listing:
        if kind not in self._listings:
            self._listings[kind] = self.group.ask("search", "listing", kind, timeout_s=LOAD_S)
        return self._listings[kind]

    def nearest(self, kind: Kind, query: Embeddings, neighbours: int, probes: int, cells: int) -> Neighbours:
        found: Neighbours = self.group.ask("search", "nearest", kind, query, neighbours, probes, cells)
        return found

    def aligner(self, kind: Kind, documents: Positions | None) -> Aligner:
        def align(queries: Sequence[Embeddings], settings: Alignment) -> list[Costs]:
            found: list[Costs] = self.group.ask("costs", kind, documents, list(queries), settings)
            return found

        return align

    def documents(self, kind: Kind, chosen: Sequence[int]) -> list[Document]:
        found: list[Document] = self.group.ask("search", "documents", kind, list(chosen))
        return found

    def sequences(self, kind: Kind, chosen: Sequence[int]) -> list[SnippetSequence]:
        return [_copied(one) for one in self.group.ask("search", "sequences", kind, list(chosen))]

    def load(self, kind: Kind, *, packed: bool, index: bool) -> None:
        self.group.ask("load", kind, packed, index, timeout_s=LOAD_S)

    def fell_back(self) -> frozenset[str]:
        parts: frozenset[str] = self.group.ask("search", "fell_back")
        return parts


class ClusterCollection:
    """A collection whose shards lie on other machines (`engine.collection.AnyCollection`)."""

    def __init__(self, path: Path, map: ShardMap, shards: Mapping[str, RemoteShard], network: NetworkIdentity) -> None:
        """shards: those that answer, by name. Raises NetworkMismatchError if another network embedded one of them."""
        for shard in shards.values():
            shard.manifest.require(network, path)
        self.path = path
        self._map = map
        self._shards = shards
        self._pool = ThreadPoolExecutor(max(1, len(shards)), thread_name_prefix="shards")
        gone = tuple(UnseenShard(name=name, documents={}) for name in map.shards if name not in shards)
        self.shard = Shards(shards, self._pool.map, gone)
        """The shards that answer, for a searcher."""

    @property
    def generation(self) -> int:
        """Returns the sum of the shards' generations."""
        return sum(shard.manifest.generation for shard in self._shards.values())

    @property
    def network(self) -> NetworkIdentity:
        """Returns the network that embedded the documents."""
        return next(iter(self._shards.values())).manifest.network

    @property
    def kinds(self) -> dict[Kind, Contents]:
        """Returns the numbers of documents and snippets by kind."""
        return added_up([shard.manifest.kinds for shard in self._shards.values()])

    @property
    def count(self) -> int:
        """Returns the number of documents."""
        return sum(part.documents for part in self.kinds.values())

    @property
    def snippets(self) -> int:
        """Returns the number of snippets of all documents."""
        return sum(part.snippets for part in self.kinds.values())

    @functools.cached_property
    def documents(self) -> tuple[Document, ...]:
        """Returns all documents: first the scores, each kind in the order of addition."""
        return tuple(one for kind in KINDS for one in self.shard.documents(kind, range(len(self.shard.listing(kind)))))

    def summaries(self) -> tuple[Document, ...]:
        """Returns all documents without their systems, shard after shard."""
        asked = self._pool.map(lambda one: one.group.ask("read", "summaries", timeout_s=LOAD_S), self._shards.values())
        return tuple(document for of_shard in asked for document in of_shard)

    def ids(self, kind: Kind) -> tuple[str, ...]:
        """Returns the ids of the documents of one kind, in the order of addition."""
        return self.shard.listing(kind).ids

    def document(self, id: str) -> Document:
        """Returns the document with this id. Raises DocumentMissingError, or ShardLostError."""
        found: Document = self._ask(id, "document", id)
        return found

    def sequence(self, id: str) -> SnippetSequence:
        """Returns a copy of a document's snippets. Raises DocumentMissingError, or ShardLostError."""
        return _copied(self._ask(id, "sequence", id))

    def media(self, id: str, item: int) -> bytes | None:
        """Returns a picture or the sound of a document, as it is kept; None if it is not kept."""
        found: bytes | None = self._ask(id, "media", id, item)
        return found

    @property
    def keeps_media(self) -> bool:
        """Returns whether pictures or sound are kept of any document."""
        return any(self._pool.map(lambda one: one.group.ask("read", "keeps_media"), self._shards.values()))

    def check(self, between: Callable[[], None] = lambda: None) -> Checked:
        """Verifies one replica of each shard where it lies. Raises CollectionDamagedError."""
        checked = {name: one.group.ask("read", "check", timeout_s=LOAD_S) for name, one in self._shards.items()}
        return Checked(
            sizes={f"{name}/{file}": size for name, one in checked.items() for file, size in one.sizes.items()},
            unused=tuple(f"{name}/{file}" for name, one in checked.items() for file in one.unused),
        )

    def copy(self, folder: Path) -> None:
        """Raises CollectionError: a shard is backed up on its machine."""
        raise CollectionError(self.path, "shards on other machines are backed up there, each by `scorefind backup`")

    def clear_dead_readers(self) -> None:
        """Frees the generations on disk that killed readers still hold."""
        for shard in self._shards.values():
            shard.group.ask("read", "clear_dead_readers")

    def close(self) -> None:
        """Ends the threads that ask."""
        self._pool.shutdown()

    def __enter__(self) -> "ClusterCollection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, id: str, name: str, *arguments: Any) -> Any:
        home = self._map.home(id)
        if home not in self._shards:
            raise CollectionError(self.path, f"{home}, which may have {id!r}, does not answer")
        return self._shards[home].group.ask("read", name, *arguments)


def _copied(sequence: SnippetSequence) -> SnippetSequence:
    """Returns a sequence whose arrays can be written to, as numba expects; those that Ray hands over cannot."""
    return replace(
        sequence,
        embeddings=np.array(sequence.embeddings),
        places=np.array(sequence.places),
        bias=np.array(sequence.bias),
    )
