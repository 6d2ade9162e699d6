"""The LMDB file of a collection: documents and their arrays, by number, and which numbers each generation holds.

Databases: `documents` (number -> SHA-256 of all that follows, then msgpack of the Document), `embeddings` (number ->
float16 (n, 32)), `places` (number -> SCORE_PLACE or RECORDING_PLACE), `bias` (number -> float32 (n,)), `generations`
(generation -> the numbers it holds, rising), `tables` (generation -> msgpack of the columns of its `Entry` list: what
there is to know of a hundred thousand documents without reading them). Keys are unsigned 64-bit big-endian; arrays are
little-endian.

LMDB trusts its file: a flipped pointer in it or a missing end crashes the process. So `verify` reads the file as
plain bytes, before it is mapped.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import lmdb
import lmdb.verify
import msgpack
import numpy as np
from numpy.typing import NDArray

from engine.collection.manifest import KINDS
from engine.errors import CollectionDamagedError, CollectionError
from engine.values import DIMENSION, PLACE_DTYPES, Box, Document, Kind, Packed, SnippetSequence, System

MAP_SIZE = 1 << 40
"""Address space reserved, in bytes; the file is as large as what it holds."""
DATABASES = ("documents", "embeddings", "places", "bias", "generations", "tables")
ARRAYS = ("embeddings", "places", "bias")
STORED_NAMES = {"content_hash": "fingerprint"}
"""Fields of a document that have another name on disk, where the name stays for ever."""

Numbers = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the store knows of a document without decoding it."""

    number: int
    id: str
    kind: Kind
    content_hash: str
    snippets: int
    checksum: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A document as it is stored."""

    entry: Entry
    document: Document
    values: dict[str, bytes]
    """By database."""


def encode(number: int, document: Document, sequence: SnippetSequence) -> Encoded:
    """The document under this number."""
    content = {_stored(field.name): getattr(document, field.name) for field in fields(document)}
    content["systems"] = [_flat(system) for system in document.systems]
    packed = msgpack.packb(content, default=lambda value: value.item())  # NumPy scalars
    arrays = {
        "embeddings": sequence.embeddings.astype("<f2").tobytes(),
        "places": sequence.places.tobytes(),
        "bias": sequence.bias.astype("<f4").tobytes(),
    }
    checksum = hashlib.sha256(b"".join([packed, *arrays.values()])).digest()
    entry, values = _entry(number, document, checksum), {"documents": checksum + packed, **arrays}
    return Encoded(entry=entry, document=document, values=values)


class Transaction:
    """A view of the store; one that writes can change it."""

    def __init__(self, path: Path, txn: Any, databases: dict[str, Any]) -> None:
        self._path = path
        self._txn = txn
        self._databases = databases

    def numbers(self, generation: int) -> Numbers:
        """The documents that `generation` holds, rising."""
        return np.frombuffer(self._get("generations", generation), dtype=">u8").astype(np.uint64)

    def generations(self) -> list[int]:
        return self._keys("generations")

    def all_numbers(self) -> list[int]:
        """Every document stored, whether a generation holds it or not."""
        return self._keys("documents")

    def entries(self, generation: int, kind: Kind | None = None) -> list[Entry]:
        """The documents that `generation` holds, all or of one kind, by number, still stored or not."""
        return [entry for entry in self._all_entries(generation) if kind in (None, entry.kind)]

    def _all_entries(self, generation: int) -> list[Entry]:
        numbers = self.numbers(generation).tolist()
        table = self._txn.get(_key(generation), db=self._databases["tables"]) if "tables" in self._databases else None
        if table is None:  # of format version 1
            return [self.entry(number) for number in numbers]
        try:
            return _entries(numbers, msgpack.unpackb(table))
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as exc:
            raise self._damaged(generation, f"has a table that cannot be decoded: {exc!r}") from exc

    def entry(self, number: int) -> Entry:
        return _entry(number, self.document(number), self._get("documents", number)[:32])

    def document(self, number: int) -> Document:
        try:
            content = msgpack.unpackb(self._get("documents", number)[32:])
            values = {field.name: content[_stored(field.name)] for field in fields(Document)}
            return Document(**values | {"systems": tuple(map(_system, values["systems"]))})
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as exc:
            raise self._damaged(number, f"cannot be decoded: {exc!r}") from exc

    def sequence(self, entry: Entry) -> SnippetSequence:
        """Its snippets; embeddings are the float16 ones stored, as float32."""
        places = self._array("places", entry, PLACE_DTYPES[entry.kind])
        bias = self._array("bias", entry, np.dtype("<f4"))
        embeddings = self._embeddings(entry).astype(np.float32)
        return SnippetSequence(kind=entry.kind, embeddings=embeddings, places=places.copy(), bias=bias.copy())

    def packed(self, entries: Iterable[Entry]) -> Packed:
        """Their sequences, one after the other."""
        entries = list(entries)
        offsets = np.cumsum([0, *(entry.snippets for entry in entries)], dtype=np.int64)
        embeddings = np.empty((offsets[-1], DIMENSION), dtype=np.float16)
        bias = np.empty(offsets[-1], dtype=np.float32)
        for entry, start, stop in zip(entries, offsets[:-1], offsets[1:], strict=True):
            embeddings[start:stop] = self._embeddings(entry)
            bias[start:stop] = self._array("bias", entry, np.dtype("<f4"))
        return Packed(embeddings=embeddings, bias=bias, offsets=offsets)

    def verify(self, entry: Entry) -> None:
        """Raises CollectionDamagedError if the document's content is not what was put, or not of this entry."""
        value = self._get("documents", entry.number)
        arrays = [self._get(name, entry.number) for name in ARRAYS]
        if hashlib.sha256(b"".join([value[32:], *arrays])).digest() != value[:32]:
            raise self._damaged(entry.number, "does not match its checksum")
        if self.entry(entry.number) != entry:
            raise self._damaged(entry.number, "is not the document that its generation holds")

    def put(self, encoded: "Encoded") -> None:
        """Stores a document, whose number has to be above all others."""
        for name, value in encoded.values.items():
            self._txn.put(_key(encoded.entry.number), value, db=self._databases[name], append=True)

    def delete(self, number: int) -> None:
        for name in ("documents", *ARRAYS):
            self._txn.delete(_key(number), db=self._databases[name])

    def put_generation(self, generation: int, entries: list[Entry]) -> None:
        """entries: by rising number."""
        numbers = np.array([entry.number for entry in entries], dtype=">u8").tobytes()
        self._txn.put(_key(generation), numbers, db=self._databases["generations"])
        self._txn.put(_key(generation), msgpack.packb(_table(entries)), db=self._databases["tables"])

    def delete_generation(self, generation: int) -> None:
        for name in ("generations", "tables"):
            self._txn.delete(_key(generation), db=self._databases[name])

    def abort(self) -> None:
        self._txn.abort()

    def _embeddings(self, entry: Entry) -> NDArray[np.float16]:
        return self._array("embeddings", entry, np.dtype(("<f2", (DIMENSION,))))

    def _array(self, name: str, entry: Entry, row: np.dtype[Any]) -> NDArray[Any]:
        value = self._get(name, entry.number)
        if len(value) != entry.snippets * row.itemsize:
            expected = f"{entry.snippets} snippets of {row.itemsize} bytes"
            raise self._damaged(entry.number, f"expected {expected} in {name}, got {len(value)} bytes")
        return np.frombuffer(value, dtype=row)

    def _get(self, name: str, key: int) -> bytes:
        try:
            value: bytes | None = self._txn.get(_key(key), db=self._databases[name])
        except lmdb.Error as exc:
            raise self._damaged(key, f"cannot be read from {name}: {exc}") from exc
        if value is None:
            raise self._damaged(key, f"is missing from {name}")
        return value

    def _keys(self, name: str) -> list[int]:
        with self._txn.cursor(db=self._databases[name]) as cursor:
            return [int.from_bytes(key, "big") for key in cursor.iternext(values=False)]

    def _damaged(self, key: int, what: str) -> CollectionDamagedError:
        return CollectionDamagedError(self._path.parent, f"{self._path.name}: number {key} {what}")


