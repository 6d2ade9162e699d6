"""A collection is written anew in shards, or in another number of shards, while others use it."""

import logging
from pathlib import Path

from engine import files
from engine.collection.manifest import KINDS
from engine.collection.opening import open_collection
from engine.collection.reader import Collection, rows_among
from engine.collection.sharding import ShardMap
from engine.collection.store import Entry
from engine.collection.writer import CollectionWriter, Indexed
from engine.errors import CollectionError
from engine.neighbours import CellIndex, part
from engine.values import Kind, NetworkIdentity

logger = logging.getLogger(__name__)

Cells = dict[Kind, tuple[CellIndex, list[Entry]]]
"""The index with cells of each kind, and the entries of the documents in it."""


def shard(path: Path, into: Path, count: int, *, threads: int = 1) -> ShardMap:
    """Writes the documents of the collection at `path`, plain or sharded, into `count` shards below `into`.

    The new collection appears under its name when it is complete, verified and on disk. Documents keep their numbers,
    and so their order. Shards of a plain collection keep the cells of its indexes, however few rows of a cell each has,
    so that all together find the neighbours that the plain collection finds. threads: for building indexes.
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
            cells = _cells(source) if isinstance(source, Collection) else {}
            for name in shards.shards:
                chosen = [one for one, home in zip(located, homes, strict=True) if home == name]
                _write(unfinished / name, chosen, source.network, cells, threads)
                logger.info("%s: %d documents, %d snippets", name, len(chosen), sum(one.snippets for one, _ in chosen))
            shards.write(unfinished)
            with open_collection(unfinished) as written:
                written.check()
    except OSError as exc:
        raise CollectionError(into, f"the shards cannot be written: {exc}") from exc
    return shards


def _cells(source: Collection) -> Cells:
    """Returns the index with cells of each kind that has one, and the entries of the documents in it."""
    found = {kind: source.cells(kind) for kind in KINDS}
    return {kind: one for kind, one in found.items() if one is not None}


def _write(
    path: Path, documents: list[tuple[Entry, Collection]], network: NetworkIdentity, cells: Cells, threads: int
) -> None:
    """Writes one shard. documents: the entry of each document, by rising number, and the collection that has it."""
    own = {entry.number for entry, _ in documents}
    with CollectionWriter(path, network, threads=threads) as writer:
        for entry, source in documents:
            writer.skip_to(entry.number)
            writer.put(source.document(entry.id), source.sequence(entry.id), media=source.all_media(entry.id))
        writer.commit(indexes={kind: _part(index, entries, own) for kind, (index, entries) in cells.items()})


def _part(index: CellIndex, entries: list[Entry], own: set[int]) -> Indexed:
    """Returns the part of an index that has a shard's documents.

    entries: of the documents in the whole index. own: numbers of the shard's documents.
    """
    mine = [entry for entry in entries if entry.number in own]
    numbers = frozenset(entry.number for entry in mine)
    return Indexed(index=part(index, rows_among(entries, mine)), numbers=numbers)
