"""Index files: written whole, and mapped into memory when they are read."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import faiss

from engine.neighbours.cells import CellIndex
from engine.neighbours.flat import FlatIndex
from engine.values import DIMENSION


def save(index: FlatIndex | CellIndex, path: Path) -> tuple[int, str]:
    """Writes a file that survives a power cut (its name apart); returns its size in bytes and its SHA-256 (hex).

    Raises OSError if it cannot be written.
    """
    try:
        faiss.write_index(index.raw, str(path))
    except RuntimeError as exc:
        raise OSError(f"{path}: FAISS cannot write it: {exc}") from exc
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size, checksum(file)


def checksum(file: io.BufferedIOBase) -> str:
    """SHA-256 (hex) of a whole file."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def load(file: io.BufferedIOBase) -> FlatIndex | CellIndex:
    """The index that an open file holds, even if its name is gone, mapped into memory: searches read what they need.

    Raises ValueError if FAISS cannot read it as one over embeddings.
    """
    file.seek(0)
    try:
        raw: Any = faiss.read_index(f"/dev/fd/{file.fileno()}", faiss.IO_FLAG_MMAP)
    except (RuntimeError, MemoryError) as exc:
        raise ValueError(f"FAISS cannot read it: {exc}") from exc
    if raw.d != DIMENSION:
        raise ValueError(f"expected an index over {DIMENSION} dimensions, got {raw.d}")
    if not isinstance(raw, faiss.IndexIVF):
        return FlatIndex(raw)
    # Threads that read ahead for each search cost it a third more when the file is in memory already.
    lists: Any = raw.invlists
    faiss.downcast_InvertedLists(lists).prefetch_nthread = 0  # type: ignore[attr-defined]
    return CellIndex(raw)
