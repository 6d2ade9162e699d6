"""The writing side of a collection: documents are staged as they come, and a commit puts them in force together."""

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from engine.collection import identity
from engine.collection.identity import Status
from engine.collection.manifest import KINDS, LMDB_NAME, NAME, Contents, IndexFile, Manifest
from engine.collection.reader import Collection, added, contents, digest, starts_among
from engine.collection.store import Encoded, Entry, Store, Stored, Transaction, encode, verify
from engine.errors import (
    CollectionDamagedError,
    CollectionError,
    CollectionLockedError,
    DocumentExistsError,
    DocumentMissingError,
)
from engine.neighbours import CellIndex, FlatIndex, build, cell_count, checksum, extend, extendable, load, save
from engine.values import DIMENSION, PLACE_DTYPES, Document, Kind, NetworkIdentity, SnippetSequence

logger = logging.getLogger(__name__)

LOCK_NAME = "writer.lock"
BATCH_BYTES = 16 << 20
BATCH_S = 1.0
"""Staged documents are written when they are this large or old together: what a killed process loses."""


BESIDE_SNIPPETS = 1 << 16
"""New snippets of a kind that are searched beside an index, all of them, before they are put into it ..."""
GONE_SHARE = 1 / 8
"""... and the share of what it holds that may be gone: what is found of these makes room for nothing else."""


