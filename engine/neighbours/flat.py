"""The flat index: compares each query snippet with every row, so its results are exact."""

from typing import Any

import faiss
import numpy as np

from engine.neighbours.blocks import blocks
from engine.neighbours.interface import Neighbours, merged, nearest
from engine.values import DIMENSION, Documents, Embeddings


class FlatIndex:
    """An index that compares each query snippet with every row. A row takes 128 bytes."""

    cells = 0
    concurrent = True
    fell_back = False

    def __init__(self, raw: Any = None) -> None:
        """Wraps a FAISS index, by default a new and empty index over embeddings.

        raw: any FAISS index whose search needs no parameters.
        """
        self.raw: Any = faiss.IndexFlatIP(DIMENSION) if raw is None else raw

    @property
    def ntotal(self) -> int:
        return int(self.raw.ntotal)

    def search(self, query: Embeddings, k: int, probes: int = 0) -> Neighbours:
        """The k nearest rows of each query snippet; see `Index.search`. Without cells, `probes` has no effect."""
        # FAISS's own threads spin while they wait; on a busy machine, a search took a hundred times longer.
        faiss.omp_set_num_threads(1)  # affects only the calling thread, so every search sets it
        similarities, rows = self.raw.search(np.ascontiguousarray(query), k, params=None)
        return similarities, rows

    def movable(self) -> Any:
        """The FAISS index in a form that a GPU can hold."""
        return self.raw

    def describe(self) -> str:
        return "flat"


def build(documents: Documents) -> FlatIndex:
    """A new flat index of the documents."""
    index = FlatIndex()
    for block in blocks(documents):
        index.raw.add(block)
    return index


def exact(documents: Documents, query: Embeddings, k: int, *, threads: int) -> Neighbours:
    """The k nearest snippets of each query snippet, by comparing all snippets: the reference for measuring recall."""
    best: list[Neighbours] = []
    done = 0
    for block in blocks(documents):
        flat = FlatIndex()
        flat.raw.add(block)
        similarities, rows = nearest(flat, query, k, threads=threads)
        best = [merged([*best, (similarities, rows + done)], k)]
        done += len(block)
    return best[0]
