"""The writer of a collection: stages documents one by one, and commits them together as the next generation."""

import contextlib
import fcntl
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType

import numpy as np

from engine import names
from engine.collection import identity
from engine.collection.identity import Status
from engine.collection.manifest import KINDS, LMDB_NAME, LOCK_SUFFIX, NAME, Contents, IndexFile, Manifest
from engine.collection.reader import Collection, added, contents, digest, rows_among
from engine.collection.store import Encoded, Entry, Store, Stored, Transaction, delete, encode, verify
from engine.errors import (
    CollectionDamagedError,
    CollectionError,
    CollectionLockedError,
    DocumentExistsError,
    DocumentMissingError,
)
from engine.neighbours import CellIndex, FaissIndex, build, cell_count, checksum, extend, extendable, load, save
from engine.values import DIMENSION, PLACE_DTYPES, Document, Kind, NetworkIdentity, SnippetSequence

logger = logging.getLogger(__name__)

LOCK_NAME = "writer.lock"
LMDB_FILE = re.compile(rf"(sequences(?:-\d+)?\.lmdb)(?:{LOCK_SUFFIX})?")
"""Name of an LMDB file that a writer made, or of its table of readers; group 1 is the name of the LMDB file."""
MAX_BATCH_BYTES = 16 << 20
"""Total size of staged documents in memory from which the writer writes them to disk."""
MAX_BATCH_S = 1.0
"""Age of the oldest staged document, in seconds, from which the writer writes all staged documents to disk. A killed
process loses at most the documents of one batch."""

