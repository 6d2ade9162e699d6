"""The LMDB file of a collection: documents and their arrays, by number, and the document numbers of each generation.

The databases, with their keys and values:

- `documents`: number -> SHA-256 of the msgpack and the arrays, then the Document in msgpack.
- `embeddings`: number -> float16 (n, 32).
- `places`: number -> SCORE_PLACE or RECORDING_PLACE (n,).
- `bias`: number -> float32 (n,).
- `media`: number and, in four more bytes, a page or 0 for the sound -> SHA-256 of the rest, then a picture or sound.
- `generations`: generation -> the numbers of its documents, rising.
- `tables`: generation -> the columns of its `Entry` list in msgpack. With the table, opening a collection of a hundred
  thousand documents reads none of them.

Keys are unsigned 64-bit big-endian; arrays are little-endian.

LMDB trusts its file: a damaged pointer or a missing end crashes the process. So `verify` reads the file as plain bytes
before LMDB maps the file.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import lmdb
import lmdb.verify
import msgpack
import numpy as np
from numpy.typing import NDArray

from engine.collection.manifest import KINDS, LOCK_SUFFIX
from engine.errors import CollectionDamagedError, CollectionError
from engine.values import DIMENSION, PLACE_DTYPES, Box, Document, Kind, Packed, SnippetSequence, System

logger = logging.getLogger(__name__)

COPY_BATCH_BYTES = 64 << 20
"""Size of the documents from which `Store.copy` ends a transaction."""
MAP_SIZE = 1 << 40
"""Address space reserved for the file, in bytes. The file itself is only as large as its content."""
DATABASES = ("documents", "embeddings", "places", "bias", "generations", "tables", "media")
YOUNGER = ("tables", "media")
"""Databases that a file of an older format version lacks."""
ARRAYS = ("embeddings", "places", "bias")
"""Databases with the arrays of a document, in the order of its checksum."""
UNKEPT = "media"
"""Field of a document that is stored only if it is not empty: older versions read a collection without media."""
STORED_NAMES = {"content_hash": "fingerprint"}
"""Fields of a document that have another name on disk. A name on disk never changes."""

Numbers = NDArray[np.uint64]
"""Document numbers, uint64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The facts about a document that the store knows without decoding the document."""

    number: int
    """Number under which the document is stored."""
    id: str
    kind: Kind
    content_hash: str
    snippets: int
    """Number of snippets."""
    checksum: bytes
    """SHA-256 of the stored document and its arrays, 32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A document in its stored form."""

    entry: Entry
    document: Document
    values: dict[str, bytes]
    """Value of the document in each database, by the database's name."""
    media: dict[int, bytes]
    """Pictures and sound, each after its checksum, by the page, or 0 for the sound."""

    @property
    def size(self) -> int:
        """Returns the size of all values in bytes."""
        return sum(map(len, [*self.values.values(), *self.media.values()]))


def encode(
    number: int, document: Document, sequence: SnippetSequence, media: Mapping[int, bytes] | None = None
) -> Encoded:
    """Returns a document, its snippets and its media in stored form, under this number.

    media: pictures by their pages, or the sound under 0.
    """
    kept = {item: hashlib.sha256(data).digest() + data for item, data in sorted((media or {}).items())}
    document = replace(document, media=_media_digest(value[:32] for value in kept.values()))
    content = {_stored(field.name): getattr(document, field.name) for field in fields(document)}
    if not document.media:
        del content[UNKEPT]
    content["systems"] = [_flat(system) for system in document.systems]
    packed = msgpack.packb(content, default=lambda value: value.item())  # NumPy scalars
    arrays = {
        "embeddings": sequence.embeddings.astype("<f2").tobytes(),
        "places": sequence.places.tobytes(),
        "bias": sequence.bias.astype("<f4").tobytes(),
    }
    checksum = hashlib.sha256(b"".join([packed, *arrays.values()])).digest()
    entry, values = _entry(number, document, checksum), {"documents": checksum + packed, **arrays}
    return Encoded(entry=entry, document=document, values=values, media=kept)


