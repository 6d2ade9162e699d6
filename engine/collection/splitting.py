"""A collection is written anew in shards, or in another number of shards, while others use it."""

import logging
from pathlib import Path

from engine import files
from engine.collection.opening import open_collection
from engine.collection.reader import Collection
from engine.collection.sharding import ShardMap
from engine.collection.store import Entry
from engine.collection.writer import CollectionWriter
from engine.errors import CollectionError
from engine.values import NetworkIdentity

logger = logging.getLogger(__name__)


def shard(path: Path, into: Path, count: int, *, threads: int = 1) -> ShardMap:
    """Writes the documents of the collection at `path`, plain or sharded, into `count` shards below `into`.

    The new collection appears under its name when it is complete, verified and on disk. Documents keep their numbers,
    and so their order. threads: for building indexes.
    Raises CollectionError if `into` exists and is not an empty folder, or cannot be written; CollectionDamagedError.
    """
    into = into.resolve()
    if into.exists() and not (into.is_dir() and not any(into.iterdir())):
        raise CollectionError(into, "expected a new or an empty folder for the shards; it holds something")
    shards = ShardMap.of(count)
    try:
        with open_collection(path) as source, files.replacing(into, durable=True) as unfinished:
            unfinished.mkdir()
            parts = [source] if isinstance(source, Collection) else list(source.parts.values())
            located = sorted(((entry, part) for part in parts for entry in part.entries), key=lambda one: one[0].number)
            homes = [shards.home(entry.id) for entry, _ in located]
            for name in shards.shards:
                chosen = [one for one, home in zip(located, homes, strict=True) if home == name]
                _write(unfinished / name, chosen, source.network, threads)
                logger.info("%s: %d documents, %d snippets", name, len(chosen), sum(one.snippets for one, _ in chosen))
            shards.write(unfinished)
            with open_collection(unfinished) as written:
                written.check()
    except OSError as exc:
        raise CollectionError(into, f"the shards cannot be written: {exc}") from exc
    return shards


def _write(path: Path, documents: list[tuple[Entry, Collection]], network: NetworkIdentity, threads: int) -> None:
    """Writes one shard. documents: the entry of each document, by rising number, and the collection that has it."""
    with CollectionWriter(path, network, threads=threads) as writer:
        for entry, part in documents:
            writer.skip_to(entry.number)
            writer.put(part.document(entry.id), part.sequence(entry.id), media=part.all_media(entry.id))
        writer.commit()
