"""An index on a GPU: a copy of an index on the CPU."""

import logging
import threading

import faiss

from engine.neighbours.interface import PROBES, FaissIndex, Index, Neighbours, gpus
from engine.values import Embeddings

logger = logging.getLogger(__name__)

MIN_ROWS = 100_000
"""Minimum number of rows for a GPU; with fewer rows, the CPU finishes a search before a GPU would."""
MAX_BYTES = 8 << 30
"""Maximum GPU memory of one index; alignment and other processes need GPU memory too."""
SCRATCH_BYTES = 256 << 20
"""GPU memory for the intermediate results of a search; FAISS would reserve 1.5 GiB."""
MAX_K, MAX_CELLS_K = 2048, 512
"""Maximum number of neighbours per query snippet that FAISS finds on a GPU, in a flat index and in an index with cells.
MAX_K is also the maximum number of cells to search. Above MAX_CELLS_K, FAISS's kernel for rows of bytes needs more
shared memory than a block has, and FAISS ends the process (its issue 3207)."""


class GpuIndex:
    """An index on the first GPU. Any number of threads may search; a lock admits one thread at a time.

    Once the GPU fails, the original index on the CPU answers all searches.
    """

    concurrent = False

    def __init__(self, original: FaissIndex) -> None:
        """Copies an index to the GPU. Raises RuntimeError if the GPU lacks memory or cannot hold its type."""
        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(SCRATCH_BYTES)
        self._original = original
        self._max_k = MAX_CELLS_K if original.cells else MAX_K
        self._copy: Index | None = type(original)(faiss.index_cpu_to_gpu(self._resources, 0, original.movable()))
        self._lock = threading.Lock()

    @property
    def ntotal(self) -> int:
        return self._original.ntotal

    @property
    def cells(self) -> int:
        return self._original.cells

    @property
    def fell_back(self) -> bool:
        return self._copy is None

    def search(self, query: Embeddings, k: int, probes: int = PROBES) -> Neighbours:
        """The k nearest rows of each query snippet; see `Index.search`. Above the GPU's limits, the CPU searches."""
        if k > self._max_k or probes > MAX_K:
            return self._original.search(query, k, probes)
        with self._lock:
            if self._copy is not None:
                try:
                    return self._copy.search(query, k, probes)
                except RuntimeError as exc:
                    logger.warning("FAISS failed on the GPU; from now on the CPU finds neighbours: %s", exc)
                    self._copy = None
        return self._original.search(query, k, probes)

    def describe(self) -> str:
        return f"{self._original.describe()}, on a GPU"


def on_gpu(index: FaissIndex, *, budget_bytes: int = MAX_BYTES) -> Index:
    """A copy of the index on a GPU, or the index itself if no GPU helps or has room. The log gives the reason.

    budget_bytes: maximum GPU memory of the copy.
    """
    needed_bytes = index.ntotal * (index.raw.sa_code_size() + 8)
    cause = None
    if gpus() == 0:
        cause = "FAISS finds no GPU"
    elif index.ntotal < MIN_ROWS:
        cause = f"it has fewer than {MIN_ROWS} rows"
    elif needed_bytes > budget_bytes:
        cause = f"it needs {needed_bytes / 2**30:.1f} GiB of GPU memory, and {budget_bytes / 2**30:.1f} GiB are allowed"
    chosen: Index = index
    if cause is None:
        try:
            chosen = GpuIndex(index)
        except RuntimeError as exc:
            cause = f"the GPU cannot hold it: {exc}"
    logger.info("an index of %d rows is searched on %s", index.ntotal, f"the CPU: {cause}" if cause else "the GPU")
    return chosen
