"""A collection is written anew in shards, or in another number of shards, while others use it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine import files
from engine.collection.catching_up import Content, catch_up
from engine.collection.manifest import KINDS, Manifest
from engine.collection.opening import current_generation, open_collection
from engine.collection.reader import Collection, digest, rows_among
from engine.collection.sharded import ShardedCollection
from engine.collection.sharding import ShardMap, is_sharded
from engine.collection.store import Entry
from engine.collection.writer import CollectionWriter, Indexed
from engine.errors import CollectionError
from engine.neighbours import CellIndex, part
from engine.values import Kind, NetworkIdentity

logger = logging.getLogger(__name__)

Cells = dict[Kind, tuple[CellIndex, list[Entry]]]
"""The index with cells of each kind, and the entries of the documents in it."""
Located = list[tuple[Entry, Collection]]
"""Entries of documents, by rising number, and the collection that has each."""


def shard(path: Path, into: Path, count: int, *, threads: int = 1) -> ShardMap:
    """Writes the documents of the collection at `path`, plain or sharded, into `count` shards below `into`.

    The new collection appears under its name when it is complete, verified and on disk. What is added and removed
    meanwhile is taken over, until the source has not changed during the last look. Documents keep their numbers, and so
    their order. Shards of a plain collection keep the cells of its indexes, however few rows of a cell each has, so
    that all together find the neighbours that the plain collection finds. threads: for building indexes.

    If `into` has been written from this collection before and nobody has changed it since, only what has changed in the
    source is taken over.
    Raises CollectionError if `into` holds something else, or cannot be written; CollectionDamagedError.
    """
    into = into.resolve()
    shards = ShardMap.of(count)
    try:
        if is_sharded(into):
            _require_copy(path, into, shards)
            return _following(path, into, shards, threads)
        if into.exists() and not (into.is_dir() and not any(into.iterdir())):
            raise CollectionError(into, "expected a new or an empty folder for the shards; it holds something")
        with files.replacing(into, durable=True) as unfinished:
            unfinished.mkdir()
            with open_collection(path) as source:
                generation = source.generation
                cells = _cells(source) if isinstance(source, Collection) else {}
                for name, chosen in _divided(source, shards).items():
                    _write(unfinished / name, chosen, source.network, cells, threads)
                    snippets = sum(one.snippets for one, _ in chosen)
                    logger.info("%s: %d documents, %d snippets", name, len(chosen), snippets)
            shards.write(unfinished)
            shards = _following(path, unfinished, shards, threads, generation)
            with open_collection(unfinished) as written:
                written.check()
    except OSError as exc:
        raise CollectionError(into, f"the shards cannot be written: {exc}") from exc
    return shards


def _require_copy(path: Path, into: Path, shards: ShardMap) -> None:
    """Raises CollectionError unless the shards `into` were written from the collection at `path`, and not changed."""
    held = ShardMap.read(into)
    if held.shards != shards.shards:
        raise CollectionError(into, f"it has {len(held.shards)} shards; expected a new folder, or {len(shards.shards)}")
    with open_collection(path) as source, open_collection(into) as copy:
        assert isinstance(copy, ShardedCollection)
        for name, one in copy.parts.items():
            if one.manifest.digest not in (held.written.get(name), held.updating.get(name)):
                raise CollectionError(into, f"{name} was changed since it was written; expected a new folder")
        entries = {entry for one in copy.parts.values() for entry in one.entries}
        if entries and entries.isdisjoint(entry for one in _parts(source) for entry in one.entries):
            raise CollectionError(into, f"it has no document of {path}; expected a new folder")


def _following(path: Path, into: Path, shards: ShardMap, threads: int, done: int = -1) -> ShardMap:
    """Takes over what has changed in the collection at `path` until nothing has; returns the map with all digests.

    done: generation of the source that the shards have already.
    """
    while current_generation(path) != done:
        with open_collection(path) as source:
            changed = 0
            divided = _divided(source, shards)
            # Before the first change, so that the next run takes the shards for its own wherever this one is stopped.
            _recorded(into, shards, divided).write(into)
            for name, chosen in divided.items():
                changed += _update(into / name, chosen, source.network, threads)
            done = source.generation
        logger.info("%s: %d changes of generation %d taken over", into, changed, done)
    shards = _recorded(into, shards, {})
    shards.write(into)
    return shards


def _recorded(into: Path, shards: ShardMap, coming: Mapping[str, Located]) -> ShardMap:
    """Returns the map with the digests that the shards have now, and those that they get with the coming documents."""
    written = {name: Manifest.read(into / name).digest for name in shards.shards}
    updating = {name: digest(entry for entry, _ in located) for name, located in coming.items()}
    changed = {name: one for name, one in updating.items() if one != written[name]}
    return ShardMap(shards=shards.shards, written=written, updating=changed)


def _divided(source: Collection | ShardedCollection, shards: ShardMap) -> dict[str, Located]:
    """Returns the documents of each shard."""
    located = sorted(((entry, one) for one in _parts(source) for entry in one.entries), key=lambda one: one[0].number)
    divided: dict[str, Located] = {name: [] for name in shards.shards}
    for entry, holder in located:
        divided[shards.home(entry.id)].append((entry, holder))
    return divided


def _parts(source: Collection | ShardedCollection) -> list[Collection]:
    return [source] if isinstance(source, Collection) else list(source.parts.values())


def _update(path: Path, documents: Located, network: NetworkIdentity, threads: int) -> int:
    """Makes a shard hold exactly these documents, and returns how many it lacked or had too many."""
    owners = {entry.id: owner for entry, owner in documents}

    def fetch(ids: Sequence[str]) -> list[Content]:
        found = [(id, owners[id]) for id in ids]
        return [(owner.document(id), owner.sequence(id), owner.all_media(id)) for id, owner in found]

    with CollectionWriter(path, network, threads=threads) as writer:
        writer.forget()  # what a stopped run left would come under other numbers than in the source
        with Collection.open(path) as held:
            changed = catch_up(writer, held.entries, [entry for entry, _ in documents], fetch)
        writer.commit()
    return changed


def _cells(source: Collection) -> Cells:
    """Returns the index with cells of each kind that has one, and the entries of the documents in it."""
    found = {kind: source.cells(kind) for kind in KINDS}
    return {kind: one for kind, one in found.items() if one is not None}


def _write(path: Path, documents: Located, network: NetworkIdentity, cells: Cells, threads: int) -> None:
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
