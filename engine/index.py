"""The FAISS index over the snippets of one kind: row i is snippet i of the documents packed one after the other."""

import hashlib
import io
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.values import DIMENSION, Embeddings

logger = logging.getLogger(__name__)

Index = Any
"""A faiss.Index, which has no types, or a CardIndex."""

EXACT_ROWS = 1_000_000
"""Up to so many rows every one is compared.

At 200,000 rows an exact search for 200 snippets takes 0.7 s of one core, one in 1/16 of the lists 0.03 s; it finds 79 %
(formless clouds) to 99.6 % (tight clusters) of the true 25 neighbours, so it waits until the time is worth that.
"""
ADD_ROWS = 1 << 18
"""Rows turned to float32 at a time."""
SHARE = 8
"""Query snippets that are worth a thread."""
CARD_ROWS = 100_000
"""Of fewer rows a CPU finds the nearest before a GPU is asked."""
CARD_BYTES = 8 << 30
"""Of a GPU's memory for one index, at most; alignment and other processes need some too."""
CARD_SCRATCH_BYTES = 256 << 20
"""Of its memory for a search; FAISS would take 1.5 GiB."""

# From so many query snippets on FAISS multiplies matrices. Its own default here, 128,000, means that it compares one by
# one, which takes twice as long (1.5 against 0.7 ms a snippet among 220,000).
faiss.cvar.distance_compute_blas_threshold = 2


class CardIndex:
    """An index on the first GPU. It may be asked by any number of threads, and works for one at a time.

    Once the GPU fails, the index that it was copied from is asked instead.
    """

    def __init__(self, index: Index) -> None:
        """Raises RuntimeError if the GPU has no room for the index, or cannot hold one of its type."""
        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(CARD_SCRATCH_BYTES)
        self._original = index
        self._asked = faiss.index_cpu_to_gpu(self._resources, 0, index)
        self._lock = threading.Lock()
        self.ntotal: int = index.ntotal

    def search(self, query: Embeddings, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As `faiss.Index.search`."""
        with self._lock:
            try:
                similarities, rows = self._asked.search(query, k)
            except RuntimeError as exc:
                if self._asked is self._original:
                    raise
                logger.warning("the CPU looks for neighbours from here on: FAISS on the GPU failed: %s", exc)
                self._asked = self._original
                similarities, rows = self._asked.search(query, k)
        return similarities, rows


def on_card(index: Index, *, budget_bytes: int = CARD_BYTES) -> Index:
    """The index on a GPU, where that pays and there is room; else itself. The log says why."""
    needed = index.ntotal * (index.sa_code_size() + 8)
    cause = None
    if gpus() == 0:
        cause = "FAISS finds no GPU"
    elif index.ntotal < CARD_ROWS:
        cause = f"it has fewer than {CARD_ROWS} rows"
    elif needed > budget_bytes:
        cause = f"it needs {needed / 2**30:.1f} GiB of the {budget_bytes / 2**30:.1f} GiB it may have on the GPU"
    else:
        try:
            index = CardIndex(index)
        except RuntimeError as exc:
            cause = f"the GPU cannot hold it: {exc}"
    logger.info("an index of %d rows is searched on %s", index.ntotal, f"the CPU: {cause}" if cause else "the GPU")
    return index


def gpus() -> int:
    """How many GPUs the installed FAISS can use."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0


def choose(rows: int) -> str:
    """The FAISS factory string of the index to build for so many snippets."""
    if rows <= EXACT_ROWS:
        return "Flat"
    return f"IVF{4 * int(rows**0.5)},SQfp16"


def build(embeddings: NDArray[np.float16] | NDArray[np.float32], *, threads: int) -> Index:
    """An index by inner product; embeddings: (n, 32), unit rows."""
    faiss.omp_set_num_threads(threads)
    index = faiss.index_factory(DIMENSION, choose(len(embeddings)), faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        lists = faiss.extract_index_ivf(index)
        lists.nprobe = max(1, lists.nlist // 16)
        sample = np.random.default_rng(0).choice(len(embeddings), min(len(embeddings), 64 * lists.nlist), replace=False)
        _train(index, lists, np.ascontiguousarray(embeddings[np.sort(sample)], dtype=np.float32))
    for start in range(0, len(embeddings), ADD_ROWS):
        index.add(np.ascontiguousarray(embeddings[start : start + ADD_ROWS], dtype=np.float32))
    return index


def _train(index: Index, lists: Index, sample: Embeddings) -> None:
    """Trains an index by its `lists`; what takes long, the k-means, on a GPU if there is one."""
    if gpus() > 0:
        resources = faiss.StandardGpuResources()
        clusters = faiss.index_cpu_to_gpu(resources, 0, faiss.IndexFlatIP(DIMENSION))
        lists.clustering_index = clusters
    index.train(sample)
    lists.clustering_index = None


def save(index: Index, path: Path) -> tuple[int, str]:
    """Writes a file that survives a power cut (its name apart); returns its size in bytes and its SHA-256 (hex).

    Raises OSError if it cannot be written.
    """
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as exc:
        raise OSError(f"{path}: FAISS cannot write it: {exc}") from exc
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size, checksum(file)


def checksum(file: io.BufferedIOBase) -> str:
    """SHA-256 (hex) of a whole file."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def load(file: io.BufferedIOBase) -> Index:
    """The index that an open file holds, even if its name is gone.

    Raises ValueError if FAISS cannot read it as one over embeddings.
    """
    file.seek(0)
    try:
        index = faiss.read_index(faiss.PyCallbackIOReader(file.read))  # type: ignore[attr-defined]
    except (RuntimeError, MemoryError) as exc:
        raise ValueError(f"FAISS cannot read it: {exc}") from exc
    if index.d != DIMENSION:
        raise ValueError(f"expected an index over {DIMENSION} dimensions, got {index.d}")
    return index


def nearest(
    index: Index, query: Embeddings, neighbours: int, *, threads: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Similarities float32 (N, k) and rows int64 (N, k) of the nearest snippets, best first; row -1: there are no more.

    k is `neighbours`, or the size of the index where that is less.
    """
    k = max(1, min(neighbours, index.ntotal))

    def search(part: Embeddings) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        # FAISS's own threads wait for each other by spinning: on a busy machine that takes a hundred times as long.
        faiss.omp_set_num_threads(1)  # holds for the calling thread alone, so it is said before each search
        similarities, rows = index.search(np.ascontiguousarray(part), k)
        return similarities, rows

    shares = 1 if isinstance(index, CardIndex) else min(threads, len(query) // SHARE)
    if shares <= 1:
        return search(query)
    with ThreadPoolExecutor(shares) as pool:
        similarities, rows = zip(*pool.map(search, np.array_split(query, shares)), strict=True)
    return np.concatenate(similarities), np.concatenate(rows)