MAX_ADDED_SNIPPETS = 1 << 16
"""Largest number of added snippets of a kind with which an old index stays in use. Each search compares the query with
all added snippets."""
MAX_REMOVED_SHARE = 1 / 8
"""Largest share of an index's snippets that may be removed from the collection while the index stays in use. Removed
snippets take places among the nearest neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """An index that a caller has already for documents that are to be committed."""

    index: FaissIndex
    numbers: frozenset[int]
    """Numbers of the documents in the index, whose rows are in the order of these. Others are searched beside it."""


NO_INDEXES: Mapping[Kind, Indexed] = MappingProxyType({})


class CollectionWriter:
    """The only writer of a collection. It makes the collection if there is none. Only one thread may use it.

    Documents that were put are soon on disk, but in no generation before `commit`. They survive the process: if a
    killed writer has stored the content of a document, a later writer does not need to embed the content again.
    """

    def __init__(self, path: Path | str, network: NetworkIdentity, *, threads: int = 1) -> None:
        """Takes the lock, verifies the collection as `Collection.open` does, and removes the leftovers of a crash.

        threads: number of threads that build an index.
        Raises CollectionLockedError if another process is writing to the collection, CollectionError if the directory
        cannot be written to, and the errors of `Collection.open`.
        """
        self.path = Path(path)
        self._threads = threads
        self._pending: dict[int, Encoded] = {}
        self._pending_since = 0.0
        self._next_number = 0
        self._first_new = 0
        self._leftover: dict[str, Entry] = {}
        self._dropped: set[int] = set()
        with contextlib.ExitStack() as opened:
            opened.enter_context(_locked(self.path))
            self._manifest = _opened_or_made(self.path, network)
            self._store = Store.acquire(self.path / self._manifest.lmdb)
            opened.callback(lambda: self._store.release())
            self._store.clear_dead_readers()
            self._read_entries()
            self._collect_garbage()
            self._opened = opened.pop_all()

    @property
    def generation(self) -> int:
        """Returns the number of the current generation."""
        return self._manifest.generation

    @property
    def next_generation(self) -> int:
        """Returns the number that the next commit gives to its generation, unless it is told a higher one."""
        with self._store.reading() as txn:
            return 1 + max(txn.generations())

    @property
    def digest(self) -> str:
        """Returns the digest of the current generation: replicas of a shard have the same."""
        return self._manifest.digest

    @property
    def next_number(self) -> int:
        """Returns the number of the next document that is stored anew."""
        return self._next_number

    @property
    def first_new(self) -> int:
        """Returns the smallest number that a document may have which the next commit adds.

        It is above the numbers of all documents that were ever committed, so numbers keep the order of addition.
        """
        return max(self._first_new, self._manifest.next_number)

    def renew_below(self, number: int) -> None:
        """Has `put` store leftover documents below `number` anew: shards have committed documents above them since."""
        self._first_new = max(self._first_new, number)

    def skip_to(self, number: int) -> None:
        """Leaves out the numbers below `number`, as shards of a collection do, of which no two use the same one."""
        self._next_number = max(self._next_number, number)

    def holds(self, id: str) -> bool:
        """Returns whether the next commit will have a document with this id, if nothing else changes."""
        return self._stored_id(id) in self._working

    def document(self, id: str) -> Document | None:
        """Returns the document with this id that the next commit will have, if nothing else changes; None if none."""
        id = self._stored_id(id)
        return self._read(self._working[id]) if id in self._working else None

    def ids_by_source(self) -> dict[tuple[Kind, str], list[str]]:
        """Returns the ids of the current generation's documents by kind and source, in the order of addition."""
        found: dict[tuple[Kind, str], list[str]] = {}
        with self._store.reading() as txn:
            for entry in self._live:
                found.setdefault((entry.kind, txn.source(entry.number)), []).append(entry.id)
        return found

    def needs_embedding(self, document: Document, *, replace: bool = False, media: bool = False) -> bool:
        """Returns whether `put` needs the snippets of this document, because its content is not stored under its id.

        media: whether its media are wanted, so that content that is stored without media is needed again.
        The call changes nothing. Raises DocumentExistsError if `put` would.
        """
        document = self._named(document)
        self._require_room(document, replace)
        same = self._same_content(document)
        return same is None or (media and not self._read(same).media)

    def put(
        self,
        document: Document,
        sequence: SnippetSequence | None,
        *,
        replace: bool = False,
        default_title: str = "",
        media: Mapping[int, bytes] | None = None,
    ) -> Status:
        """Stages a document for the next commit, and returns whether its id is new or its content or fields changed.

        Fields that the document leaves empty keep their stored values, if it is the same document (`identity`).

        sequence: the snippets of the document; None if the document needs no embedding.
        replace: whether the document may replace another document of the same id.
        default_title: title of a new document that has no title.
        media: pictures of the pages by their numbers, or the sound under 0, to keep with the document.
        Raises DocumentExistsError, which names both documents, if another document has this id and `replace` is False;
        ValueError if the sequence is missing, empty, or not as its dataclass says.
        """
        document = self._named(document)
        self._require_room(document, replace)
        current, same = self.document(document.id), self._same_content(document)
        document = identity.described(document, current, default_title)
        if same is None or (media and not self._read(same).media):
            self._write(document, sequence, media or {})
            return "added" if current is None else "changed"
        stored = self._read(same)
        document = _measured(document, stored)
        if document == stored and not self._too_late(same):
            self._stage(same)
        else:
            self._write(document, self._sequence(same), self._media(same))
        return "added" if current is None else "unchanged" if document == current else "changed"

    def remove(self, id: str) -> None:
        """Leaves a document out of the next commit: that with this id, or that a terminal shows with this id.

        Raises DocumentMissingError if there is none.
        """
        asked, id = id, self._stored_id(id)
        if id not in self._working and id not in self._leftover:
            id = names.shown_as(asked, {**self._working, **self._leftover}) or id
        removed = [entries.pop(id) for entries in (self._working, self._leftover) if id in entries]
        if not removed:
            raise self._missing(asked)
        self._dropped.update(entry.number for entry in removed)

    def flush(self) -> None:
        """Writes staged documents to disk, so that they survive a crash. Raises CollectionError if this fails."""
        if self._pending:
            with self._store.writing() as txn:
                for encoded in self._pending.values():
                    txn.put(encoded)
            self._pending.clear()

    def commit(self, at_least: int = 0, indexes: Mapping[Kind, Indexed] = NO_INDEXES) -> int:
        """Commits all staged and removed documents, and returns the number of the current generation.

        at_least: smallest number of the new generation: replicas of a shard give their generations the same numbers.
        indexes: indexes that the caller has already, by kind. They are written, whatever their size.

        An index file is written again only if too many documents have changed since it was written. Its index is
        rebuilt if it needs more or fewer cells.
        Raises CollectionError if a file cannot be written; then the old generation stays the current one.
        """
        self.flush()
        entries = sorted(self._working.values(), key=lambda entry: entry.number)
        if entries != self._live:
            self._commit(entries, rebuild=False, at_least=at_least, indexes=indexes)
        self._collect_garbage()
        return self.generation

    def build(self) -> int:
        """Commits all staged and removed documents, rewrites all files, and returns the new generation's number.

        Removed documents are then gone from the files, byte by byte: `commit` only frees their place. The LMDB file and
        the indexes are written anew beside the old ones, so this needs the free space for them.
        Raises CollectionError if a file cannot be written, and CollectionDamagedError if a document is damaged; then
        the old generation stays the current one.
        """
        self.flush()
        self._commit(sorted(self._working.values(), key=lambda entry: entry.number), rebuild=True)
        self._collect_garbage()
        return self.generation

    def forget(self) -> None:
        """Deletes the documents that are in no generation, and takes up the numbers after the current one again.

        What a killed writer left is of use only to who adds the same files again. If the disk is full, the documents
        stay in the file, in no generation, until the next commit or the next call deletes them. Until then their
        numbers are not given again: LMDB would keep the old document under the number.
        """
        self._pending.clear()
        self._leftover.clear()
        self._working = {entry.id: entry for entry in self._live}
        with self._store.reading() as txn:
            self._dropped = set(txn.all_numbers()) - {entry.number for entry in self._live}
        try:
            with self._store.writing() as txn:
                for number in self._dropped:
                    txn.delete(number)
        except CollectionError as exc:
            logger.warning("%s: documents of no generation cannot be deleted: %s", self.path, exc)
            return
        self._dropped.clear()
        self._next_number = max([self._manifest.next_number, *(entry.number + 1 for entry in self._live)])

    def close(self) -> None:
        """Writes staged documents to disk without a commit, and releases the lock."""
        with self._opened:
            self.flush()

    def __enter__(self) -> "CollectionWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_entries(self) -> None:
        """Lists the stored documents: those of the current generation, those left over, and those to be deleted.

        Leftover documents were put by a killed writer and are of no generation. Documents of older generations alone,
        which a crash kept from being deleted, are deleted.
        """
        with self._store.reading() as txn:
            numbers = txn.all_numbers()
            self._live = txn.entries(self.generation)
            live = {entry.number for entry in self._live}
            outdated = {n for g in txn.generations() if g < self.generation for n in txn.numbers(g).tolist()} - live
            leftover = [entry for n in numbers if n not in live | outdated if (entry := _sound(txn, n))]
        self._working = {entry.id: entry for entry in self._live}
        self._leftover = {entry.id: entry for entry in leftover}  # the latest, if several have the same id
        self._next_number = max([self._manifest.next_number, *(number + 1 for number in numbers)])
        self._dropped = set(numbers) - live - {entry.number for entry in self._leftover.values()}

    def _stored_id(self, id: str) -> str:
        """Returns the id as the collection has it, or its normal form: ids that differ in composition are the same.

        Collections of older versions may have ids that are not in the normal form.
        """
        return id if id in self._working or id in self._leftover else names.normal(id)

    def _named(self, document: Document) -> Document:
        """Returns the document under the id that the collection has or will have for it."""
        return replace(document, id=self._stored_id(document.id))

    def _require_room(self, document: Document, replace: bool) -> None:
        """Raises DocumentExistsError if another document has the id of `document`, and `replace` is False."""
        current = self.document(document.id)
        if current is not None and not replace and not identity.same_document(current, document):
            raise DocumentExistsError(self.path, identity.conflict(current, document))

    def _same_content(self, document: Document) -> Entry | None:
        """Returns the entry with the content and the id of `document`: committed, staged or left over; None if none."""
        entries = [entries.get(document.id) for entries in (self._working, self._leftover)]
        return next((entry for entry in entries if entry and identity.same_content(entry, document)), None)

    def _too_late(self, entry: Entry) -> bool:
        """Returns whether documents were committed since a leftover document got its number.

        Under its old number it would come before them, and a copy in shards that has them has no place for it.
        """
        return entry.number < self.first_new and self._working.get(entry.id) != entry

    def _read(self, entry: Entry) -> Document:
        """Returns the document of an entry, from memory if it is not on disk yet."""
        if entry.number in self._pending:
            return self._pending[entry.number].document
        with self._store.reading() as txn:
            return txn.document(entry.number)

    def _sequence(self, entry: Entry) -> SnippetSequence:
        """Returns the snippets of an entry."""
        self.flush()
        with self._store.reading() as txn:
            return txn.sequence(entry)

    def _media(self, entry: Entry) -> dict[int, bytes]:
        """Returns the media of an entry."""
        self.flush()
        with self._store.reading() as txn:
            return {item: txn.media(entry.number, item) or b"" for item in txn.media_items(entry.number)}

    def _write(self, document: Document, sequence: SnippetSequence | None, media: Mapping[int, bytes]) -> None:
        """Stages a document under a new number, and flushes the batch if it is large or old enough."""
        if sequence is None:
            raise ValueError(f"{document.id}: expected the snippets of content that is not stored yet, got None")
        _check(document, sequence)
        encoded = encode(self._next_number, replace(document, snippets=len(sequence)), sequence, media)
        self._next_number += 1
        if not self._pending:
            self._pending_since = time.monotonic()
        self._pending[encoded.entry.number] = encoded
        self._stage(encoded.entry)
        size = sum(pending.size for pending in self._pending.values())
        if size >= MAX_BATCH_BYTES or time.monotonic() - self._pending_since >= MAX_BATCH_S:
            self.flush()

    def _stage(self, entry: Entry) -> None:
        """Puts `entry` in the next commit, in place of other entries with its id."""
        for entries in (self._working, self._leftover):
            old = entries.pop(entry.id, entry)
            if old != entry:
                self._dropped.add(old.number)
        self._working[entry.id] = entry

    def _commit(
        self,
        entries: list[Entry],
        *,
        rebuild: bool,
        at_least: int = 0,
        indexes: Mapping[Kind, Indexed] = NO_INDEXES,
    ) -> None:
        """Commits a generation with these documents, and logs the time. rebuild: whether to rewrite all files."""
        started = time.monotonic()
        try:
            self._make_generation(entries, rebuild, at_least, indexes)
        except OSError as exc:
            raise CollectionError(self.path, f"the new generation cannot be written: {exc}") from exc
        message = "%s: generation %d with %d documents committed in %.1f s"
        logger.info(message, self.path, self.generation, len(entries), time.monotonic() - started)

    def _make_generation(
        self, entries: list[Entry], rebuild: bool, at_least: int, indexes: Mapping[Kind, Indexed]
    ) -> None:
        """Writes a generation with these documents. The last step, the rename of the manifest, makes it current."""
        with self._store.writing() as txn:
            # Numbers of failed commits are not used again: a commit may have renamed the manifest and then failed to
            # confirm it. The files of such a generation must not be overwritten.
            generation = max(at_least, 1 + max(txn.generations()))
            if indexes:  # they are of an older generation, which has only their documents
                numbers = frozenset[int]().union(*(indexed.numbers for indexed in indexes.values()))
                txn.put_generation(generation, [entry for entry in entries if entry.number in numbers])
                generation += 1
            txn.put_generation(generation, entries)
        kinds = {
            kind: self._given(kind, entries, indexes[kind].index, generation - 1)
            if kind in indexes
            else self._contents(kind, entries, generation, rebuild)
            for kind in KINDS
        }
        store = self._rewritten(generation, entries) if rebuild else Store.acquire(self._store.path)
        with contextlib.ExitStack() as opened:
            opened.callback(store.release)
            manifest = replace(
                self._manifest,
                generation=generation,
                kinds=kinds,
                digest=digest(entries),
                next_number=self._next_number,
                lmdb=store.path.name,
                lmdb_size=store.path.stat().st_size,
                media=_keeps_media(store),
            )
            manifest.write(self.path)
            self._manifest = manifest
            opened.pop_all()
            self._store.release()
            self._store = store
        self._dropped |= {entry.number for entry in self._live} - {entry.number for entry in entries}
        self._live = entries

    def _rewritten(self, generation: int, entries: list[Entry]) -> Store:
        """Returns a new LMDB file with the documents of this generation and those left over, and nothing else."""
        path = self.path / f"{Path(LMDB_NAME).stem}-{generation:06d}.lmdb"
        delete(path)  # a killed writer left it
        with contextlib.ExitStack() as failed:
            failed.callback(delete, path)
            store = Store.acquire(path, create=True)
            failed.callback(store.release)
            with self._store.reading() as txn:
                store.copy(txn, [*entries, *self._leftover.values()], {generation: entries})
            failed.pop_all()
        return store

    def _contents(self, kind: Kind, entries: list[Entry], generation: int, rebuild: bool) -> Contents:
        """Returns the new generation's contents of one kind, with its index file.

        A new index file is written unless the current one can still serve. A few snippets need no index file, because a
        search compares them all.
        """
        chosen = [entry for entry in entries if entry.kind == kind]
        part, old_file = contents(chosen), self._manifest.kinds[kind].index
        index: FaissIndex | None = None
        with self._store.reading() as txn:
            if old_file is not None and not rebuild:
                old = txn.entries(old_file.generation, kind)
                if _can_serve(old, chosen):
                    return replace(part, index=old_file)
                index = self._extended(old_file, old, chosen, txn)
            if index is None and cell_count(part.snippets) == 0:
                return part
            index = index or build(Stored(txn, chosen, threading.RLock()), threads=self._threads)
        return self._given(kind, entries, index, generation)

    def _given(self, kind: Kind, entries: list[Entry], index: FaissIndex, generation: int) -> Contents:
        """Returns the contents of one kind with this index, after it was written. generation: that of its documents."""
        name = f"{kind}s-{generation:06d}.faiss"
        size, sha256 = save(index, self.path / name)
        file = IndexFile(file=name, size=size, sha256=sha256, generation=generation)
        return replace(contents([entry for entry in entries if entry.kind == kind]), index=file)

    def _extended(
        self, old_file: IndexFile, old: list[Entry], current: list[Entry], txn: Transaction
    ) -> CellIndex | None:
        """Returns an index of the current documents, made from the index file of the old documents.

        Returns None if the old index has too few or too many cells, or is damaged.
        """
        new = Stored(txn, added(old, current), threading.RLock())
        try:
            with (self.path / old_file.file).open("rb") as file:
                if checksum(file) != old_file.sha256:
                    raise ValueError("it does not match its checksum")
                index = load(file)
                if not extendable(index, contents(current).snippets):
                    return None
                return extend(index, rows_among(old, current), new, threads=self._threads)
        except (OSError, ValueError) as exc:
            logger.warning("%s: rebuilding %s: %s", self.path, old_file.file, exc)
            return None

    def _collect_garbage(self) -> None:
        """Deletes the documents and files that the current generation does not need.

        If this fails, the next commit tries again.
        """
        indexes = [part.index for part in self._manifest.kinds.values() if part.index]
        needed = {index.file for index in indexes}
        try:
            with self._store.writing() as txn:
                for generation in set(txn.generations()) - {self.generation, *(index.generation for index in indexes)}:
                    txn.delete_generation(generation)
                for number in self._dropped:
                    txn.delete(number)
            self._dropped.clear()
            for path in self.path.glob("*.faiss"):
                if path.name not in needed:
                    path.unlink()
            for path in sorted(self.path.iterdir()):  # a file before its table of readers
                name = LMDB_FILE.fullmatch(path.name)
                if name and name[1] != self._manifest.lmdb:
                    path.unlink(missing_ok=True)
        except (CollectionError, OSError) as exc:
            message = "%s: generation %d is committed, but old files or documents cannot be deleted: %s"
            logger.warning(message, self.path, self.generation, exc)

    def _missing(self, id: str) -> DocumentMissingError:
        """Returns the error for an id without a document."""
        missing = f"no document '{names.printable(id)}' among the {len(self._live)} there are"
        return DocumentMissingError(self.path, missing)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Locks the directory `path` for one writer during the block, and makes the directory if there is none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / LOCK_NAME).open("a+")
    except OSError as exc:
        raise CollectionError(path, f"expected a directory to write to: {exc}") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CollectionLockedError(path, f"process {holder} is writing to it; wait until it is done") from exc
        with contextlib.suppress(OSError):  # a full disk; the lock is held, and only its error message lacks the number
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def _opened_or_made(path: Path, network: NetworkIdentity) -> Manifest:
    """Returns the manifest of the collection at `path`, after verifying it, or of a new empty collection."""
    if not (path / NAME).exists() and {file.name for file in path.glob("*.lmdb")} <= {LMDB_NAME}:
        _make(path, network)
    with Collection.open(path, network) as collection:
        return collection.manifest