class CollectionWriter:
    """The one writer of a collection, which it makes if there is none; for one thread.

    Documents that were put are on disk soon, but in no generation until `commit`. They outlive the process: where a
    killed writer left the content of a document, a later one needs no embedding of it. Else they count for nothing.
    """

    def __init__(self, path: Path | str, network: NetworkIdentity, *, threads: int = 1) -> None:
        """Takes the lock, verifies the collection as `Collection.open` does, and clears what a crash left half done.

        threads: for building the index.
        Raises CollectionLockedError if another writer is at work, CollectionError if the directory cannot be written
        to, and what `Collection.open` raises.
        """
        self.path = Path(path)
        self._threads = threads
        self._pending: dict[int, Encoded] = {}
        self._pending_since = 0.0
        with contextlib.ExitStack() as opened:
            opened.enter_context(_locked(self.path))
            self._manifest = _opened_or_made(self.path, network)
            self._store = Store.acquire(self.path / LMDB_NAME)
            opened.callback(self._store.release)
            self._store.clear_dead_readers()
            self._read_entries()
            self._collect_garbage()
            self._opened = opened.pop_all()

    @property
    def generation(self) -> int:
        """The generation in force."""
        return self._manifest.generation

    def holds(self, id: str) -> bool:
        """Whether the next commit will hold a document of this id, as it stands."""
        return id in self._working

    def document(self, id: str) -> Document | None:
        """The document of this id that the next commit will hold, as it stands; None if there is none."""
        return self._read(self._working[id]) if id in self._working else None

    def needs_embedding(self, document: Document, *, replace: bool = False) -> bool:
        """Whether `put` needs the snippets of this document, because those of its content are not stored under its id.

        A question: nothing is changed by it. Raises DocumentExistsError where `put` would.
        """
        self._require_room(document, replace)
        return self._same_content(document) is None

    def put(
        self, document: Document, sequence: SnippetSequence | None, *, replace: bool = False, default_title: str = ""
    ) -> Status:
        """Has the next commit hold a document; what is said of it is merged with what is held (`identity`).

        sequence: its snippets, which `snippets` of the document will count; None if it needs no embedding.
        replace: let it take the place of another document of the same id.
        default_title: the title of a new document that has none.
        Returns whether the id is new, or what it stands for changed.
        Raises DocumentExistsError, which names both documents, if another one has this id and `replace` is not said;
        ValueError if the sequence is missing, empty, or not as its dataclass says.
        """
        self._require_room(document, replace)
        held, same = self.document(document.id), self._same_content(document)
        document = identity.described(document, held, default_title)
        if same is None:
            self._write(document, sequence)
            return "added" if held is None else "changed"
        stored = self._read(same)
        document = _measured(document, stored)
        if document == stored:
            self._put_in_place(same)
        else:
            self._write(document, self._sequence(same))
        return "added" if held is None else "unchanged" if document == held else "changed"

    def remove(self, id: str) -> None:
        """Leaves a document out of the next commit. Raises DocumentMissingError if there is none of this id."""
        found = [entries.pop(id) for entries in (self._working, self._leftover) if id in entries]
        if not found:
            raise self._missing(id)
        self._dropped.update(entry.number for entry in found)

    def flush(self) -> None:
        """Makes what was staged survive a crash, now. Raises CollectionError if it cannot be written."""
        if self._pending:
            with self._store.writing() as txn:
                for encoded in self._pending.values():
                    txn.put(encoded)
            self._pending.clear()

    def commit(self) -> int:
        """Puts what was staged and removed in force, all or nothing; returns the generation.

        Indexes are written again only if too much has changed since they were, and made anew if they have to have more
        cells or fewer.
        Raises CollectionError if a file cannot be written; then the old generation stays in force.
        """
        self.flush()
        entries = sorted(self._working.values(), key=lambda entry: entry.number)
        if entries != self._live:
            self._put_in_force(entries, fresh=False)
        self._collect_garbage()
        return self.generation

    def build(self) -> int:
        """As `commit`, and makes all indexes anew."""
        self.flush()
        self._put_in_force(sorted(self._working.values(), key=lambda entry: entry.number), fresh=True)
        self._collect_garbage()
        return self.generation

    def close(self) -> None:
        """Writes what was staged, without putting it in force, and gives the lock back."""
        with self._opened:
            self.flush()

    def __enter__(self) -> "CollectionWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_entries(self) -> None:
        """Tells the documents in force from those left over, and both from what a crash left of older generations."""
        with self._store.reading() as txn:
            numbers = txn.all_numbers()
            self._live = txn.entries(self.generation)
            live = {entry.number for entry in self._live}
            outdated = {n for g in txn.generations() if g < self.generation for n in txn.numbers(g).tolist()} - live
            left = [entry for n in numbers if n not in live | outdated if (entry := _sound(txn, n))]
        self._working = {entry.id: entry for entry in self._live}
        self._leftover = {entry.id: entry for entry in left}  # the latest, where there are several of an id
        self._next_number = max([self._manifest.next_number, *(number + 1 for number in numbers)])
        self._dropped = set(numbers) - live - {entry.number for entry in self._leftover.values()}

    def _require_room(self, document: Document, replace: bool) -> None:
        """Raises DocumentExistsError if the id stands for another document, which is not to be replaced."""
        held = self.document(document.id)
        if held is not None and not replace and not identity.same_document(held, document):
            raise DocumentExistsError(self.path, identity.conflict(held, document))

    def _same_content(self, document: Document) -> Entry | None:
        """Where the document's content is stored under its id: in force, staged, or left over by a killed writer."""
        entries = [entries.get(document.id) for entries in (self._working, self._leftover)]
        return next((entry for entry in entries if entry and identity.same_content(entry, document)), None)

    def _read(self, entry: Entry) -> Document:
        if entry.number in self._pending:
            return self._pending[entry.number].document
        with self._store.reading() as txn:
            return txn.document(entry.number)

    def _sequence(self, entry: Entry) -> SnippetSequence:
        self.flush()
        with self._store.reading() as txn:
            return txn.sequence(entry)

    def _write(self, document: Document, sequence: SnippetSequence | None) -> None:
        """Stages a document under a new number."""
        if sequence is None:
            raise ValueError(f"{document.id}: expected the snippets of a content that is not stored yet, got None")
        _check(document, sequence)
        encoded = encode(self._next_number, replace(document, snippets=len(sequence)), sequence)
        self._next_number += 1
        if not self._pending:
            self._pending_since = time.monotonic()
        self._pending[encoded.entry.number] = encoded
        self._put_in_place(encoded.entry)
        size = sum(len(value) for waiting in self._pending.values() for value in waiting.values.values())
        if size >= BATCH_BYTES or time.monotonic() - self._pending_since >= BATCH_S:
            self.flush()

    def _put_in_place(self, entry: Entry) -> None:
        """Has the next commit hold `entry` instead of what there is of its id."""
        for entries in (self._working, self._leftover):
            old = entries.pop(entry.id, entry)
            if old != entry:
                self._dropped.add(old.number)
        self._working[entry.id] = entry

    def _put_in_force(self, entries: list[Entry], *, fresh: bool) -> None:
        """A commit, timed."""
        started = time.monotonic()
        try:
            self._make_generation(entries, fresh)
        except OSError as exc:
            raise CollectionError(self.path, f"no new generation: {exc}") from exc
        message = "%s: generation %d holds %d documents; committed in %.1f s"
        logger.info(message, self.path, self.generation, len(entries), time.monotonic() - started)

    def _make_generation(self, entries: list[Entry], fresh: bool) -> None:
        """The steps of a commit. Until the last one, the rename of the manifest, the old generation is in force."""
        with self._store.writing() as txn:
            # Above those of failed commits too: the files of one whose rename was made but not confirmed stay whole.
            generation = 1 + max(txn.generations())
            txn.put_generation(generation, entries)
        manifest = replace(
            self._manifest,
            generation=generation,
            kinds={kind: self._contents(kind, entries, generation, fresh) for kind in KINDS},
            digest=digest(entries),
            next_number=self._next_number,
            lmdb_size=(self.path / LMDB_NAME).stat().st_size,
        )
        manifest.write(self.path)
        self._manifest = manifest
        self._dropped |= {entry.number for entry in self._live} - {entry.number for entry in entries}
        self._live = entries

    def _contents(self, kind: Kind, entries: list[Entry], generation: int, fresh: bool) -> Contents:
        """What the new generation holds of one kind; writes its index if it has one, and the one in force will not do.

        Fewer snippets are all compared, so they have no index on disk.
        """
        chosen = [entry for entry in entries if entry.kind == kind]
        held, old = contents(chosen), self._manifest.kinds[kind].index
        index: FlatIndex | CellIndex | None = None
        if cell_count(held.snippets) == 0:
            return held
        with self._store.reading() as txn:
            if old is not None and not fresh:
                was = txn.entries(old.generation, kind)
                if _will_do(was, chosen):
                    return replace(held, index=old)
                index = self._extended(old, was, chosen, txn)
            index = index or build(Stored(txn, chosen, threading.RLock()), threads=self._threads)
        name = f"{kind}s-{generation:06d}.faiss"
        size, sha256 = save(index, self.path / name)
        return replace(held, index=IndexFile(file=name, size=size, sha256=sha256, generation=generation))

    def _extended(self, old: IndexFile, was: list[Entry], now: list[Entry], txn: Transaction) -> CellIndex | None:
        """An index of the documents that are, from the file of those that were; None if its cells are too few or too
        many, or if it is damaged."""
        moved = [
            np.full(entry.snippets, -1) if start < 0 else np.arange(start, start + entry.snippets)
            for entry, start in zip(was, starts_among(was, now).tolist(), strict=True)
        ]
        new = Stored(txn, added(was, now), threading.RLock())
        try:
            with (self.path / old.file).open("rb") as file:
                if checksum(file) != old.sha256:
                    raise ValueError("it does not match its checksum")
                index = load(file)
                if not extendable(index, contents(now).snippets):
                    return None
                return extend(index, np.concatenate(moved), new, threads=self._threads)
        except (OSError, ValueError) as exc:
            logger.warning("%s: %s is made anew: %s", self.path, old.file, exc)
            return None

    def _collect_garbage(self) -> None:
        """Removes what the generation in force does not need. What fails is left for the next time."""
        indexes = [held.index for held in self._manifest.kinds.values() if held.index]
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
        except (CollectionError, OSError) as exc:
            logger.warning("%s: generation %d is in force, but garbage stays: %s", self.path, self.generation, exc)

    def _missing(self, id: str) -> DocumentMissingError:
        return DocumentMissingError(self.path, f"no document {id!r} among the {len(self._working)} there are")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the writer's lock of the directory `path`, made if it is not there."""
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
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _opened_or_made(path: Path, network: NetworkIdentity) -> Manifest:
    """The manifest of a collection found sound, or of a new empty one."""
    if not (path / NAME).exists():
        _make(path, network)
    with Collection.open(path, network) as collection:
        return collection.manifest


