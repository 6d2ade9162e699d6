"""The interface of every index of snippets, and a search by several threads."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.values import Embeddings

PROBES = 64
"""Number of cells searched for each query snippet by default."""
MIN_SHARE = 6
"""Minimum number of query snippets for each thread."""

Neighbours = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Similarities, float32 (N, k), and rows, int64 (N, k), of the k nearest neighbours of N query snippets, best first.
The row is -1 where there are fewer than k neighbours."""


class Index(Protocol):
    """An index over the snippets of many documents. Row i is snippet i of the documents packed one after the other."""

    @property
    def ntotal(self) -> int:
        """The number of rows."""

    @property
    def cells(self) -> int:
        """The number of cells; 0 if a search compares every row."""

    @property
    def concurrent(self) -> bool:
        """Whether several threads that search at the same time are faster than one thread."""

    @property
    def fell_back(self) -> bool:
        """Whether a GPU that held the index has failed, so that the CPU searches."""

    def search(self, query: Embeddings, k: int, probes: int) -> Neighbours:
        """The k nearest rows of each query snippet. Only the calling thread computes.

        query: float32 (N, 32).
        probes: number of cells searched for each query snippet, if the index has cells.
        """

    def describe(self) -> str:
        """The type of the index, for people."""


class FaissIndex(Index, Protocol):
    """An index that is one FAISS index: it can be written to a file and copied to a GPU."""

    raw: Any
    """The FAISS index."""

    def __init__(self, raw: Any) -> None:
        """Wraps a FAISS index of this type, on a CPU or a GPU."""

    def movable(self) -> Any:
        """The FAISS index in a form that a GPU can hold."""


def nearest(index: Index, query: Embeddings, neighbours: int, *, threads: int, probes: int = PROBES) -> Neighbours:
    """The nearest snippets of each query snippet, found by at most `threads` threads.

    neighbours: number of neighbours; an index with fewer rows returns one neighbour per row.
    probes: see `Index.search`.
    """
    k = max(1, min(neighbours, index.ntotal))
    shares = min(threads, len(query) // MIN_SHARE) if index.concurrent else 1
    if shares <= 1:
        return index.search(query, k, probes)
    with ThreadPoolExecutor(shares) as pool:
        parts = pool.map(lambda part: index.search(part, k, probes), np.array_split(query, shares))
        similarities, rows = zip(*parts, strict=True)
    return np.concatenate(similarities), np.concatenate(rows)


def merged(results: Iterable[Neighbours], k: int) -> Neighbours:
    """The best k neighbours of each query snippet among the results of several indexes."""
    similarities, rows = (np.concatenate(parts, axis=1) for parts in zip(*results, strict=True))
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(rows, order, axis=1)


def gpus() -> int:
    """The number of GPUs that the installed version of FAISS can use."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0
