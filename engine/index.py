"""The FAISS index over the snippets of one kind: row i is snippet i of the documents packed one after the other.

Up to a quarter of a million rows it is flat: every row is compared. Above, rows lie in cells of some 300, of which a
search looks into a fixed number, found by a graph over their centroids (HNSW): so a search takes the same time however
many rows there are. It lies on disk then, and is mapped into memory; it may be older than the documents it is asked
about (`Amended`).
"""

import hashlib
import io
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.values import DIMENSION, Documents, Embeddings

logger = logging.getLogger(__name__)

Index = Any
"""A faiss.Index, which has no types, a CardIndex, or an Amended."""

EXACT_ROWS = 250_000
"""Up to so many rows every one is compared, and no file is kept: the index is the embeddings."""
CELL_ROWS = 300
"""Rows of a cell, about. The number of cells is a power of two."""
PROBES = 64
"""Cells that are looked into for each query snippet, unless it is said otherwise."""
SAMPLE_ROWS = 40
"""Rows a centroid is learnt from."""
COARSE_ROUNDS, FINE_ROUNDS = 8, 6
"""Of k-means, which is done in two levels: 65,536 centroids at once would take hours, so it takes a minute."""
ASSIGN_PROBES = 4
"""First-level cells in which a row's cell is sought: nine in ten rows come into the one whose centroid is nearest."""
GRAPH_DEGREE, GRAPH_EFFORT = 16, 80
"""Of the graph over the centroids: links of a node, and nodes held in view while it is built."""
ADD_ROWS = 1 << 18
"""Rows turned to float32 at a time."""
SHARE = 6
"""Query snippets that are worth a thread."""
CARD_ROWS = 100_000
"""Of fewer rows a CPU finds the nearest before a GPU is asked."""
CARD_BYTES = 8 << 30
"""Of a GPU's memory for one index, at most; alignment and other processes need some too."""
CARD_SCRATCH_BYTES = 256 << 20
"""Of its memory for a search; FAISS would take 1.5 GiB."""
CARD_MOST = 2048
"""Neighbours that FAISS finds on a GPU for a query snippet, and cells it looks into, at most."""

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
        self.original = index
        self._asked = faiss.index_cpu_to_gpu(self._resources, 0, _without_graph(index))
        self._lock = threading.Lock()
        self.ntotal: int = index.ntotal

    def search(self, query: Embeddings, k: int, probes: int = PROBES) -> "Found":
        """As `search`."""
        if max(k, probes) > CARD_MOST:
            return search(self.original, query, k, probes)
        with self._lock:
            try:
                found = search(self._asked, query, k, probes)
            except RuntimeError as exc:
                if self._asked is self.original:
                    raise
                logger.warning("the CPU looks for neighbours from here on: FAISS on the GPU failed: %s", exc)
                self._asked = self.original
                found = search(self._asked, query, k, probes)
        return found


