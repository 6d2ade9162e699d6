"""The flat index: each query snippet is compared with every row, so what it finds is exact."""

from typing import Any

import faiss
import numpy as np

from engine.neighbours.blocks import blocks
from engine.neighbours.interface import Neighbours, merged, nearest
from engine.values import DIMENSION, Documents, Embeddings


class FlatIndex:
    """An index that compares every row. 128 bytes a row."""

    concurrent = True

    def __init__(self, raw: Any = None) -> None:
        """raw: a FAISS index that is searched as it is; by default an empty one over embeddings."""
        self.raw: Any = faiss.IndexFlatIP(DIMENSION) if raw is None else raw

    @property
    def ntotal(self) -> int:
        return int(self.raw.ntotal)

    def search(self, query: Embeddings, k: int, probes: int = 0) -> Neighbours:
        """As `Index.search`; there are no cells, so `probes` changes nothing."""
        # FAISS's own threads spin while they wait for each other, which took a hundred times as long on a busy machine.
        faiss.omp_set_num_threads(1)  # holds for the calling thread alone, so it is set before each search
        similarities, rows = self.raw.search(np.ascontiguousarray(query), k, params=None)
        return similarities, rows

    def movable(self) -> Any:
        """The FAISS index in a form that a GPU can hold."""
        return self.raw

    def describe(self) -> str:
        return "flat"


def build(documents: Documents) -> FlatIndex:
    """The flat index of the documents."""
    index = FlatIndex()
    for block in blocks(documents):
        index.raw.add(block)
    return index


def exact(documents: Documents, query: Embeddings, k: int, *, threads: int) -> Neighbours:
    """The nearest snippets by comparing all of them, block after block: the truth that recall is measured against."""
    found: list[Neighbours] = []
    done = 0
    for block in blocks(documents):
        flat = FlatIndex()
        flat.raw.add(block)
        similarities, rows = nearest(flat, query, k, threads=threads)
        found = [merged([*found, (similarities, rows + done)], k)]
        done += len(block)
    return found[0]
