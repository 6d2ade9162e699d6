"""A collection as a reader sees it: one generation, kept whatever a writer does meanwhile."""

import contextlib
import functools
import hashlib
import logging
import threading
from collections.abc import Iterable
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from engine.collection import store
from engine.collection.manifest import KINDS, LMDB_NAME, Contents, IndexFile, Manifest
from engine.collection.store import Entry, Store, Stored
from engine.errors import CollectionDamagedError, DocumentMissingError
from engine.neighbours import (
    AmendedIndex,
    CellIndex,
    FlatIndex,
    Index,
    Segment,
    build,
    cell_count,
    checksum,
    load,
    on_gpu,
)
from engine.values import Document, Kind, NetworkIdentity, Packed, SnippetSequence

logger = logging.getLogger(__name__)

DOCUMENTS_KEPT = 1000
"""Documents that are not decoded anew when they are asked for again: a score of forty systems takes half a
millisecond."""
VERIFY_BYTES = 256 << 20
"""A collection up to this size is verified whole when it is opened; a larger one by `check` alone."""


class Collection:
    """A generation of a collection, open for reading. Threads may share it; a forked process may not use it."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Use `Collection.open`."""
        self.path = path
        self.manifest = manifest
        self._lock = threading.RLock()
        self._index_files: dict[Kind, BufferedIOBase] = {}
        self._packed: dict[Kind, Packed] = {}
        self._indexes: dict[Kind, Index] = {}
        with contextlib.ExitStack() as opened:
            self._open_index_files(opened)
            small = self._lmdb_size() + sum(self._index_size(kind) for kind in KINDS) <= VERIFY_BYTES
            if small:
                store.verify(path / LMDB_NAME)
            shared = Store.acquire(path / LMDB_NAME)
            opened.callback(shared.release)
            self._txn = shared.begin()
            opened.callback(self._txn.abort)
            self._document = functools.lru_cache(DOCUMENTS_KEPT)(self._txn.document)
            self.entries: tuple[Entry, ...] = tuple(self._txn.entries(manifest.generation))
            """What there is to know of its documents without reading them, in the order they were added."""
            if small:
                self._verify_contents()
            self._opened = opened.pop_all()

    @classmethod
    def open(cls, path: Path | str, network: NetworkIdentity | None = None) -> "Collection":
        """The generation of the collection at `path` that is in force now.

        network: what embeds the queries; None leaves it unchecked, for those who only look.
        Raises CollectionMissingError, CollectionVersionError, CollectionDamagedError or NetworkMismatchError.
        """
        path = Path(path)
        manifest = Manifest.read(path)
        while True:
            if network is not None:
                manifest.require(network, path)
            try:
                return cls(path, manifest)
            except CollectionDamagedError:
                # A writer may have put the next generation in force and removed this one meanwhile.
                newer = Manifest.read(path)
                if newer.generation == manifest.generation:
                    raise
                manifest = newer

    @property
    def generation(self) -> int:
        return self.manifest.generation

    @property
    def network(self) -> NetworkIdentity:
        """What its embeddings were made with."""
        return self.manifest.network

    @property
    def count(self) -> int:
        """Of its documents, none of which is read."""
        return sum(held.documents for held in self.manifest.kinds.values())

    @property
    def snippets(self) -> int:
        return sum(held.snippets for held in self.manifest.kinds.values())

    @functools.cached_property
    def documents(self) -> tuple[Document, ...]:
        """All documents, in the order they were added; each is read, which takes seconds for a hundred thousand."""
        with self._lock:
            return tuple(self._txn.document(entry.number) for entry in self.entries)

    def of_kind(self, kind: Kind) -> tuple[Document, ...]:
        """The documents of one kind; document b is the b-th of `packed(kind)`."""
        return tuple(document for document in self.documents if document.kind == kind)

    def ids(self, kind: Kind) -> tuple[str, ...]:
        """The ids of the documents of one kind, in the order of `packed(kind)`."""
        return tuple(entry.id for entry in self._entries_of(kind))

    def document(self, id: str) -> Document:
        """Raises DocumentMissingError if there is none of this id."""
        with self._lock:
            return self._document(self._entry(id).number)

    def sequence(self, id: str) -> SnippetSequence:
        """The snippets of a document, its embeddings rounded to float16; a copy.

        Raises DocumentMissingError if there is none of this id.
        """
        with self._lock:
            return self._txn.sequence(self._entry(id))

    def packed(self, kind: Kind) -> Packed:
        """The snippets of all documents of a kind, embeddings as float16; read once and kept."""
        with self._lock:
            if kind not in self._packed:
                self._packed[kind] = self._txn.packed(self._entries_of(kind))
            return self._packed[kind]

    def stored(self, kind: Kind) -> Stored:
        """The same snippets, left on disk."""
        return Stored(self._txn, self._entries_of(kind), self._lock)

    def index(self, kind: Kind) -> Index:
        """The index whose row i is snippet i of `packed(kind)`, on a GPU where that pays; made or mapped once and kept.

        It holds few documents' snippets as they are. Of many there is a file, which may be older than this generation:
        what has come since is searched beside it.
        """
        with self._lock:
            if kind not in self._indexes:
                held = self.manifest.kinds[kind].index
                if held is None:
                    if cell_count(self.manifest.kinds[kind].snippets) > 0:
                        message = "%s has no index of its %ss on disk, so one is made now; `scorefind build` keeps one"
                        logger.warning(message, self.path, kind)
                    self._indexes[kind] = on_gpu(build(self.packed(kind), threads=1))
                else:
                    self._indexes[kind] = self._amended(kind, held)
            return self._indexes[kind]

    def check(self) -> None:
        """Verifies every checksum and count, however large the collection.

        Raises CollectionDamagedError naming the first fault.
        """
        self._lmdb_size()
        store.verify(self.path / LMDB_NAME)
        with self._lock:
            self._verify_contents()
            for kind, held in self.manifest.kinds.items():
                if held.index is not None:
                    self._load_index(kind, held.index, self._txn.entries(held.index.generation, kind))

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> "Collection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @functools.cached_property
    def _entry_of(self) -> dict[str, Entry]:
        return {entry.id: entry for entry in self.entries}

    def _entry(self, id: str) -> Entry:
        if id not in self._entry_of:
            raise DocumentMissingError(self.path, f"no document {id!r} among the {len(self.entries)} there are")
        return self._entry_of[id]

    def _entries_of(self, kind: Kind) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == kind]

    def _amended(self, kind: Kind, held: IndexFile) -> Index:
        """The index of the file, and what it takes to ask it about the documents in force."""
        was = self._txn.entries(held.generation, kind)
        index = on_gpu(self._load_index(kind, held, was))
        now = self._entries_of(kind)
        if was == now:
            return index
        segments = [_segment(index, was, now)]
        if new := added(was, now):
            beside = build(Stored(self._txn, new, self._lock), threads=1)
            segments.append(_segment(beside, new, now))
        return AmendedIndex(tuple(segments))

    def _open_index_files(self, opened: contextlib.ExitStack) -> None:
        """Opens them now, for a writer may unlink them before they are loaded."""
        for kind, held in self.manifest.kinds.items():
            if held.index is None:
                continue
            try:
                file = opened.enter_context((self.path / held.index.file).open("rb"))
            except OSError as exc:
                raise CollectionDamagedError(self.path, f"{held.index.file} cannot be opened: {exc}") from exc
            self._index_files[kind] = file
            size = file.seek(0, 2)
            if size != held.index.size:
                raise CollectionDamagedError(
                    self.path, f"{held.index.file}: expected {held.index.size} bytes, got {size}"
                )

    def _index_size(self, kind: Kind) -> int:
        held = self.manifest.kinds[kind].index
        return held.size if held else 0

    def _lmdb_size(self) -> int:
        """Of the LMDB file, which is touched no further if its end is missing: that would kill the process."""
        try:
            size = (self.path / LMDB_NAME).stat().st_size
        except OSError as exc:
            raise CollectionDamagedError(self.path, f"{LMDB_NAME} cannot be opened: {exc}") from exc
        if size < self.manifest.lmdb_size:
            expected = f"at least {self.manifest.lmdb_size} bytes"
            raise CollectionDamagedError(self.path, f"{LMDB_NAME}: expected {expected}, got {size}")
        return size

    def _load_index(self, kind: Kind, held: IndexFile, entries: list[Entry]) -> FlatIndex | CellIndex:
        """That of the file. Raises CollectionDamagedError if it is not one of these documents."""
        try:
            index = load(self._index_files[kind])
        except ValueError as exc:
            raise CollectionDamagedError(self.path, f"{held.file}: {exc}") from exc
        expected = sum(entry.snippets for entry in entries)
        if index.ntotal != expected:
            cause = f"{held.file}: expected {expected} snippets, got {index.ntotal}"
            raise CollectionDamagedError(self.path, cause)
        return index

    def _verify_contents(self) -> None:
        for kind, file in self._index_files.items():
            held = self.manifest.kinds[kind].index
            if held is not None and checksum(file) != held.sha256:
                raise CollectionDamagedError(self.path, f"{held.file} does not match its checksum")
        for entry in self.entries:
            self._txn.verify(entry)
        if digest(self.entries) != self.manifest.digest:
            raise CollectionDamagedError(self.path, f"{LMDB_NAME} does not hold generation {self.generation}")
        for kind, held_kind in self.manifest.kinds.items():
            found = contents(self._entries_of(kind))
            if (found.documents, found.snippets) != (held_kind.documents, held_kind.snippets):
                raise CollectionDamagedError(self.path, f"expected {held_kind} of kind {kind}, got {found}")