def _make(path: Path, network: NetworkIdentity) -> None:
    """Writes the empty generation 0 of a new collection. A collection that has lost its manifest is not changed."""
    lmdb = path / LMDB_NAME
    if lmdb.exists() and lmdb.stat().st_size:
        with lmdb.open("rb") as file:
            verify(lmdb, file.fileno())
    store = Store.acquire(lmdb, create=True)
    try:
        with store.writing() as txn:
            if txn.generations() not in ([], [0]) or txn.all_numbers():
                return
            txn.put_generation(0, [])
        Manifest(
            generation=0,
            network=network,
            kinds={kind: Contents() for kind in KINDS},
            digest=digest([]),
            next_number=0,
            lmdb_size=lmdb.stat().st_size,
        ).write(path)
    finally:
        store.release()


def _keeps_media(store: Store) -> bool:
    """Returns whether an LMDB file holds media, which older versions of the format do not know."""
    with store.reading() as txn:
        return txn.keeps_media()


def _sound(txn: Transaction, number: int) -> Entry | None:
    """Returns the entry of a document of no generation; None, with a warning, if the document is damaged."""
    try:
        entry = txn.entry(number)
        txn.verify(entry)
        return entry
    except CollectionDamagedError as exc:
        logger.warning("%s; the document was never committed and will be deleted", exc)
        return None


