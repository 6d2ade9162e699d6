"""Other libraries that find documents among millions of snippets, to compare with scorefind.

A library for nearest neighbours, or a vector database, finds the NEIGHBOURS nearest snippets of each query snippet.
Each neighbour is a vote for its document; ties are decided by summed similarity. None of them uses the order of
snippets.

- faiss HNSW, hnswlib: a graph in memory. hnswlib has the settings of its README, except EF_SEARCH.
- faiss flat: brute force over all snippets.
- LanceDB: a table on disk, with an index from the size on that its documentation advises, and with the settings that
  its documentation advises.

Each peer gets all snippets of a query at once. The first query takes longer, because LanceDB reads its index then.
"""

import functools
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.neighbours import FlatIndex, nearest
from engine.values import DIMENSION, Embeddings, Packed

logger = logging.getLogger(__name__)

NEIGHBOURS = 25
EF_SEARCH = 128
"""Number of candidates that a graph keeps during a search. LanceDB advises 1.5 to 10 for each neighbour."""
FAISS_LINKS, FAISS_EF_CONSTRUCTION = 32, 80
HNSWLIB_LINKS, HNSWLIB_EF_CONSTRUCTION = 16, 200
"""Links of a snippet in the graphs of both libraries (64 and 32 in the lowest layer), and candidates while building."""
LANCE_FLAT_ROWS = 100_000
"""Number of rows up to which LanceDB's documentation advises against an index."""
LANCE_PARTITION_ROWS = 1 << 20
"""Rows of one graph, as LanceDB's documentation advises. With fewer rows there is one graph."""
LANCE_EF_CONSTRUCTION = 150
LANCE_REFINE = 2
"""Multiple of the wanted neighbours that is read from the table and compared exactly.

LanceDB's graphs keep 8 bits of each number. Among 20,000 rows, comparing again raises the share of true neighbours from
0.97 to 1, for two to three times the time.
"""
BLOCK_ROWS = 1 << 18
"""Number of rows that are converted to float32 at a time."""

Neighbours = Callable[[Embeddings], tuple[NDArray[np.int64], NDArray[np.floating]]]
"""Finds the nearest snippets of all query snippets: their documents (m,) and their similarities (m,)."""
Make = Callable[[Packed, Path, int], Neighbours]
"""Builds a search from documents, a folder to write to, and the number of threads."""