class Stored:
    """The sequences of some documents, left on disk: read when they are taken, all in one go."""

    def __init__(self, txn: Transaction, entries: list[Entry], lock: threading.RLock) -> None:
        """lock: whoever reads from `txn` holds it, for LMDB bears one thread at a time."""
        self._txn = txn
        self._entries = entries
        self._lock = lock
        self.offsets = np.cumsum([0, *(entry.snippets for entry in entries)], dtype=np.int64)

    def take(self, documents: NDArray[np.int64]) -> Packed:
        """As `Packed.take`. Raises CollectionDamagedError if a sequence is not as long as it was said to be."""
        with self._lock:
            return self._txn.packed(self._entries[number] for number in documents.tolist())


class Store:
    """The LMDB file, open. LMDB forbids to open a file twice in a process, so all its users share one `Store`."""

    _open: dict[tuple[int, int, int], "Store"] = {}  # noqa: RUF012 (the registry of this process)
    _guard = threading.Lock()

    def __init__(self, path: Path, *, create: bool) -> None:
        # A reader opens the file for writing too where it may, for a writer in the same process shares it.
        self.writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        self._path = path
        self._users = 0
        self._env = lmdb.open(
            str(path),
            subdir=False,
            map_size=MAP_SIZE,
            max_dbs=len(DATABASES),
            readonly=not self.writable,
            lock=self.writable,
            create=create,
        )
        try:
            self._databases = {name: self._env.open_db(name.encode(), create=create) for name in DATABASES[:-1]}
            with contextlib.suppress(lmdb.NotFoundError, lmdb.ReadonlyError):  # format version 1 has no tables
                self._databases["tables"] = self._env.open_db(b"tables", create=self.writable)
        except lmdb.Error:
            self._env.close()
            raise

    @classmethod
    def acquire(cls, path: Path, *, create: bool = False) -> "Store":
        """The store of the LMDB file `path`; each acquire needs one release.

        Raises CollectionDamagedError if LMDB refuses it.
        """
        if create:
            path.touch()
        with cls._guard:
            try:
                status = path.stat()
                key = (os.getpid(), status.st_dev, status.st_ino)
                if key not in cls._open:
                    cls._open[key] = cls(path, create=create)
            except (lmdb.Error, OSError) as exc:
                raise CollectionDamagedError(path.parent, f"{path.name} cannot be opened: {exc}") from exc
            store = cls._open[key]
            store._users += 1
            return store

    def release(self) -> None:
        with self._guard:
            self._users -= 1
            if self._users == 0:
                self._env.close()
                for key in [key for key, store in self._open.items() if store is self]:
                    del self._open[key]

    def begin(self) -> Transaction:
        """A snapshot to read from; `abort` ends it."""
        return Transaction(self._path, self._env.begin(), self._databases)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        transaction = self.begin()
        try:
            yield transaction
        finally:
            transaction.abort()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Transaction]:
        """All of what is done inside, durable, or nothing of it.

        Raises CollectionError if the file cannot be written.
        """
        try:
            with self._env.begin(write=True) as txn:
                yield Transaction(self._path, txn, self._databases)
        except lmdb.Error as exc:
            raise CollectionError(self._path.parent, f"{self._path.name} cannot be written: {exc}") from exc

    def clear_dead_readers(self) -> None:
        """Lets the space be used again that readers kept which were killed."""
        self._env.reader_check()


