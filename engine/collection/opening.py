"""A collection is opened, and its writer, whether it lies in one folder or in shards."""

from pathlib import Path

from engine.collection.interface import AnyWriter
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
