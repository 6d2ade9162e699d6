"""Opens a collection and its writer, whether it lies in one folder, in shards, or on other machines."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.collection.interface import AnyCollection, AnyWriter
from engine.collection.manifest import Manifest
from engine.collection.reader import Collection
from engine.collection.sharded import ShardedCollection
from engine.collection.sharded_writer import ShardedWriter
from engine.collection.sharding import ShardMap, is_sharded
from engine.collection.writer import CollectionWriter
from engine.values import NetworkIdentity


def open_collection(path: Path | str, network: NetworkIdentity | None = None) -> Collection | ShardedCollection:
    """Opens the current generation of the collection at `path`, plain or sharded. Errors: see `Collection.open`."""
    path = Path(path)
    if is_sharded(path):
        return ShardedCollection(path, ShardMap.read(path), network)
    return Collection.open(path, network)


def open_writer(path: Path | str, network: NetworkIdentity | None = None, *, threads: int = 1) -> AnyWriter:
    """Opens the writer of the collection at `path`, plain or sharded. Only a plain one is made if there is none.

    network: the network that embeds; None: that of the collection. Errors and threads: see `CollectionWriter`.
    """
    path = Path(path)
    network = network or manifests(path)[0].network
    return (
        ShardedWriter(path, network, threads=threads)
        if is_sharded(path)
        else CollectionWriter(path, network, threads=threads)
    )


def current_generation(path: Path) -> int:
    """Returns the number of the newest generation on disk of the collection at `path`, without opening it."""
    return sum(manifest.generation for manifest in manifests(path))


def manifests(path: Path) -> list[Manifest]:
    """Returns the manifest of each shard of the collection at `path`, or its own. Errors: see `Manifest.read`."""
    if is_sharded(path):
        return [Manifest.read(path / name) for name in ShardMap.read(path).shards]
    return [Manifest.read(path)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardHealth:
    """How many replicas of a shard can answer."""

    name: str
    replicas: int
    """Number of replicas that there have ever been: all of them are needed for changes."""
    answering: int
    """Number of replicas that are up to date and may be asked."""
    passed_over: Mapping[str, int]
    """How often another replica was asked because one failed, by the name of the one that failed."""


class Storage(Protocol):
    """Where a collection lies, for those who open one generation after another."""

    path: Path
    """Folder of the collection, for messages."""
    watch_s: float | None
    """Time between two looks for what others have changed; None: who changes the collection tells."""

    def generation(self) -> int:
        """Returns the number of the newest generation. Raises CollectionError."""

    def health(self) -> tuple[ShardHealth, ...]:
        """Returns the health of the shards that have replicas; none where a collection lies on this machine alone."""

    def open(self, network: NetworkIdentity) -> AnyCollection:
        """Opens the newest generation. Errors: see `Collection.open`."""

    def writer(self, network: NetworkIdentity, threads: int) -> AnyWriter:
        """Opens the writer. Errors: see `CollectionWriter`."""


class Folder:
    """A folder of this machine in which a collection lies, plain or sharded."""

    watch_s: float | None = None

    def __init__(self, path: Path) -> None:
        self.path = path

    def generation(self) -> int:
        return current_generation(self.path)

    def health(self) -> tuple[ShardHealth, ...]:
        return ()

    def open(self, network: NetworkIdentity) -> AnyCollection:
        return open_collection(self.path, network)

    def writer(self, network: NetworkIdentity, threads: int) -> AnyWriter:
        return open_writer(self.path, network, threads=threads)


def storage_of(place: Path | Storage) -> Storage:
    """Returns the storage at a path; a storage is returned itself."""
    return Folder(place) if isinstance(place, Path) else place