def _make(path: Path, network: NetworkIdentity) -> None:
    """Makes generation 0, which is empty; leaves alone a collection that has lost its manifest."""
    lmdb = path / LMDB_NAME
    if lmdb.exists() and lmdb.stat().st_size:
        verify(lmdb)
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


def _sound(txn: Transaction, number: int) -> Entry | None:
    """A document of no generation, if it is whole."""
    try:
        entry = txn.entry(number)
        txn.verify(entry)
        return entry
    except CollectionDamagedError as exc:
        logger.warning("%s; it was never committed and is dropped", exc)
        return None


def _will_do(was: list[Entry], now: list[Entry]) -> bool:
    """Whether an index of the documents that were will do for those that are, all of one kind."""
    before, after = set(was), set(now)
    new, gone = (sum(entry.snippets for entry in some) for some in (after - before, before - after))
    return new <= BESIDE_SNIPPETS and gone <= GONE_SHARE * sum(entry.snippets for entry in was)


def _measured(document: Document, stored: Document) -> Document:
    """The document with what its content was found to hold, as it was stored."""
    return replace(
        document,
        snippets=stored.snippets,
        pages=stored.pages,
        systems=stored.systems,
        duration_s=stored.duration_s,
    )


def _check(document: Document, sequence: SnippetSequence) -> None:
    """Raises ValueError if these are not a document and its snippets."""
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