class Transaction:
    """A transaction of the store, for reading, or for reading and writing."""

    def __init__(self, path: Path, txn: Any, databases: dict[str, Any]) -> None:
        self._path = path
        self._txn = txn
        self._databases = databases

    def numbers(self, generation: int) -> Numbers:
        """Returns the numbers of the documents of a generation, rising."""
        return np.frombuffer(self._get("generations", generation), dtype=">u8").astype(np.uint64)

    def generations(self) -> list[int]:
        """Returns the numbers of the stored generations, rising."""
        return self._keys("generations")

    def all_numbers(self) -> list[int]:
        """Returns the numbers of all stored documents, rising, including documents of no generation."""
        return self._keys("documents")

    def entries(self, generation: int, kind: Kind | None = None) -> list[Entry]:
        """Returns the entries of a generation's documents, by rising number, including documents deleted since.

        kind: limits the entries to one kind.
        """
        return [entry for entry in self._all_entries(generation) if kind in (None, entry.kind)]

    def _all_entries(self, generation: int) -> list[Entry]:
        """Returns the entries of all documents of a generation, by rising number."""
        numbers = self.numbers(generation).tolist()
        table = self._txn.get(_key(generation), db=self._databases["tables"]) if "tables" in self._databases else None
        if table is None:  # a collection of format version 1
            return [self.entry(number) for number in numbers]
        try:
            return _entries(numbers, msgpack.unpackb(table))
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as exc:
            raise self._damaged(generation, f"has a table that cannot be decoded: {exc!r}") from exc

    def entry(self, number: int) -> Entry:
        """Returns the entry of a stored document."""
        return _entry(number, self.document(number), self._get("documents", number)[:32])

    def document(self, number: int) -> Document:
        """Returns a stored document. Raises CollectionDamagedError if the document is missing or cannot be decoded."""
        try:
            content = msgpack.unpackb(self._get("documents", number)[32:])
            values = {field.name: content[_stored(field.name)] for field in fields(Document) if field.name != UNKEPT}
            values[UNKEPT] = content.get(UNKEPT, "")
            return Document(**values | {"systems": tuple(map(_system, values["systems"]))})
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as exc:
            raise self._damaged(number, f"cannot be decoded: {exc!r}") from exc

    def summary(self, number: int) -> Document:
        """Returns a stored document without its systems, which take nine tenths of the time to decode."""
        unpacker = msgpack.Unpacker()
        unpacker.feed(self._get("documents", number)[32:])
        names = {_stored(field.name): field.name for field in fields(Document)}
        values: dict[str, Any] = {}
        try:
            for _ in range(unpacker.read_map_header()):
                name = names.get(unpacker.unpack())
                if name is None or name == "systems":
                    unpacker.skip()
                else:
                    values[name] = unpacker.unpack()
            return Document(**values)
        except (ValueError, TypeError, msgpack.UnpackException) as exc:
            raise self._damaged(number, f"cannot be decoded: {exc!r}") from exc

    def source(self, number: int) -> str:
        """Returns the path that a stored document was made from.

        The systems, which follow the source, are not decoded: a document takes 12 us instead of 105.
        """
        unpacker = msgpack.Unpacker()
        unpacker.feed(self._get("documents", number)[32:])
        try:
            for _ in range(unpacker.read_map_header()):
                if unpacker.unpack() == _stored("source"):
                    return str(unpacker.unpack())
                unpacker.skip()
        except (ValueError, TypeError, msgpack.UnpackException) as exc:
            raise self._damaged(number, f"cannot be decoded: {exc!r}") from exc
        raise self._damaged(number, "has no source")

    def sequence(self, entry: Entry) -> SnippetSequence:
        """Returns the snippets of a document, with the stored float16 embeddings as float32."""
        places = self._array("places", entry, PLACE_DTYPES[entry.kind])
        bias = self._array("bias", entry, np.dtype("<f4"))
        embeddings = self._embeddings(entry).astype(np.float32)
        return SnippetSequence(kind=entry.kind, embeddings=embeddings, places=places.copy(), bias=bias.copy())

    def packed(self, entries: Iterable[Entry]) -> Packed:
        """Returns the sequences of documents, one after the other."""
        entries = list(entries)
        offsets = np.cumsum([0, *(entry.snippets for entry in entries)], dtype=np.int64)
        embeddings = np.empty((offsets[-1], DIMENSION), dtype=np.float16)
        bias = np.empty(offsets[-1], dtype=np.float32)
        for entry, start, stop in zip(entries, offsets[:-1], offsets[1:], strict=True):
            embeddings[start:stop] = self._embeddings(entry)
            bias[start:stop] = self._array("bias", entry, np.dtype("<f4"))
        return Packed(embeddings=embeddings, bias=bias, offsets=offsets)

    def media(self, number: int, item: int) -> bytes | None:
        """Returns a picture or the sound of a document; None if it is not kept. item: the page, or 0 for the sound.

        Raises CollectionDamagedError if it does not match its checksum.
        """
        if "media" not in self._databases:
            return None
        value: bytes | None = self._txn.get(_media_key(number, item), db=self._databases["media"])
        if value is None:
            return None
        if hashlib.sha256(value[32:]).digest() != value[:32]:
            raise self._damaged(number, f"has damaged media: item {item} does not match its checksum")
        return value[32:]

    def media_items(self, number: int) -> list[int]:
        """Returns which media of a document are kept: pages, or 0 for the sound."""
        if "media" not in self._databases:
            return []
        found: list[int] = []
        with self._txn.cursor(db=self._databases["media"]) as cursor:
            here = cursor.set_range(_key(number))
            while here and cursor.key()[:8] == _key(number):
                found.append(int.from_bytes(cursor.key()[8:], "big"))
                here = cursor.next()
        return found

    def keeps_media(self) -> bool:
        """Returns whether the file holds any media."""
        if "media" not in self._databases:
            return False
        with self._txn.cursor(db=self._databases["media"]) as cursor:
            return bool(cursor.first())

    def verify(self, entry: Entry) -> None:
        """Raises CollectionDamagedError if a stored document does not match its checksum, its entry or its media."""
        value = self._get("documents", entry.number)
        arrays = [self._get(name, entry.number) for name in ARRAYS]
        if hashlib.sha256(b"".join([value[32:], *arrays])).digest() != value[:32]:
            raise self._damaged(entry.number, "does not match its checksum")
        if self.entry(entry.number) != entry:
            raise self._damaged(entry.number, "differs from the entry of its generation")
        kept = [self.media(entry.number, item) or b"" for item in self.media_items(entry.number)]
        if _media_digest(hashlib.sha256(data).digest() for data in kept) != self.document(entry.number).media:
            raise self._damaged(entry.number, "does not have the media that it should have")

    def put(self, encoded: "Encoded") -> None:
        """Stores a document. Raises CollectionError unless its number is higher than all stored numbers."""
        for name, value in encoded.values.items():
            self._append(name, encoded.entry.number, value)
        for item, value in encoded.media.items():
            self._txn.put(_media_key(encoded.entry.number, item), value, db=self._databases["media"])

    def put_copy(self, source: "Transaction", entry: Entry) -> int:
        """Stores a document of another file, after verifying it there, and returns its size in bytes.

        Raises CollectionDamagedError; CollectionError unless its number is higher than all stored numbers.
        """
        source.verify(entry)
        values = {name: source._get(name, entry.number) for name in ("documents", *ARRAYS)}
        for name, value in values.items():
            self._append(name, entry.number, value)
        size = sum(map(len, values.values()))
        for item in source.media_items(entry.number):
            data = source.media(entry.number, item) or b""
            key, value = _media_key(entry.number, item), hashlib.sha256(data).digest() + data
            self._txn.put(key, value, db=self._databases["media"])
            size += len(value)
        return size

    def delete(self, number: int) -> None:
        """Deletes a document, its arrays and its media."""
        for name in ("documents", *ARRAYS):
            self._txn.delete(_key(number), db=self._databases[name])
        for item in self.media_items(number):
            self._txn.delete(_media_key(number, item), db=self._databases["media"])

    def put_generation(self, generation: int, entries: list[Entry]) -> None:
        """Stores the list of a generation's documents. entries: by rising number."""
        numbers = np.array([entry.number for entry in entries], dtype=">u8").tobytes()
        self._txn.put(_key(generation), numbers, db=self._databases["generations"])
        self._txn.put(_key(generation), msgpack.packb(_table(entries)), db=self._databases["tables"])

    def delete_generation(self, generation: int) -> None:
        """Deletes the list of a generation's documents."""
        for name in ("generations", "tables"):
            self._txn.delete(_key(generation), db=self._databases[name])

    def abort(self) -> None:
        """Ends the transaction and discards its changes."""
        self._txn.abort()

    def _embeddings(self, entry: Entry) -> NDArray[np.float16]:
        """Returns the stored embeddings of a document, float16 (n, 32)."""
        return self._array("embeddings", entry, np.dtype(("<f2", (DIMENSION,))))

    def _array(self, name: str, entry: Entry, row: np.dtype[Any]) -> NDArray[Any]:
        """Returns an array of a document from the database `name`, with one item of dtype `row` for each snippet."""
        value = self._get(name, entry.number)
        if len(value) != entry.snippets * row.itemsize:
            expected = f"{entry.snippets} snippets of {row.itemsize} bytes"
            raise self._damaged(entry.number, f"expected {expected} in {name}, got {len(value)} bytes")
        return np.frombuffer(value, dtype=row)

    def _get(self, name: str, key: int) -> bytes:
        """Returns a value of the database `name`. Raises CollectionDamagedError if there is none."""
        try:
            value: bytes | None = self._txn.get(_key(key), db=self._databases[name])
        except lmdb.Error as exc:
            raise self._damaged(key, f"cannot be read from {name}: {exc}") from exc
        if value is None:
            raise self._damaged(key, f"is missing from {name}")
        return value

    def _append(self, name: str, number: int, value: bytes) -> None:
        """Stores a value of a document behind all others of the database `name`.

        Raises CollectionError if a stored document has this number or a higher one. LMDB itself only returns False, and
        keeps the old value: the commit would give the checksum of the new document to the old one.
        """
        if not self._txn.put(_key(number), value, db=self._databases[name], append=True):
            cause = f"{self._path.name}: number {number} cannot be stored in {name}: it or a higher one is stored"
            raise CollectionError(self._path.parent, cause)

    def _keys(self, name: str) -> list[int]:
        """Returns the keys of the database `name`, rising."""
        with self._txn.cursor(db=self._databases[name]) as cursor:
            return [int.from_bytes(key, "big") for key in cursor.iternext(values=False)]

    def _damaged(self, key: int, fault: str) -> CollectionDamagedError:
        """Returns the error for a faulty value of the LMDB file."""
        return CollectionDamagedError(self._path.parent, f"{self._path.name}: number {key} {fault}")


