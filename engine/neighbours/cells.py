"""The index of many rows: an inverted file, of which a search reads a fixed number of cells.

A cell has about 300 rows: the rows nearest to the cell's centroid. A graph over the centroids (HNSW) finds the cells to
search, so the time of a search does not depend on the number of rows. A row takes 41 bytes: 8 bits per dimension, 8
bytes of id, and its share of the graph. The index lies on disk, and a search reads only the cells that it needs.
"""

from typing import Any, TypeGuard

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.neighbours.blocks import blocks, sample
from engine.neighbours.centroids import learn
from engine.neighbours.interface import PROBES, FaissIndex, Neighbours, nearest
from engine.values import DIMENSION, Documents, Embeddings

EXACT_ROWS = 250_000
"""Maximum number of rows of a flat index. A flat index needs no file, because it consists of the embeddings."""
CELL_ROWS = 300
"""Mean number of rows in a cell, about: the number of cells is a power of two."""
SAMPLE_ROWS = 40
"""Number of rows that each centroid is learnt from, on average."""
ASSIGN_PROBES = 4
"""First-level cells searched for the cell of a row. With 4, nine in ten rows get the cell with the nearest centroid."""
GRAPH_DEGREE, GRAPH_EFFORT = 16, 80
"""Links per node of the graph over the centroids, and candidate nodes (efConstruction) while the graph is built."""


class CellIndex:
    """An index that compares each query snippet with the rows of a few cells."""

    concurrent = True
    fell_back = False

    def __init__(self, raw: Any) -> None:
        """raw: a FAISS inverted file over embeddings, on a CPU or a GPU."""
        self.raw: Any = raw

    @property
    def ntotal(self) -> int:
        return int(self.raw.ntotal)

    @property
    def cells(self) -> int:
        return int(self.raw.nlist)

    def search(self, query: Embeddings, k: int, probes: int = PROBES) -> Neighbours:
        """The k nearest rows of each query snippet among the rows of `probes` cells; see `Index.search`."""
        faiss.omp_set_num_threads(1)  # see `FlatIndex.search`
        parameters: Any = faiss.SearchParametersIVF(nprobe=probes)  # type: ignore[call-arg]
        if _has_graph(self.raw):
            effort = max(PROBES, probes)
            parameters.quantizer_params = faiss.SearchParametersHNSW(efSearch=effort)  # type: ignore[attr-defined]
        similarities, rows = self.raw.search(np.ascontiguousarray(query), k, params=parameters)
        return similarities, rows

    def movable(self) -> Any:
        """The FAISS index in a form that a GPU can hold. Rows are not copied.

        FAISS has no graphs on a GPU, so a search compares the query with all centroids there.
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
    """The number of cells of an index of `rows` rows; 0 for a flat index."""
    return 0 if rows <= EXACT_ROWS else 1 << max(0, round(np.log2(rows / CELL_ROWS)))


def build(documents: Documents, *, threads: int) -> CellIndex:
    """A new index of documents with more than EXACT_ROWS snippets. While it is built, memory holds only the index."""
    faiss.omp_set_num_threads(threads)
    count = cell_count(int(documents.offsets[-1] - documents.offsets[0]))
    centroids, assigning = learn(sample(documents, SAMPLE_ROWS * count), count)
    graph = faiss.IndexHNSWFlat(DIMENSION, GRAPH_DEGREE, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = GRAPH_EFFORT
    graph.add(centroids)
    raw = _empty(graph, len(centroids))
    raw.quantizer_trains_alone = 2  # the quantizer already has its centroids
    raw.train(sample(documents, SAMPLE_ROWS * DIMENSION))
    first_level = CellIndex(assigning)
    for block in blocks(documents):
        _put(raw, block, nearest(first_level, block, 1, threads=threads, probes=ASSIGN_PROBES)[1])
    return CellIndex(raw)


def extend(index: CellIndex, rows: NDArray[np.int64], new: Documents, *, threads: int) -> CellIndex:
    """An index of the current documents, made from an older index in seconds, because the cells stay the same.

    index: older index, whose number of cells suits the current number of rows (`extendable`).
    rows: int64 (index.ntotal,), current row of each row of the older index; -1 for a removed row. Rows that stay come
        before all new rows.
    new: documents added since.
    """
    faiss.omp_set_num_threads(threads)
    raw = _kept(index.raw, rows)
    graph = faiss.downcast_index(raw.quantizer)
    parameters: Any = faiss.SearchParametersHNSW(efSearch=PROBES)  # type: ignore[attr-defined]
    for block in blocks(new):
        _put(raw, block, graph.search(block, 1, params=parameters)[1])
    return CellIndex(raw)


def part(index: CellIndex, rows: NDArray[np.int64]) -> CellIndex:
    """An index of some rows of an index, with the same cells.

    The nearest rows of a query are then the nearest among those that its parts find. rows: see `extend`.
    """
    return CellIndex(_kept(index.raw, rows))


def _kept(old: Any, rows: NDArray[np.int64]) -> Any:
    """A FAISS inverted file with the cells of an older one and its rows, as far as they have a number in `rows`."""
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
    return raw


def extendable(index: FaissIndex, rows: int) -> TypeGuard[CellIndex]:
    """Whether an index has the same number of cells as a new index of `rows` rows, so that `extend` can extend it."""
    return isinstance(index, CellIndex) and 1 << round(np.log2(index.raw.nlist)) == cell_count(rows)


def _has_graph(raw: Any) -> bool:
    """Whether a graph over the centroids finds the cells of a FAISS index."""
    return isinstance(faiss.downcast_index(raw.quantizer), faiss.IndexHNSW)


def _empty(quantizer: Any, count: int) -> Any:
    """An empty FAISS inverted file of `count` cells, which has the centroids of the quantizer."""
    raw = faiss.IndexIVFScalarQuantizer(
        quantizer, DIMENSION, count, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    raw.nprobe = PROBES
    return raw


def _put(raw: Any, block: Embeddings, cell: NDArray[np.int64]) -> None:
    """Adds each row of a block to its cell.

    cell: int64 (rows, 1), number of the cell of each row.
    """
    numbers = np.arange(raw.ntotal, raw.ntotal + len(block), dtype=np.int64)
    raw.add_core(len(block), *(faiss.swig_ptr(array) for array in (block, numbers, cell)))
