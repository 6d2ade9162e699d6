"""Index files: `save` writes an index to a file, and `load` maps a file into memory."""

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss

from engine.neighbours.cells import CellIndex
from engine.neighbours.flat import FlatIndex
from engine.neighbours.interface import FaissIndex
from engine.values import DIMENSION

CHUNK_BYTES = 8 << 20
"""Bytes of a file that are read at a time."""


def save(index: FaissIndex, path: Path) -> tuple[int, str]:
    """Writes an index to a file; returns the size in bytes and the SHA-256 (hex) of the file.

    The content survives a power cut, but the name of the file does not until the caller syncs its folder.
    Raises OSError if the file cannot be written.
    """
    try:
        faiss.write_index(index.raw, str(path))
    except RuntimeError as exc:
        raise OSError(f"{path}: FAISS cannot write the index: {exc}") from exc
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size, checksum(file)


def checksum(file: io.BufferedIOBase, between: Callable[[], None] = lambda: None) -> str:
    """The SHA-256 (hex) of a whole file. `between` is called after each 8 MiB; it may sleep, or raise.

    The position in the file is neither used nor changed: another thread may load the index meanwhile.
    """
    digest, done = hashlib.sha256(), 0
    while chunk := os.pread(file.fileno(), CHUNK_BYTES, done):
        digest.update(chunk)
        done += len(chunk)
        between()
    return digest.hexdigest()


def load(file: io.BufferedIOBase) -> FaissIndex:
    """The index in an open file, mapped into memory, so that a search reads only what it needs.

    The file may have lost its name. Raises ValueError if it is not an index over embeddings that FAISS can read.
    """
    file.seek(0)
    try:
        raw: Any = faiss.read_index(f"/dev/fd/{file.fileno()}", faiss.IO_FLAG_MMAP)
    except (RuntimeError, MemoryError) as exc:
        raise ValueError(f"FAISS cannot read the index: {exc}") from exc
    if raw.d != DIMENSION:
        raise ValueError(f"expected an index over {DIMENSION} dimensions, got {raw.d}")
    if not isinstance(raw, faiss.IndexIVF):
        return FlatIndex(raw)
    # Read-ahead threads make a search a third slower if the file is already in memory, so there are none.
    lists: Any = raw.invlists
    faiss.downcast_InvertedLists(lists).prefetch_nthread = 0  # type: ignore[attr-defined]
    return CellIndex(raw)