def verify(path: Path) -> None:
    """Raises CollectionDamagedError if the LMDB file is not sound in structure; never maps it.

    A writer may put new pages where old ones were while this reads: a fault counts only if the file's two meta
    pages stayed as they were.
    """
    while True:
        before = _metas(path)
        try:
            problems = lmdb.verify.verify(path, subdir=False)
        except (lmdb.verify.VerifyError, OSError) as exc:
            problems = [str(exc)]
        faults = [problem for problem in problems if " leak " not in problem]  # space lost, nothing else
        if not faults:
            return
        if _metas(path) == before:
            raise CollectionDamagedError(path.parent, f"{path.name}: {faults[0]}")
        time.sleep(0.05)


def _metas(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 16)  # two pages of the largest size there is


def _table(entries: list[Entry]) -> dict[str, Any]:
    """All but the numbers, by column."""
    return {
        "kinds": bytes(KINDS.index(entry.kind) for entry in entries),
        "snippets": np.array([entry.snippets for entry in entries], dtype="<u4").tobytes(),
        "checksums": b"".join(entry.checksum for entry in entries),
        "ids": [entry.id for entry in entries],
        "fingerprints": [entry.content_hash for entry in entries],
    }


def _entries(numbers: list[int], table: dict[str, Any]) -> list[Entry]:
    """Raises ValueError, TypeError or KeyError if the table is none of these numbers."""
    checksums = np.frombuffer(table["checksums"], dtype="V32").tolist()
    snippets = np.frombuffer(table["snippets"], dtype="<u4").tolist()
    columns = numbers, table["ids"], table["kinds"], table["fingerprints"], snippets, checksums
    return [
        Entry(number=number, id=id, kind=KINDS[kind], content_hash=content_hash, snippets=count, checksum=checksum)
        for number, id, kind, content_hash, count, checksum in zip(*columns, strict=True)
    ]


def _entry(number: int, document: Document, checksum: bytes) -> Entry:
    return Entry(
        number=number,
        id=document.id,
        kind=document.kind,
        content_hash=document.content_hash,
        snippets=int(document.snippets),
        checksum=checksum,
    )


def _stored(name: str) -> str:
    """The name on disk of a document's field."""
    return STORED_NAMES.get(name, name)


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _flat(system: System) -> list[Any]:
    boxes = [[box.x0, box.y0, box.x1, box.y1] for box in (system.box, *system.staves)]
    return [system.page, system.number, boxes, system.staff_space, system.confidence]


def _system(flat: list[Any]) -> System:
    page, number, boxes, staff_space, confidence = flat
    box, *staves = (Box(x0=x0, y0=y0, x1=x1, y1=y1) for x0, y0, x1, y1 in boxes)
    return System(
        page=page, number=number, box=box, staves=tuple(staves), staff_space=staff_space, confidence=confidence
    )
