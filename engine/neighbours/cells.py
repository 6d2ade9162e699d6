"""The index of many rows: an inverted file, of whose cells a search reads a fixed number.

Rows lie in cells of some 300, each the rows nearest to one centroid. A graph over the centroids (HNSW) finds the cells
to search, so a search takes the same time however many rows there are. A row takes 41 bytes: 8 bits a number and its
id. The index lies on disk, and a search reads the cells that it needs.
"""

from typing import Any, TypeGuard

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.neighbours.blocks import blocks, sample
from engine.neighbours.centroids import learn
from engine.neighbours.flat import FlatIndex
from engine.neighbours.interface import PROBES, Neighbours, nearest
from engine.values import DIMENSION, Documents, Embeddings

EXACT_ROWS = 250_000
"""Up to so many rows the index is flat, and no file is kept: the index is the embeddings."""
CELL_ROWS = 300
"""Rows of a cell, about. The number of cells is a power of two."""
SAMPLE_ROWS = 40
"""Rows a centroid is learnt from."""
ASSIGN_PROBES = 4
"""First-level cells in which a row's cell is sought: nine in ten rows come into the one whose centroid is nearest."""
GRAPH_DEGREE, GRAPH_EFFORT = 16, 80
"""The graph over the centroids: links of a node, and nodes held in view while it is built."""


class CellIndex:
    """An index that compares the rows of a few cells."""

    concurrent = True

    def __init__(self, raw: Any) -> None:
        """raw: a FAISS inverted file over embeddings, on a CPU or a GPU."""
        self.raw: Any = raw

    @property
    def ntotal(self) -> int:
        return int(self.raw.ntotal)

    def search(self, query: Embeddings, k: int, probes: int = PROBES) -> Neighbours:
        """As `Index.search`."""
        faiss.omp_set_num_threads(1)  # see `FlatIndex.search`
        parameters: Any = faiss.SearchParametersIVF(nprobe=probes)  # type: ignore[call-arg]
        if _has_graph(self.raw):
            effort = max(PROBES, probes)
            parameters.quantizer_params = faiss.SearchParametersHNSW(efSearch=effort)  # type: ignore[attr-defined]
        similarities, rows = self.raw.search(np.ascontiguousarray(query), k, params=parameters)
        return similarities, rows

    def movable(self) -> Any:
        """The FAISS index in a form that a GPU can hold: FAISS has no graphs there, so a search compares all centroids.

        Rows are not copied.
        """
        if not _has_graph(self.raw):
            return self.raw
        centroids = faiss.IndexFlatIP(DIMENSION)
        centroids.add(self.raw.quantizer.reconstruct_n(0, self.raw.nlist))
        plain = _empty(centroids, self.raw.nlist)
        plain.replace_invlists(self.raw.invlists, False)
        plain.sq, plain.ntotal, plain.is_trained = self.raw.sq, self.ntotal, True
        return plain

    def describe(self) -> str:
        return f"{self.raw.nlist} cells found by a graph, {self.raw.code_size} bytes a snippet"


def cell_count(rows: int) -> int:
    """The number of cells of an index of so many rows; 0 for a flat index."""
    return 0 if rows <= EXACT_ROWS else 1 << max(0, round(np.log2(rows / CELL_ROWS)))


def build(documents: Documents, *, threads: int) -> CellIndex:
    """The index of more than EXACT_ROWS snippets; memory holds the index alone while it is built."""
    faiss.omp_set_num_threads(threads)
    count = cell_count(int(documents.offsets[-1] - documents.offsets[0]))
    centroids, assigning = learn(sample(documents, SAMPLE_ROWS * count), count)
    graph = faiss.IndexHNSWFlat(DIMENSION, GRAPH_DEGREE, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = GRAPH_EFFORT
    graph.add(centroids)
    raw = _empty(graph, len(centroids))
    raw.quantizer_trains_alone = 2  # its centroids are there
    raw.train(sample(documents, SAMPLE_ROWS * DIMENSION))
    first_level = CellIndex(assigning)
    for block in blocks(documents):
        _put(raw, block, nearest(first_level, block, 1, threads=threads, probes=ASSIGN_PROBES)[1])
    return CellIndex(raw)


def extend(index: CellIndex, rows: NDArray[np.int64], new: Documents, *, threads: int) -> CellIndex:
    """The index of the current documents, made from an older one whose cells stay, which takes seconds.

    index: holds as many cells as the current number of rows asks for (`extendable`).
    rows: int64 (index.ntotal,), which row each of its rows is now; those that stay come before all new ones. -1: gone.
    """
    faiss.omp_set_num_threads(threads)
    old = index.raw
    raw = _empty(faiss.clone_index(old.quantizer), old.nlist)
    raw.sq, raw.is_trained = old.sq, True
    for cell in range(old.nlist):
        size = old.invlists.list_size(cell)
        if size > 0:
            numbers = rows[faiss.rev_swig_ptr(old.invlists.get_ids(cell), size)]
            codes = faiss.rev_swig_ptr(old.invlists.get_codes(cell), size * old.code_size).reshape(size, -1)
            kept = numbers >= 0
            arrays = numbers[kept], np.ascontiguousarray(codes[kept])
            raw.invlists.add_entries(cell, len(arrays[0]), *map(faiss.swig_ptr, arrays))
    raw.ntotal = int(np.count_nonzero(rows >= 0))
    graph = faiss.downcast_index(raw.quantizer)
    parameters: Any = faiss.SearchParametersHNSW(efSearch=PROBES)  # type: ignore[attr-defined]
    for block in blocks(new):
        _put(raw, block, graph.search(block, 1, params=parameters)[1])
    return CellIndex(raw)


def extendable(index: FlatIndex | CellIndex, rows: int) -> TypeGuard[CellIndex]:
    """Whether an index has as many cells as one of so many rows."""
    return isinstance(index, CellIndex) and 1 << round(np.log2(index.raw.nlist)) == cell_count(rows)


def _has_graph(raw: Any) -> bool:
    return isinstance(faiss.downcast_index(raw.quantizer), faiss.IndexHNSW)


def _empty(quantizer: Any, count: int) -> Any:
    """An empty FAISS inverted file of `count` cells, whose centroids are those of the quantizer."""
    raw = faiss.IndexIVFScalarQuantizer(
        quantizer, DIMENSION, count, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    raw.nprobe = PROBES
    return raw


def _put(raw: Any, block: Embeddings, cell: NDArray[np.int64]) -> None:
    """Adds rows, each to the cell given for it, int64 (rows, 1)."""
    numbers = np.arange(raw.ntotal, raw.ntotal + len(block), dtype=np.int64)
    raw.add_core(len(block), *(faiss.swig_ptr(array) for array in (block, numbers, cell)))
