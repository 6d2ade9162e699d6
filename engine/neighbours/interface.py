"""What every index of snippets does, and how threads share a search."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.values import Embeddings

PROBES = 64
"""Cells searched for each query snippet, unless the caller says otherwise."""
SHARE = 6
"""Query snippets that are worth a thread."""

Neighbours = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Similarities float32 (N, k) and rows int64 (N, k) for N query snippets, best first; row -1: there are no more."""


class Index(Protocol):
    """An index over the snippets of many documents: row i is snippet i of the documents packed one after the other."""

    @property
    def ntotal(self) -> int:
        """The number of rows."""

    @property
    def concurrent(self) -> bool:
        """Whether threads that search at the same time are faster than one thread."""

    def search(self, query: Embeddings, k: int, probes: int) -> Neighbours:
        """The k nearest rows of each query snippet, found by the calling thread alone.

        query: float32 (N, 32). probes: cells searched for each query snippet, if the index has cells.
        """

    def describe(self) -> str:
        """The type of the index, for people."""


def nearest(index: Index, query: Embeddings, neighbours: int, *, threads: int, probes: int = PROBES) -> Neighbours:
    """The nearest snippets of each query snippet, found by up to `threads` threads.

    k is `neighbours`, or the size of the index where that is less. probes: see `Index.search`.
    """
    k = max(1, min(neighbours, index.ntotal))
    shares = min(threads, len(query) // SHARE) if index.concurrent else 1
    if shares <= 1:
        return index.search(query, k, probes)
    with ThreadPoolExecutor(shares) as pool:
        found = pool.map(lambda part: index.search(part, k, probes), np.array_split(query, shares))
        similarities, rows = zip(*found, strict=True)
    return np.concatenate(similarities), np.concatenate(rows)


def merged(found: Iterable[Neighbours], k: int) -> Neighbours:
    """The best k neighbours of each query snippet among those found in several places."""
    similarities, rows = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(rows, order, axis=1)


def gpus() -> int:
    """The number of GPUs that the installed FAISS can use."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0