class Search:
    """A peer's index of the documents of one `Packed`, which can be searched until it is closed."""

    def __init__(self, neighbours: Neighbours, documents: int, disk_bytes: int | None) -> None:
        self._neighbours: Neighbours | None = neighbours
        self._documents = documents
        self.disk_bytes = disk_bytes
        """Bytes that the peer wrote to disk; None if it keeps all in memory."""

    def __call__(self, query: Embeddings) -> NDArray[np.float64]:
        """The cost of each document (documents,); see `costs`.

        query: float32 (n, 32), n > 0. Raises ValueError if the search is closed.
        """
        if self._neighbours is None:
            raise ValueError("expected an open search, got a closed one")
        return costs(*self._neighbours(query), self._documents)

    def close(self) -> None:
        """Frees the memory of the search. Its files stay."""
        self._neighbours = None

    def __enter__(self) -> "Search":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library with which documents can be found."""

    name: str
    build: Callable[[Packed, Path], Search]
    """Builds a search of documents in an empty folder. Raises ValueError if there are no snippets."""


def peers(*, threads: int = 2) -> list[Peer]:
    """The peers whose package is installed. The log names the others.

    threads: for building and searching. LanceDB uses the first number for the whole process, or LANCE_CPU_THREADS if
        that is set. It reads files with threads of its own.
    """
    found = []
    for name, package, make in KNOWN:
        if importlib.util.find_spec(package) is None:
            logger.info("%s is left out: the package %s is not installed (extra `peers`)", name, package)
        else:
            found.append(Peer(name=name, build=functools.partial(_build, make, threads)))
    return found


def costs(documents: NDArray[np.integer], similarities: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """The cost of each document, float64 (count,): minus its votes, minus less than half a vote for its similarity.

    So similarity decides only between documents with equal votes. All documents without a vote share the highest cost,
    which is 0.

    documents, similarities: (m,), the document of each vote and its similarity, -1 to 1.
    """
    votes = np.bincount(documents, minlength=count)
    summed = np.bincount(documents, weights=similarities, minlength=count)
    return 0.0 - (votes + summed / (2.1 * (len(documents) + 1)))


def _build(make: Make, threads: int, packed: Packed, folder: Path) -> Search:
    if packed.offsets[0] == packed.offsets[-1]:
        raise ValueError("expected documents with at least one snippet, got none")
    neighbours = make(packed, folder, threads)
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Search(neighbours, len(packed), written or None)


def _faiss_hnsw(packed: Packed, folder: Path, threads: int) -> Neighbours:
    index = faiss.IndexHNSWFlat(DIMENSION, FAISS_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = FAISS_EF_CONSTRUCTION, EF_SEARCH
    return _faiss(index, packed, threads)


def _faiss_flat(packed: Packed, folder: Path, threads: int) -> Neighbours:
    return _faiss(faiss.IndexFlatIP(DIMENSION), packed, threads)


def _faiss(index: Any, packed: Packed, threads: int) -> Neighbours:
    faiss.omp_set_num_threads(threads)
    for _, block in _blocks(packed):
        index.add(block)
    starts, searched = _starts(packed), FlatIndex(index)

    def neighbours(query: Embeddings) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
        similarities, rows = nearest(searched, query, NEIGHBOURS, threads=threads)
        found = rows >= 0
        return _documents(starts, rows[found]), similarities[found]

    return neighbours


def _hnswlib(packed: Packed, folder: Path, threads: int) -> Neighbours:
    import hnswlib

    starts = _starts(packed)
    k = min(NEIGHBOURS, int(starts[-1]))  # hnswlib refuses to find fewer neighbours than requested
    index = hnswlib.Index(space="ip", dim=DIMENSION)
    index.init_index(int(starts[-1]), M=HNSWLIB_LINKS, ef_construction=HNSWLIB_EF_CONSTRUCTION)
    index.set_ef(EF_SEARCH)
    for start, block in _blocks(packed):
        index.add_items(block, np.arange(start, start + len(block)), num_threads=threads)

    def neighbours(query: Embeddings) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
        rows, distances = index.knn_query(query, k=k, num_threads=threads)
        return _documents(starts, rows.ravel().astype(np.int64)), 1 - distances.ravel()

    return neighbours


def _lancedb(packed: Packed, folder: Path, threads: int) -> Neighbours:
    os.environ.setdefault("LANCE_CPU_THREADS", str(threads))  # LanceDB has no other setting for this
    import lancedb
    import pyarrow
    from lancedb.index import HnswSq

    starts = _starts(packed)
    vector = pyarrow.list_(pyarrow.float32(), DIMENSION)
    schema = pyarrow.schema([("vector", vector), ("document", pyarrow.int32())])

    def batches() -> Iterator[Any]:
        for start, block in _blocks(packed):
            vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(block.ravel()), DIMENSION)
            documents = _documents(starts, np.arange(start, start + len(block))).astype(np.int32)
            yield pyarrow.record_batch([vectors, pyarrow.array(documents)], schema=schema)

    data = pyarrow.RecordBatchReader.from_batches(schema, batches())
    table = lancedb.connect(folder).create_table("snippets", data=data)
    if starts[-1] > LANCE_FLAT_ROWS:
        partitions = max(1, int(starts[-1]) // LANCE_PARTITION_ROWS)
        index = HnswSq(distance_type="dot", num_partitions=partitions, ef_construction=LANCE_EF_CONSTRUCTION)
        table.create_index("vector", config=index)

    def neighbours(query: Embeddings) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
        asked = table.search(query).distance_type("dot").limit(NEIGHBOURS).ef(EF_SEARCH).refine_factor(LANCE_REFINE)
        found = asked.select(["document", "_distance"]).to_arrow()
        return found["document"].to_numpy().astype(np.int64), 1 - found["_distance"].to_numpy()

    return neighbours


def _starts(packed: Packed) -> NDArray[np.int64]:
    """The first row of each document among the rows that belong to documents: (documents + 1,)."""
    return np.asarray(packed.offsets - packed.offsets[0], dtype=np.int64)


def _documents(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The document of each row."""
    return np.asarray(np.searchsorted(starts, rows, side="right") - 1, dtype=np.int64)


def _blocks(packed: Packed) -> Iterator[tuple[int, Embeddings]]:
    """The rows that belong to documents, as float32 blocks, each with the number of its first row."""
    rows = packed.embeddings[packed.offsets[0] : packed.offsets[-1]]
    for start in range(0, len(rows), BLOCK_ROWS):
        yield start, np.ascontiguousarray(rows[start : start + BLOCK_ROWS], dtype=np.float32)


KNOWN: tuple[tuple[str, str, Make], ...] = (
    ("faiss HNSW, majority vote", "faiss", _faiss_hnsw),
    ("faiss flat, majority vote", "faiss", _faiss_flat),
    ("hnswlib, grouped", "hnswlib", _hnswlib),
    ("LanceDB, grouped", "lancedb", _lancedb),
)
"""Name, package and builder of each peer."""