def _registers_readers(path: Path) -> bool:
    """Whether a reader of the LMDB file `path`, who may not write it, can tell writers which snapshot it reads.

    LMDB keeps that in the lock file. Unseen readers lose their snapshot when writers use its pages again, so the log
    warns of it, but not where the whole file system can only be read: there is no writer there.
    """
    lock = path.with_name(path.name + LOCK_SUFFIX)
    if os.access(lock, os.W_OK):
        return True
    if not os.statvfs(path.parent).f_flag & os.ST_RDONLY:
        logger.warning(
            "%s: no permission to write this file, so no writer sees that the collection is read here: if it is "
            "changed meanwhile, reading can fail. Let this user write that file; no other file is written to read",
            lock,
        )
    return False


class Stored:
    """The sequences of some documents on disk. `take` reads the chosen sequences."""

    def __init__(self, txn: Transaction, entries: list[Entry], lock: threading.RLock) -> None:
        """Takes the documents from their entries, without reading their sequences.

        lock: every thread that reads from `txn` takes this lock, because an LMDB transaction allows one thread at a
            time.
        """
        self._txn = txn
        self._entries = entries
        self._lock = lock
        self.offsets = np.cumsum([0, *(entry.snippets for entry in entries)], dtype=np.int64)

    def take(self, documents: NDArray[np.int64]) -> Packed:
        """Returns the chosen documents in memory, in the order of `documents`: int64 (k,).

        Raises CollectionDamagedError if a sequence does not have the length of its entry.
        """
        with self._lock:
            return self._txn.packed(self._entries[number] for number in documents.tolist())


