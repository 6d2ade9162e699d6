"""The reader of a collection: opens one generation, and keeps it whatever a writer does meanwhile."""

import contextlib
import functools
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from engine import names
from engine.collection import store
from engine.collection.manifest import KINDS, Contents, IndexFile, Manifest
from engine.collection.store import Entry, Store, Stored
from engine.errors import CollectionDamagedError, DocumentMissingError
from engine.neighbours import (
    AmendedIndex,
    CellIndex,
    FaissIndex,
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

MAX_CACHED_DOCUMENTS = 1000
"""Number of decoded documents in the cache: decoding a score of forty systems takes half a millisecond."""
MAX_CACHED_MEDIA = 4
"""Number of pictures and sounds in the cache: a browser asks for a sound in many parts."""
CHUNK_BYTES = 8 << 20
"""Bytes of an index file that are copied at a time."""
MAX_VERIFIED_BYTES = 256 << 20
"""Size up to which opening a collection verifies the whole collection. Only `check` verifies a larger one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The files of a sound collection."""

    sizes: dict[str, int]
    """Size of each verified file in bytes, by its name."""
    unused: tuple[str, ...]
    """Names of files that this generation does not use, and that were not verified: an index of format version 1, or
    what a killed writer left."""


class Collection:
    """A generation of a collection, open for reading. Threads may share it; a forked process must not use it."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Opens the generation of `manifest`. Callers use `Collection.open`."""
        self.path = path
        self.manifest = manifest
        self._lmdb = path / manifest.lmdb
        self._lock = threading.RLock()
        self._index_files: dict[Kind, BufferedIOBase] = {}
        self._packed: dict[Kind, Packed] = {}
        self._indexes: dict[Kind, Index] = {}
        with contextlib.ExitStack() as opened:
            self._lmdb_file = self._opened_file(manifest.lmdb, opened)
            self._open_index_files(opened)
            small = self._lmdb_size() + sum(self._index_size(kind) for kind in KINDS) <= MAX_VERIFIED_BYTES
            if small:
                store.verify(self._lmdb, self._lmdb_file.fileno())
            self._store = Store.acquire(self._lmdb)
            opened.callback(self._store.release)
            self._txn = self._store.begin()
            opened.callback(self._txn.abort)
            self._document = functools.lru_cache(MAX_CACHED_DOCUMENTS)(self._txn.document)
            self._media = functools.lru_cache(MAX_CACHED_MEDIA)(self._txn.media)
            self.entries: tuple[Entry, ...] = tuple(self._txn.entries(manifest.generation))
            """Entries of the documents, in the order of addition; no document is read for them."""
            if small:
                self._verify_contents()
            self._opened = opened.pop_all()

    @classmethod
    def open(cls, path: Path | str, network: NetworkIdentity | None = None) -> "Collection":
        """Opens the current generation of the collection at `path`.

        network: the network that embeds the queries; None: the caller makes no queries, and the network is not checked.
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
                # A writer may have committed the next generation and removed this one meanwhile.
                newer = Manifest.read(path)
                if newer.generation == manifest.generation:
                    raise
                manifest = newer

    @property
    def generation(self) -> int:
        """Returns the number of the open generation."""
        return self.manifest.generation

    @property
    def network(self) -> NetworkIdentity:
        """Returns the network that embedded the documents."""
        return self.manifest.network

    @property
    def kinds(self) -> dict[Kind, Contents]:
        """Returns the numbers of documents and snippets by kind."""
        return self.manifest.kinds

    @property
    def count(self) -> int:
        """Returns the number of documents, without reading any."""
        return sum(part.documents for part in self.manifest.kinds.values())

    @property
    def snippets(self) -> int:
        """Returns the number of snippets of all documents."""
        return sum(part.snippets for part in self.manifest.kinds.values())

    @functools.cached_property
    def documents(self) -> tuple[Document, ...]:
        """Returns all documents, in the order of addition. Reading a hundred thousand documents takes seconds."""
        with self._lock:
            return tuple(self._txn.document(entry.number) for entry in self.entries)

    def summaries(self) -> tuple[Document, ...]:
        """Returns all documents without their systems, in the order of addition: a tenth of the time of `documents`."""
        return tuple(map(self._summary, self.entries))

    def _summary(self, entry: Entry) -> Document:
        """Returns a document without its systems. Other threads may read between two documents."""
        with self._lock:
            return self._txn.summary(entry.number)

    def of_kind(self, kind: Kind) -> tuple[Document, ...]:
        """Returns the documents of one kind, in the order of `packed(kind)`."""
        return tuple(document for document in self.documents if document.kind == kind)

    def ids(self, kind: Kind) -> tuple[str, ...]:
        """Returns the ids of the documents of one kind, in the order of `packed(kind)`."""
        return tuple(entry.id for entry in self.entries_of(kind))

    def entries_of(self, kind: Kind) -> list[Entry]:
        """Returns the entries of the documents of one kind, in the order of addition."""
        return [entry for entry in self.entries if entry.kind == kind]

    def document(self, id: str) -> Document:
        """Returns the document with this id. Raises DocumentMissingError if there is none."""
        with self._lock:
            return self._document(self._entry(id).number)

    def sequence(self, id: str) -> SnippetSequence:
        """Returns a copy of a document's snippets, with the embeddings rounded to float16.

        Raises DocumentMissingError if there is no document with this id.
        """
        with self._lock:
            return self._txn.sequence(self._entry(id))

    def media(self, id: str, item: int) -> bytes | None:
        """Returns a picture or the sound of a document, as it is kept; None if it is not kept.

        item: the page of a score, or 0 for the sound of a recording.
        Raises DocumentMissingError if there is no document with this id, CollectionDamagedError if it is damaged.
        """
        with self._lock:
            return self._media(self._entry(id).number, item)

    @property
    def keeps_media(self) -> bool:
        """Whether pictures or sound are kept of any document."""
        with self._lock:
            return self._txn.keeps_media()

    def all_media(self, id: str) -> dict[int, bytes]:
        """Returns what is kept of a document: pictures by their pages, or the sound under 0. Errors: see `media`."""
        with self._lock:
            number = self._entry(id).number
            return {item: self._txn.media(number, item) or b"" for item in self._txn.media_items(number)}

    def packed(self, kind: Kind) -> Packed:
        """Returns the snippets of all documents of a kind, embeddings as float16. They are read once and kept."""
        with self._lock:
            if kind not in self._packed:
                self._packed[kind] = self._txn.packed(self.entries_of(kind))
            return self._packed[kind]

    def stored(self, kind: Kind) -> Stored:
        """Returns the snippets of all documents of a kind, which stay on disk."""
        return Stored(self._txn, self.entries_of(kind), self._lock)

    def index(self, kind: Kind) -> Index:
        """Returns the index whose row i is snippet i of `packed(kind)`. The index is built or loaded once and kept.

        A few snippets are indexed in memory. For many there is an index file, which may be older than this generation:
        documents added since then are searched beside the file's index. Where a GPU is faster, the index lies there.
        """
        with self._lock:
            if kind not in self._indexes:
                index_file = self.manifest.kinds[kind].index
                if index_file is None:
                    if cell_count(self.manifest.kinds[kind].snippets) > 0:
                        message = "%s: no index of the %ss on disk; building one in memory; `scorefind build` writes it"
                        logger.warning(message, self.path, kind)
                    self._indexes[kind] = on_gpu(build(self.packed(kind), threads=1))
                else:
                    self._indexes[kind] = self._amended(kind, index_file)
            return self._indexes[kind]

    def cells(self, kind: Kind) -> tuple[CellIndex, list[Entry]] | None:
        """Returns the index with cells of a kind, and the documents in it; None if there is no such index.

        The index may be older than this generation: some of its documents may be gone, and others not in it.
        """
        index_file = self.manifest.kinds[kind].index
        if index_file is None:
            return None
        entries = self._entries_of_index(kind, index_file)
        index = self._load_index(kind, index_file, entries)
        return (index, entries) if isinstance(index, CellIndex) else None

    def indexes(self) -> tuple[Index, ...]:
        """Returns the indexes that are built or loaded already, without waiting for one that is being loaded."""
        return tuple(self._indexes.copy().values())

    def clear_dead_readers(self) -> None:
        """Frees the generations on disk that killed readers still hold, so that the LMDB file stops growing."""
        self._store.clear_dead_readers()

    def check(self, between: Callable[[], None] = lambda: None) -> Checked:
        """Verifies every checksum and count of the collection, whatever its size, and returns what was verified.

        Other threads may use the collection meanwhile.

        between: is called between parts of the work, of some milliseconds each. It may sleep, so that a check in the
            background leaves the disk and the CPU to others, or raise, which ends the check. Only the structure of the
            LMDB file is verified in one go.
        Raises CollectionDamagedError, which names the first fault.
        """
        size = self._lmdb_size()
        store.verify(self._lmdb, self._lmdb_file.fileno())
        between()
        self._verify_contents(between)
        for kind, part in self.manifest.kinds.items():
            if part.index is not None:
                self._load_index(kind, part.index, self._entries_of_index(kind, part.index))
        indexes = [part.index for part in self.manifest.kinds.values() if part.index]
        sizes = {self._lmdb.name: size} | {index.file: index.size for index in indexes}
        found = {file.name for pattern in ("*.lmdb", "*.faiss") for file in self.path.glob(pattern)}
        return Checked(sizes=sizes, unused=tuple(sorted(found - sizes.keys())))

    def copy(self, folder: Path) -> None:
        """Copies this generation to an empty folder, as a collection of its own, and verifies the copy.

        A writer may commit meanwhile. The copy has no document of other generations, except for the ids, kinds and
        sizes of those that an older index still has. Index files are copied, not linked: a link would share its blocks,
        and so its damages, with the original.
        Raises CollectionDamagedError if the collection is damaged; CollectionError or OSError if the copy cannot be
        written.
        """
        with self._lock:
            indexes = [(kind, part.index) for kind, part in self.manifest.kinds.items() if part.index]
            generations = {index.generation: self._txn.entries(index.generation) for _, index in indexes}
            target = Store.acquire(folder / self._lmdb.name, create=True)
            try:
                target.copy(self._txn, self.entries, generations | {self.generation: list(self.entries)})
            finally:
                target.release()
            for kind, index in indexes:
                self._copy_index(kind, folder / index.file)
        size = (folder / self._lmdb.name).stat().st_size
        replace(self.manifest, lmdb_size=size).write(folder)
        with Collection.open(folder) as copied:
            copied.check()
        store.delete_lock(folder / self._lmdb.name)

    def close(self) -> None:
        """Closes the files of the collection."""
        self._opened.close()

    def __enter__(self) -> "Collection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @functools.cached_property
    def _entry_of(self) -> dict[str, Entry]:
        """Returns the entries by the documents' ids."""
        return {entry.id: entry for entry in self.entries}

    def _entry(self, id: str) -> Entry:
        """Returns the entry of the document with this id, or that a terminal shows with this id.

        Raises DocumentMissingError if there is none.
        """
        entry = self._entry_of.get(id) or self._entry_of.get(names.normal(id))
        entry = entry or self._entry_of.get(names.shown_as(id, self._entry_of) or "")
        if entry is None:
            missing = f"no document '{names.printable(id)}' among the {len(self.entries)} there are"
            raise DocumentMissingError(self.path, missing)
        return entry

    def _amended(self, kind: Kind, index_file: IndexFile) -> Index:
        """Returns the index of a file, amended to search the documents of this generation.

        Documents added since the file was written get a second index. Documents removed since then are skipped.
        """
        old = self._txn.entries(index_file.generation, kind)
        index = on_gpu(self._load_index(kind, index_file, old))
        current = self.entries_of(kind)
        if old == current:
            return index
        segments = [_segment(index, old, current)]
        if new := added(old, current):
            second = build(Stored(self._txn, new, self._lock), threads=1)
            segments.append(_segment(second, new, current))
        return AmendedIndex(tuple(segments))

    def _opened_file(self, name: str, opened: contextlib.ExitStack) -> BufferedIOBase:
        """Returns a file of the collection, open until `opened` closes. Raises CollectionDamagedError."""
        try:
            return opened.enter_context((self.path / name).open("rb"))
        except OSError as exc:
            raise CollectionDamagedError(self.path, f"{name} cannot be opened: {exc}") from exc

    def _open_index_files(self, opened: contextlib.ExitStack) -> None:
        """Opens the index files and checks their sizes. A writer may unlink the files before they are loaded."""
        for kind, part in self.manifest.kinds.items():
            if part.index is None:
                continue
            file = self._opened_file(part.index.file, opened)
            self._index_files[kind] = file
            size = file.seek(0, 2)
            if size != part.index.size:
                raise CollectionDamagedError(
                    self.path, f"{part.index.file}: expected {part.index.size} bytes, got {size}"
                )

    def _entries_of_index(self, kind: Kind, index_file: IndexFile) -> list[Entry]:
        """Returns the entries of the documents in an index file."""
        with self._lock:
            return self._txn.entries(index_file.generation, kind)

    def _copy_index(self, kind: Kind, target: Path) -> None:
        """Copies the index file of a kind, which a writer may have unlinked meanwhile."""
        source = self._index_files[kind]
        source.seek(0)
        with target.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())

    def _index_size(self, kind: Kind) -> int:
        """Returns the size of the index file of a kind in bytes; 0 if there is none."""
        index_file = self.manifest.kinds[kind].index
        return index_file.size if index_file else 0

    def _lmdb_size(self) -> int:
        """Returns the size of the LMDB file in bytes.

        Raises CollectionDamagedError if the file is too short: reading the missing end would kill the process.
        """
        size = os.fstat(self._lmdb_file.fileno()).st_size
        if size < self.manifest.lmdb_size:
            expected = f"at least {self.manifest.lmdb_size} bytes"
            raise CollectionDamagedError(self.path, f"{self._lmdb.name}: expected {expected}, got {size}")
        return size

    def _load_index(self, kind: Kind, index_file: IndexFile, entries: list[Entry]) -> FaissIndex:
        """Returns the index in a file. Raises CollectionDamagedError if it does not fit the documents of `entries`."""
        try:
            index = load(self._index_files[kind])
        except ValueError as exc:
            raise CollectionDamagedError(self.path, f"{index_file.file}: {exc}") from exc
        expected = sum(entry.snippets for entry in entries)
        if index.ntotal != expected:
            cause = f"{index_file.file}: expected {expected} snippets, got {index.ntotal}"
            raise CollectionDamagedError(self.path, cause)
        return index

    def _verify_contents(self, between: Callable[[], None] = lambda: None) -> None:
        """Raises CollectionDamagedError if a checksum or a count does not match."""
        for kind, file in self._index_files.items():
            index_file = self.manifest.kinds[kind].index
            if index_file is not None and checksum(file, between) != index_file.sha256:
                raise CollectionDamagedError(self.path, f"{index_file.file} does not match its checksum")
        for entry in self.entries:
            with self._lock:
                self._txn.verify(entry)
            between()
        if digest(self.entries) != self.manifest.digest:
            raise CollectionDamagedError(self.path, f"{self._lmdb.name} does not hold generation {self.generation}")
        for kind, expected in self.manifest.kinds.items():
            counted = contents(self.entries_of(kind))
            if (counted.documents, counted.snippets) != (expected.documents, expected.snippets):
                raise CollectionDamagedError(self.path, f"expected {expected} of kind {kind}, got {counted}")