def _can_serve(old: list[Entry], current: list[Entry]) -> bool:
    """Returns whether an index of the old documents can still serve the current documents, all of one kind."""
    before, after = set(old), set(current)
    new, removed = (sum(entry.snippets for entry in entries) for entries in (after - before, before - after))
    return new <= MAX_ADDED_SNIPPETS and removed <= MAX_REMOVED_SHARE * sum(entry.snippets for entry in old)


def _measured(document: Document, stored: Document) -> Document:
    """Returns the document with the counts, systems and duration of the stored document, which has the same content."""
    return replace(
        document,
        snippets=stored.snippets,
        pages=stored.pages,
        systems=stored.systems,
        duration_s=stored.duration_s,
        media=stored.media,
    )


def _check(document: Document, sequence: SnippetSequence) -> None:
    """Raises ValueError if the document has no id, or the sequence is empty or has wrong dtypes, shapes or values."""
    n = len(sequence)
    embeddings, places, bias = sequence.embeddings, sequence.places, sequence.bias
    if not document.id:
        raise ValueError("expected a document with an id, got an empty one")
    if n == 0:
        raise ValueError(f"{document.id}: expected at least one snippet, got none")
    if embeddings.dtype != np.float32 or embeddings.shape != (n, DIMENSION) or not np.isfinite(embeddings).all():
        got = f"{embeddings.dtype} {embeddings.shape}"
        raise ValueError(f"{document.id}: embeddings must be finite float32 (n, {DIMENSION}), got {got}")
    if places.dtype != PLACE_DTYPES[document.kind] or places.shape != (n,):
        raise ValueError(f"{document.id}: places must be {n} of a {document.kind}, got {places.dtype} {places.shape}")
    if bias.dtype != np.float32 or bias.shape != (n,) or not np.isfinite(bias).all():
        raise ValueError(f"{document.id}: bias must be finite float32 ({n},), got {bias.dtype} {bias.shape}")