class Store:
    """An open LMDB file. LMDB must not open a file twice in one process, so all users of a file share one `Store`."""

    _open: dict[tuple[int, int, int], "Store"] = {}  # noqa: RUF012 (the registry of this process)
    _guard = threading.Lock()

    def __init__(self, path: Path, *, create: bool) -> None:
        """Opens the LMDB file `path`. Callers use `Store.acquire`."""
        # Readers open the file for writing too, if permissions allow: a writer in the same process shares the store.
        self.writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        self.path = path
        self._users = 0
        self._env = lmdb.open(
            str(path),
            subdir=False,
            map_size=MAP_SIZE,
            max_dbs=len(DATABASES),
            readonly=not self.writable,
            lock=self.writable or _registers_readers(path),
            create=create,
        )
        try:
            older = [name for name in DATABASES if name not in YOUNGER]
            self._databases = {name: self._env.open_db(name.encode(), create=create) for name in older}
            with contextlib.suppress(lmdb.NotFoundError, lmdb.ReadonlyError):
                self._databases["tables"] = self._env.open_db(b"tables", create=self.writable)
            with contextlib.suppress(lmdb.NotFoundError):  # only a writer makes it: a reader changes no file
                self._databases["media"] = self._env.open_db(b"media", create=create)
        except lmdb.Error:
            self._env.close()
            raise

    @classmethod
    def acquire(cls, path: Path, *, create: bool = False) -> "Store":
        """Returns the store of the LMDB file `path`. Each call needs one call of `release`.

        create: whether to make the file if there is none.
        Raises CollectionDamagedError if LMDB cannot open the file; CollectionError if it cannot make the file.
        """
        with cls._guard:
            try:
                if create:
                    path.touch()
                status = path.stat()
                key = (os.getpid(), status.st_dev, status.st_ino)
                if key not in cls._open:
                    cls._open[key] = cls(path, create=create)
            except (lmdb.Error, OSError) as exc:
                if create:
                    raise _unwritable(path, exc) from exc
                raise CollectionDamagedError(path.parent, f"{path.name} cannot be opened: {exc}") from exc
            store = cls._open[key]
            store._users += 1
            return store

    def release(self) -> None:
        """Ends one use of the store. The last release closes the file."""
        with self._guard:
            self._users -= 1
            if self._users == 0:
                self._env.close()
                for key in [key for key, store in self._open.items() if store is self]:
                    del self._open[key]

    def begin(self) -> Transaction:
        """Returns a transaction that reads one snapshot of the file. `abort` ends the transaction."""
        return Transaction(self.path, self._env.begin(), dict(self._databases))  # those that the snapshot has

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Yields a transaction for reading, which ends with the block."""
        transaction = self.begin()
        try:
            yield transaction
        finally:
            transaction.abort()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Yields a transaction for writing. The end of the block makes all its changes durable; an error makes none.

        Raises CollectionError if the file cannot be written.
        """
        try:
            if "media" not in self._databases:
                self._databases["media"] = self._env.open_db(b"media", create=True)
            with self._env.begin(write=True) as txn:
                yield Transaction(self.path, txn, self._databases)
        except lmdb.Error as exc:
            raise _unwritable(self.path, exc) from exc

    def copy(self, source: Transaction, documents: Iterable[Entry], generations: dict[int, list[Entry]]) -> None:
        """Stores documents and lists of generations from another file in this empty file, and verifies them.

        This file then has no byte of anything else. LMDB's own compacting copy would take over documents and lists of
        other generations, verifies nothing, and does not promise to clear the unused parts of the pages that it copies.

        Raises CollectionDamagedError if the source is damaged; CollectionError if this file cannot be written.
        """
        waiting = sorted(documents, key=lambda entry: entry.number, reverse=True)
        while waiting:
            with self.writing() as txn:
                size = 0
                while waiting and size < COPY_BATCH_BYTES:
                    size += txn.put_copy(source, waiting.pop())
        with self.writing() as txn:
            for generation, entries in generations.items():
                txn.put_generation(generation, entries)

    def clear_dead_readers(self) -> None:
        """Frees the space that killed readers still reserve."""
        self._env.reader_check()