def _without_graph(index: Index) -> Index:
    """The index as a GPU can hold it: FAISS has no graphs there, so all centroids are compared. Rows are not copied."""
    if not hasattr(index, "nprobe") or not isinstance(faiss.downcast_index(index.quantizer), faiss.IndexHNSW):
        return index
    centroids = faiss.IndexFlatIP(DIMENSION)
    centroids.add(index.quantizer.reconstruct_n(0, index.nlist))
    plain = _celled(centroids, index.nlist)
    plain.replace_invlists(index.invlists, False)
    plain.sq, plain.ntotal, plain.is_trained = index.sq, index.ntotal, True
    return plain


Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Similarities float32 (N, k) and rows int64 (N, k), best first; row -1: there are no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Some documents in an index of their own, and where they are now."""

    index: Index
    offsets: NDArray[np.int64]
    """(documents + 1,): where each starts in this index."""
    starts: NDArray[np.int64]
    """(documents,): where each starts among all there are now; -1: it is gone."""

    def search(self, query: Embeddings, k: int, probes: int) -> Found:
        """As `search`, rows as they are now."""
        similarities, rows = search(self.index, query, max(1, min(k, self.index.ntotal)), probes)
        documents = np.searchsorted(self.offsets, rows, side="right") - 1
        starts = self.starts[np.maximum(documents, 0)]
        here = (rows >= 0) & (starts >= 0)
        now = np.where(here, starts + rows - self.offsets[np.maximum(documents, 0)], -1)
        return np.where(here, similarities, np.float32(-np.inf)), now


class Amended:
    """An index of documents as they were, asked about documents as they are: those gone are passed over, and those
    that are new are sought in an index beside it."""

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self.segments = segments
        self.ntotal: int = sum(int(segment.index.ntotal) for segment in segments)

    def search(self, query: Embeddings, k: int, probes: int = PROBES) -> Found:
        """As `search`."""
        return _best([segment.search(query, k, probes) for segment in self.segments], k)


def _best(found: list[Found], k: int) -> Found:
    """The best k of what was found in several places."""
    similarities, rows = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarities, order, axis=1), np.take_along_axis(rows, order, axis=1)


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


def cells(rows: int) -> int:
    """How many cells the index of so many snippets has; 0 for a flat one."""
    return 0 if rows <= EXACT_ROWS else 1 << max(0, round(np.log2(rows / CELL_ROWS)))


def build(documents: Documents, *, threads: int) -> Index:
    """An index by inner product, of the type that their number of snippets asks for.

    Documents are read in blocks, and what is held in memory is 128 bytes a snippet (flat) or 41 (cells).
    """
    faiss.omp_set_num_threads(threads)
    rows = int(documents.offsets[-1] - documents.offsets[0])
    index: Index
    if cells(rows) == 0:
        index = faiss.IndexFlatIP(DIMENSION)
        for block in _blocks(documents):
            index.add(block)
        return index
    centroids, assigning = _learn(_sample(documents, SAMPLE_ROWS * cells(rows)), cells(rows))
    graph = faiss.IndexHNSWFlat(DIMENSION, GRAPH_DEGREE, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = GRAPH_EFFORT
    graph.add(centroids)
    index = _celled(graph, len(centroids))
    index.quantizer_trains_alone = 2  # its centroids are there
    index.train(_sample(documents, SAMPLE_ROWS * DIMENSION))
    for block in _blocks(documents):
        _put(index, block, nearest(assigning, block, 1, threads=threads, probes=ASSIGN_PROBES)[1])
    return index


def extendable(index: Index, rows: int) -> bool:
    """Whether an index has as many cells as one of so many rows."""
    return isinstance(index, faiss.IndexIVF) and 1 << round(np.log2(index.nlist)) == cells(rows)


def extend(index: Index, rows: NDArray[np.int64], new: Documents, *, threads: int) -> Index:
    """An index of the documents as they are, made of one of them as they were: its cells stay, so it takes seconds.

    index: `extendable`.
    rows: int64 (index.ntotal,), which row each of its rows is now; those that stay come before all new ones. -1: gone.
    """
    faiss.omp_set_num_threads(threads)
    extended = _celled(faiss.clone_index(index.quantizer), index.nlist)
    extended.sq, extended.is_trained = index.sq, True
    for cell in range(index.nlist):
        size = index.invlists.list_size(cell)
        if size > 0:
            numbers = rows[faiss.rev_swig_ptr(index.invlists.get_ids(cell), size)]
            codes = faiss.rev_swig_ptr(index.invlists.get_codes(cell), size * index.code_size).reshape(size, -1)
            kept = numbers >= 0
            arrays = numbers[kept], np.ascontiguousarray(codes[kept])
            extended.invlists.add_entries(cell, len(arrays[0]), *map(faiss.swig_ptr, arrays))
    extended.ntotal = int(np.count_nonzero(rows >= 0))
    graph = faiss.downcast_index(extended.quantizer)
    parameters: Any = faiss.SearchParametersHNSW(efSearch=PROBES)  # type: ignore[attr-defined]
    for block in _blocks(new):
        _put(extended, block, graph.search(block, 1, params=parameters)[1])
    return extended


def _celled(quantizer: Index, count: int) -> Index:
    """An empty index of so many cells, whose centroids are those of the quantizer."""
    index: Index = faiss.IndexIVFScalarQuantizer(
        quantizer, DIMENSION, count, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
    )
    index.nprobe = PROBES
    return index


def _put(index: Index, block: Embeddings, cell: NDArray[np.int64]) -> None:
    """Adds rows, each in the cell that it is told, int64 (rows, 1)."""
    numbers = np.arange(index.ntotal, index.ntotal + len(block), dtype=np.int64)
    index.add_core(len(block), *(faiss.swig_ptr(array) for array in (block, numbers, cell)))


def exact(documents: Documents, query: Embeddings, k: int, *, threads: int) -> Found:
    """The nearest snippets, all compared, block after block: what an index is measured by, as `nearest` tells them."""
    found: list[Found] = []
    done = 0
    for block in _blocks(documents):
        flat = faiss.IndexFlatIP(DIMENSION)
        flat.add(block)
        similarities, rows = nearest(flat, query, k, threads=threads)
        found = [_best([*found, (similarities, rows + done)], k)]
        done += len(block)
    return found[0]


def describe(index: Index) -> str:
    """Its type, for people."""
    if isinstance(index, Amended):
        return f"{describe(index.segments[0].index)}, amended"
    if isinstance(index, CardIndex):
        return f"{describe(index.original)}, on a GPU"
    if isinstance(index, faiss.IndexIVF):
        return f"{index.nlist} cells found by a graph, {index.code_size} bytes a snippet"
    return "flat"


def _blocks(documents: Documents) -> Iterator[Embeddings]:
    """The snippets of all documents, so many at a time."""
    first = 0
    while first < len(documents.offsets) - 1:
        limit = documents.offsets[first] + ADD_ROWS
        last = max(first + 1, int(np.searchsorted(documents.offsets, limit, side="right")) - 1)
        yield np.ascontiguousarray(documents.take(np.arange(first, last)).embeddings, dtype=np.float32)
        first = last


def _sample(documents: Documents, rows: int) -> Embeddings:
    """About so many snippets, of documents drawn at random; always the same."""
    rng = np.random.default_rng(0)
    lengths = np.diff(documents.offsets)
    order = rng.permutation(len(lengths))
    enough = int(np.searchsorted(np.cumsum(lengths[order]), rows)) + 1
    drawn = documents.take(np.sort(order[:enough])).embeddings
    chosen = np.sort(rng.choice(len(drawn), min(len(drawn), rows), replace=False))
    return np.ascontiguousarray(drawn[chosen], dtype=np.float32)


def _learn(sample: Embeddings, count: int) -> tuple[Embeddings, Index]:
    """About so many centroids of the sample, by k-means of k-means, and an index that finds a row's.

    (`faiss.contrib.clustering` has the like, with 25 rounds at the second level, and fails where a cluster is empty.)
    """
    coarse = _means(sample, 1 << (count.bit_length() - 1) // 2, COARSE_ROUNDS)
    first_level = faiss.IndexFlatIP(DIMENSION)
    first_level.add(coarse)
    member = first_level.search(sample, 1)[1].ravel()
    present, sizes = np.unique(member, return_counts=True)
    groups = np.split(sample[np.argsort(member, kind="stable")], np.cumsum(sizes)[:-1])
    shares = np.maximum(1, np.round(sizes / len(sample) * count).astype(np.int64)).tolist()
    centroids = np.concatenate([_means(group, share, FINE_ROUNDS) for group, share in zip(groups, shares, strict=True)])
    first_level = faiss.IndexFlatIP(DIMENSION)
    first_level.add(coarse[present])  # those alone that hold centroids, so that each row finds one
    assigning: Index = faiss.IndexIVFFlat(first_level, DIMENSION, len(present), faiss.METRIC_INNER_PRODUCT)
    assigning.is_trained = True
    assigning.add(centroids)
    return centroids, assigning


def _means(rows: Embeddings, count: int, rounds: int) -> Embeddings:
    """Centroids by spherical k-means, as many as asked for, or as there are rows."""
    if count >= len(rows):
        return rows
    learner = faiss.Kmeans(
        DIMENSION, count, niter=rounds, seed=1, spherical=True, min_points_per_centroid=1, gpu=gpus() > 0
    )
    learner.train(rows)
    return np.asarray(learner.centroids, np.float32)


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
    """The index that an open file holds, even if its name is gone, mapped into memory: searches read what they need.

    Raises ValueError if FAISS cannot read it as one over embeddings.
    """
    file.seek(0)
    try:
        index: Index = faiss.read_index(f"/dev/fd/{file.fileno()}", faiss.IO_FLAG_MMAP)
    except (RuntimeError, MemoryError) as exc:
        raise ValueError(f"FAISS cannot read it: {exc}") from exc
    if index.d != DIMENSION:
        raise ValueError(f"expected an index over {DIMENSION} dimensions, got {index.d}")
    if isinstance(index, faiss.IndexIVF):
        # Threads that read ahead for each search cost it a third more when the file is in memory already.
        lists: Any = index.invlists
        faiss.downcast_InvertedLists(lists).prefetch_nthread = 0  # type: ignore[attr-defined]
    return index


def search(index: Index, query: Embeddings, k: int, probes: int) -> Found:
    """What FAISS finds, with one thread; probes: cells looked into for each query snippet, if it has cells."""
    if isinstance(index, CardIndex | Amended):
        return index.search(query, k, probes)
    # FAISS's own threads wait for each other by spinning: on a busy machine that takes a hundred times as long.
    faiss.omp_set_num_threads(1)  # holds for the calling thread alone, so it is said before each search
    parameters: Any = None
    if hasattr(index, "nprobe"):  # cells, on a CPU or a GPU
        parameters = faiss.SearchParametersIVF(nprobe=probes)  # type: ignore[call-arg]
        if isinstance(faiss.downcast_index(index.quantizer), faiss.IndexHNSW):
            effort = max(PROBES, probes)
            parameters.quantizer_params = faiss.SearchParametersHNSW(efSearch=effort)  # type: ignore[attr-defined]
    similarities, rows = index.search(np.ascontiguousarray(query), k, params=parameters)
    return similarities, rows


def nearest(index: Index, query: Embeddings, neighbours: int, *, threads: int, probes: int = PROBES) -> Found:
    """The nearest snippets of each query snippet.

    k is `neighbours`, or the size of the index where that is less. probes: see `search`.
    """
    k = max(1, min(neighbours, index.ntotal))
    shares = 1 if isinstance(index, CardIndex) else min(threads, len(query) // SHARE)
    if shares <= 1:
        return search(index, query, k, probes)
    with ThreadPoolExecutor(shares) as pool:
        found = pool.map(lambda part: search(index, part, k, probes), np.array_split(query, shares))
        similarities, rows = zip(*found, strict=True)
    return np.concatenate(similarities), np.concatenate(rows)
