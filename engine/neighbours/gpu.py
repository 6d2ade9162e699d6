"""The index on a GPU, a copy of one in memory."""

import logging
import threading

import faiss

from engine.neighbours.cells import CellIndex
from engine.neighbours.flat import FlatIndex
from engine.neighbours.interface import PROBES, Index, Neighbours, gpus
from engine.values import Embeddings

logger = logging.getLogger(__name__)

MIN_ROWS = 100_000
"""Below so many rows a CPU finds the nearest before a GPU has its first answer."""
MAX_BYTES = 8 << 30
"""GPU memory for one index; alignment and other processes need some too."""
SCRATCH_BYTES = 256 << 20
"""GPU memory for a search; FAISS would take 1.5 GiB."""
MAX_K = 2048
"""Most neighbours that FAISS finds on a GPU for a query snippet, and most cells that it searches."""


class GpuIndex:
    """An index on the first GPU, for any number of threads; it works for one at a time.

    Once the GPU fails, the index that it was copied from answers instead.
    """

    concurrent = False

    def __init__(self, original: FlatIndex | CellIndex) -> None:
        """Raises RuntimeError if the GPU has no room for the index, or cannot hold one of its type."""
        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(SCRATCH_BYTES)
        self._original = original
        self._copy: Index | None = type(original)(faiss.index_cpu_to_gpu(self._resources, 0, original.movable()))
        self._lock = threading.Lock()

    @property
    def ntotal(self) -> int:
        return self._original.ntotal

    def search(self, query: Embeddings, k: int, probes: int = PROBES) -> Neighbours:
        """As `Index.search`."""
        if max(k, probes) > MAX_K:
            return self._original.search(query, k, probes)
        with self._lock:
            if self._copy is not None:
                try:
                    return self._copy.search(query, k, probes)
                except RuntimeError as exc:
                    logger.warning("FAISS on the GPU failed, so the CPU finds neighbours from here on: %s", exc)
                    self._copy = None
        return self._original.search(query, k, probes)

    def describe(self) -> str:
        return f"{self._original.describe()}, on a GPU"


def on_gpu(index: FlatIndex | CellIndex, *, budget_bytes: int = MAX_BYTES) -> Index:
    """A copy of the index on a GPU, where that pays and there is room; else the index itself. The log says why."""
    needed = index.ntotal * (index.raw.sa_code_size() + 8)
    cause = None
    if gpus() == 0:
        cause = "FAISS finds no GPU"
    elif index.ntotal < MIN_ROWS:
        cause = f"it has fewer than {MIN_ROWS} rows"
    elif needed > budget_bytes:
        cause = f"it needs {needed / 2**30:.1f} GiB of the {budget_bytes / 2**30:.1f} GiB it may have on the GPU"
    chosen: Index = index
    if cause is None:
        try:
            chosen = GpuIndex(index)
        except RuntimeError as exc:
            cause = f"the GPU cannot hold it: {exc}"
    logger.info("an index of %d rows is searched on %s", index.ntotal, f"the CPU: {cause}" if cause else "the GPU")
    return chosen