def _unwritable(path: Path, exc: Exception) -> CollectionError:
    """Returns the error for an LMDB file that cannot be written, with the free space.

    Where a full disk cuts a write short, LMDB calls that an input/output error.
    """
    free = shutil.disk_usage(path.parent).free
    return CollectionError(path.parent, f"{path.name} cannot be written: {exc}; {free:,} bytes are free on this disk")


def delete(path: Path) -> None:
    """Deletes an LMDB file and its table of readers, if they exist. Who has the file open keeps it."""
    path.unlink(missing_ok=True)
    delete_lock(path)


def delete_lock(path: Path) -> None:
    """Deletes the table of readers of an LMDB file. Nobody may have the file open, unless it is deleted already."""
    path.with_name(path.name + LOCK_SUFFIX).unlink(missing_ok=True)


def verify(path: Path, descriptor: int) -> None:
    """Raises CollectionDamagedError if the structure of an LMDB file is damaged. The file is not mapped.

    descriptor: the open file. The file may have lost its name `path` since a writer has written it anew.
    A writer may overwrite free pages during the check. So a fault counts only if the file's two meta pages did not
    change meanwhile.
    """
    while True:
        before = _metas(descriptor)
        try:
            problems = lmdb.verify.verify(f"/dev/fd/{descriptor}", subdir=False)
        except (lmdb.verify.VerifyError, OSError) as exc:
            problems = [str(exc)]
        faults = [problem for problem in problems if " leak " not in problem]  # a leak only wastes space
        if not faults:
            return
        if _metas(descriptor) == before:
            raise CollectionDamagedError(path.parent, f"{path.name}: {faults[0]}")
        time.sleep(0.05)