def digest(entries: Iterable[Entry]) -> str:
    """Returns the SHA-256 (hex) over the number and the checksum of each document."""
    return hashlib.sha256(b"".join(entry.number.to_bytes(8, "big") + entry.checksum for entry in entries)).hexdigest()


def rows_among(entries: list[Entry], current: list[Entry]) -> NDArray[np.int64]:
    """Returns the row among the current documents of each row of these documents, (rows,); -1 for a removed one."""
    starts = starts_among(entries, current).tolist()
    return np.concatenate(
        [
            np.full(entry.snippets, -1) if start < 0 else np.arange(start, start + entry.snippets)
            for entry, start in zip(entries, starts, strict=True)
        ]
    )


def starts_among(entries: list[Entry], current: list[Entry]) -> NDArray[np.int64]:
    """Returns the first snippet of each document of `entries` among the `current` documents, (entries,).

    The value is -1 for a document that is not among the current documents.
    """
    starts = np.cumsum([0, *(entry.snippets for entry in current)], dtype=np.int64)
    start_of = {entry.number: start for entry, start in zip(current, starts.tolist(), strict=False)}
    return np.array([start_of.get(entry.number, -1) for entry in entries], np.int64)


def added(old: list[Entry], current: list[Entry]) -> list[Entry]:
    """Returns the current documents that are not among the old ones, by rising number."""
    return sorted({*current} - {*old}, key=lambda entry: entry.number)


def _segment(index: Index, entries: list[Entry], current: list[Entry]) -> Segment:
    """Returns the index of the documents `entries` as a segment of an index of the `current` documents."""
    offsets = np.cumsum([0, *(entry.snippets for entry in entries)], dtype=np.int64)
    return Segment(index=index, offsets=offsets, starts=starts_among(entries, current))


def contents(entries: list[Entry]) -> Contents:
    """Returns the numbers of documents and snippets, without an index."""
    return Contents(documents=len(entries), snippets=sum(entry.snippets for entry in entries))