def digest(entries: Iterable[Entry]) -> str:
    """SHA-256 (hex) over the number and the checksum of each document."""
    return hashlib.sha256(b"".join(entry.number.to_bytes(8, "big") + entry.checksum for entry in entries)).hexdigest()


def starts_among(entries: list[Entry], now: list[Entry]) -> NDArray[np.int64]:
    """(entries,): at which snippet each starts among the documents that there are now; -1: it is gone."""
    starts = np.cumsum([0, *(entry.snippets for entry in now)], dtype=np.int64)
    start_of = {entry.number: start for entry, start in zip(now, starts.tolist(), strict=False)}
    return np.array([start_of.get(entry.number, -1) for entry in entries], np.int64)


def added(was: list[Entry], now: list[Entry]) -> list[Entry]:
    """The documents that are new, by number."""
    return sorted({*now} - {*was}, key=lambda entry: entry.number)


def _segment(index: Index, entries: list[Entry], now: list[Entry]) -> Segment:
    offsets = np.cumsum([0, *(entry.snippets for entry in entries)], dtype=np.int64)
    return Segment(index=index, offsets=offsets, starts=starts_among(entries, now))


def contents(entries: list[Entry]) -> Contents:
    """How many documents and snippets these are."""
    return Contents(documents=len(entries), snippets=sum(entry.snippets for entry in entries))
