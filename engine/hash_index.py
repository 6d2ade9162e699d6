"""Hashes of the snippets of one kind in an LMDB file, by cell: what `engine.hashing` needs for a lookup, on disk.

The file is derived from the packed snippets of a generation, never changed, and can be built again. Databases:
`header` (`header` -> msgpack; `centroids` -> float32 (cells, 32); `rotation` -> float32 (32, 32)) and `cells`
(cell, unsigned 32-bit big-endian -> its POSTINGs, rows rising). Numbers in values are little-endian.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import msgpack
import numpy as np
from numpy.typing import NDArray

from engine import hashing
from engine.collection.store import MAP_SIZE
from engine.errors import CollectionDamagedError, CollectionVersionError
from engine.fingerprint import Hits
from engine.hashing import POSTING, Hashes
from engine.neighbours import checksum
from engine.values import DIMENSION, Embeddings, Packed

FORMAT = "scorefind hashes"
VERSION = 1
PROBES = 16
"""Cells read for each query snippet; see `bench.shortlist` for others."""


def build(packed: Packed, path: Path, *, threads: int = 1) -> tuple[int, str]:
    """Writes the file; returns its size in bytes and its SHA-256 (hex), as `engine.neighbours.save` does.

    Raises OSError if it cannot be written, ValueError for more snippets than 32 bits count.
    """
    rows = int(packed.offsets[-1])
    if rows >= 1 << 32:
        raise ValueError(f"expected fewer than 2^32 snippets, got {rows}: split the collection")
    hashes = hashing.learn(packed.embeddings[:rows], threads=threads)
    cells, postings = hashing.postings(hashes, packed.embeddings[:rows], packed.bias[:rows], threads=threads)
    header = {"format": FORMAT, "version": VERSION, "rows": rows}
    values = {
        "header": msgpack.packb(header),
        "centroids": hashes.centroids.astype("<f4").tobytes(),
        "rotation": hashes.rotation.astype("<f4").tobytes(),
    }
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        with lmdb.open(str(unfinished), subdir=False, map_size=MAP_SIZE, max_dbs=2, lock=False) as env:
            databases = {name: env.open_db(name.encode()) for name in ("header", "cells")}
            with env.begin(write=True) as txn:
                for name, value in values.items():
                    txn.put(name.encode(), value, db=databases["header"])
                for cell, value in _by_cell(cells, postings):
                    txn.put(_key(cell), value, db=databases["cells"], append=True)
    except lmdb.Error as exc:
        raise OSError(f"{unfinished}: LMDB cannot write it: {exc}") from exc
    unfinished.replace(path)
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size, checksum(file)


def _by_cell(cells: NDArray[np.int32], postings: NDArray[Any]) -> Iterator[tuple[int, bytes]]:
    """Each cell that holds any, rising, and its postings."""
    order = np.argsort(cells, kind="stable")
    borders = np.flatnonzero(np.diff(cells[order], prepend=-1))
    for some in np.split(order, borders[1:]):
        if len(some):
            yield int(cells[some[0]]), postings[some].tobytes()


class HashIndex:
    """The file, open for lookup; any number of threads may ask it at once. A forked process may not use it."""

    _open: dict[tuple[int, int, int], "HashIndex"] = {}  # noqa: RUF012 (the registry of this process)
    _guard = threading.Lock()

    def __init__(self, path: Path) -> None:
        """Use `HashIndex.open`. `rows` is how many snippets it holds."""
        self._path = path
        self._users = 0
        self._env = lmdb.open(str(path), subdir=False, max_dbs=2, readonly=True, lock=False, create=False)
        try:
            self._cells = self._env.open_db(b"cells", create=False)
            self._hashes, self.rows = _read_header(self._env, path)
        except BaseException:
            self._env.close()
            raise

    @classmethod
    def open(cls, path: Path) -> "HashIndex":
        """The index of the file `path`; each open needs one close. LMDB forbids to open a file twice in a process, so
        all users share one.

        LMDB trusts its file, and one that lacks its end kills the process: whoever has kept the size that `build` told
        compares it first. Raises CollectionDamagedError if it cannot be read, CollectionVersionError if its format is a
        newer one.
        """
        with cls._guard:
            try:
                status = path.stat()
                key = (os.getpid(), status.st_dev, status.st_ino)
                if key not in cls._open:
                    cls._open[key] = cls(path)
            except (lmdb.Error, OSError, ValueError, LookupError, TypeError, msgpack.UnpackException) as exc:
                raise CollectionDamagedError(path.parent, f"{path.name} cannot be opened: {exc}") from exc
            cls._open[key]._users += 1
            return cls._open[key]

    def close(self) -> None:
        with self._guard:
            self._users -= 1
            if self._users == 0:
                self._env.close()
                for key in [key for key, index in self._open.items() if index is self]:
                    del self._open[key]

    def __enter__(self) -> "HashIndex":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def lookup(self, query: Embeddings, *, probes: int = PROBES, use_bias: bool = True) -> Hits:
        """The hits of the query in the cells it is most like, weighted as by `fingerprint.nearest_hits`, nearly.

        query: float32 (N, 32).
        probes: cells read for each query snippet.
        use_bias: False if the query is of the kind of what it is sought in.
        Raises CollectionDamagedError if the file holds what it cannot.
        """
        probed, likeness = hashing.probe(self._hashes, query, probes)
        cells, places = np.unique(probed, return_inverse=True)
        postings, borders = self._postings(cells)
        places = places.reshape(probed.shape)
        return hashing.estimated_hits(self._hashes, query, places, likeness, postings, borders, use_bias=use_bias)

    def _postings(self, cells: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The postings of these cells, one cell's after the other's; int64 (cells + 1,), where each cell's start."""
        with self._env.begin(buffers=True) as txn:
            values = [txn.get(_key(cell), default=b"", db=self._cells) for cell in cells.tolist()]
            lengths = [len(value) for value in values]
            joined = b"".join(values)
        if any(length % POSTING.itemsize for length in lengths):
            raise self._damaged(f"expected postings of {POSTING.itemsize} bytes, got {lengths}")
        postings = np.frombuffer(joined, POSTING)
        if len(postings) and int(postings["row"].max()) >= self.rows:
            raise self._damaged(f"expected {self.rows} snippets, got number {postings['row'].max()}")
        return postings, np.cumsum([0, *lengths]) // POSTING.itemsize

    def _damaged(self, cause: str) -> CollectionDamagedError:
        return CollectionDamagedError(self._path.parent, f"{self._path.name}: {cause}")


def _read_header(env: Any, path: Path) -> tuple[Hashes, int]:
    """What turns embeddings into hashes, and how many snippets there are."""
    database = env.open_db(b"header", create=False)
    with env.begin(db=database) as txn:
        values = {name: txn.get(name.encode(), default=b"") for name in ("header", "centroids", "rotation")}
    header = msgpack.unpackb(values["header"])
    if header["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT!r}, got {header['format']!r}")
    if header["version"] > VERSION:
        cause = f"{path.name} has format version {header['version']}, this program reads up to {VERSION}"
        raise CollectionVersionError(path.parent, cause)
    hashes = Hashes(
        centroids=np.frombuffer(values["centroids"], "<f4").reshape(-1, DIMENSION),
        rotation=np.frombuffer(values["rotation"], "<f4").reshape(DIMENSION, DIMENSION),
    )
    return hashes, int(header["rows"])


def _key(cell: int) -> bytes:
    return cell.to_bytes(4, "big")