def _metas(descriptor: int) -> bytes:
    """Returns the bytes that contain the two meta pages of an LMDB file."""
    return os.pread(descriptor, 1 << 16, 0)  # two pages of the largest possible size


def _table(entries: list[Entry]) -> dict[str, Any]:
    """Returns the entries as columns, without the numbers."""
    return {
        "kinds": bytes(KINDS.index(entry.kind) for entry in entries),
        "snippets": np.array([entry.snippets for entry in entries], dtype="<u4").tobytes(),
        "checksums": b"".join(entry.checksum for entry in entries),
        "ids": [entry.id for entry in entries],
        "fingerprints": [entry.content_hash for entry in entries],
    }


def _entries(numbers: list[int], table: dict[str, Any]) -> list[Entry]:
    """Returns the entries in a table. Raises ValueError, TypeError or KeyError if the table does not fit `numbers`."""
    checksums = np.frombuffer(table["checksums"], dtype="V32").tolist()
    snippets = np.frombuffer(table["snippets"], dtype="<u4").tolist()
    columns = numbers, table["ids"], table["kinds"], table["fingerprints"], snippets, checksums
    return [
        Entry(number=number, id=id, kind=KINDS[kind], content_hash=content_hash, snippets=count, checksum=checksum)
        for number, id, kind, content_hash, count, checksum in zip(*columns, strict=True)
    ]


def _entry(number: int, document: Document, checksum: bytes) -> Entry:
    """Returns the entry of a document under this number."""
    return Entry(
        number=number,
        id=document.id,
        kind=document.kind,
        content_hash=document.content_hash,
        snippets=int(document.snippets),
        checksum=checksum,
    )


def _stored(name: str) -> str:
    """Returns the name on disk of a document's field."""
    return STORED_NAMES.get(name, name)


def _key(number: int) -> bytes:
    """Returns the LMDB key of a number."""
    return number.to_bytes(8, "big")


def _media_key(number: int, item: int) -> bytes:
    """Returns the LMDB key of a picture or of the sound of a document."""
    return _key(number) + item.to_bytes(4, "big")


def _media_digest(checksums: Iterable[bytes]) -> str:
    """Returns the SHA-256 (hex) over the checksums of a document's media; empty if there are none."""
    joined = b"".join(checksums)
    return hashlib.sha256(joined).hexdigest() if joined else ""


def _flat(system: System) -> list[Any]:
    """Returns a system as nested lists, for msgpack. The turn is left out of the systems of pages that lie upright."""
    boxes = [[box.x0, box.y0, box.x1, box.y1] for box in (system.box, *system.staves)]
    turn = [system.turn] if system.turn else []
    return [system.page, system.number, boxes, system.staff_space, system.confidence, *turn]


def _system(flat: list[Any]) -> System:
    """Returns the system of nested lists, the inverse of `_flat`."""
    page, number, boxes, staff_space, confidence, *turn = flat
    box, *staves = (Box(x0=x0, y0=y0, x1=x1, y1=y1) for x0, y0, x1, y1 in boxes)
    return System(
        page=page,
        number=number,
        box=box,
        staves=tuple(staves),
        staff_space=staff_space,
        confidence=confidence,
        turn=turn[0] if turn else 0,
    )
