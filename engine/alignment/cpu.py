"""The CPU backend, compiled by numba: aligns 16 documents side by side, keeps only the last row of D, needs no GIL.

What this module does differently from `definition`:
- 16 documents of about the same length are aligned together, one in each SIMD lane. The values of D at one position in
  the 16 documents form one vector. So do the values carried along a row: the minimum for jumps, the left neighbour for
  classic steps, and the path lengths if the cost is divided by them.
- `lanes.product` computes local costs for a few query rows at a time and keeps its sums in registers. It is as fast as
  a BLAS, starts no threads, and leaves the costs in the order in which the rows of D need them.
- The charged step (2, 1) is carried as an additional row, `charges[j] = D[i-2, j-1] + C[i-1, j]`, computed together
  with row i - 1. Step (3, 1) is carried as another row, computed from this one.
- Embeddings rounded to bytes are multiplied as bytes, four per instruction, if the CPU can do so. Their sums are exact.
- Plain Python threads share the documents. Without OpenMP or TBB, numba's own threads must not be started from two
  threads at once, which a server would do.
- A traced path needs one byte per cell: the step that led to the cell.
"""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba.core.registry import cpu_target
from numpy.typing import NDArray

from engine.alignment import Alignments, Path, check_query, kernels
from engine.alignment.definition import QUANTA, rounded
from engine.alignment.lanes import LANES, POSITIONS, ROWS, WORDS
from engine.config import Alignment
from engine.values import DIMENSION, Embeddings, Packed

RUNS_PER_THREAD = 4
"""Runs of documents per thread. With several runs, other threads take over the work of a thread that is delayed."""
CELLS_PER_RUN = 500_000
"""Minimum number of cells per run, a fraction of a millisecond of work; for less, a thread costs more than it saves."""

MULTIPLIES_BYTES: bool = "+avx512vnni" in cpu_target.target_context.codegen().magic_tuple()[2]
"""Whether the CPU has an instruction that sums products of bytes; without it, rounded embeddings are used as floats."""

NO_PATH: Path = np.empty((0, 2), dtype=np.int32)
"""The path without cells."""

Floats = NDArray[np.float32]


def align(query: Embeddings, documents: Packed, settings: Alignment, *, threads: int = 1) -> Alignments:
    """The cheapest alignment of the query with each document (`definition.align`), computed by `threads` threads."""
    return align_many([query], documents, settings, threads=threads)[0]


def align_many(
    queries: Sequence[Embeddings], documents: Packed, settings: Alignment, *, threads: int = 1
) -> tuple[Alignments, ...]:
    """The cheapest alignment of each query with each document (`definition.align_many`).

    Each pack of documents is made once and serves all queries.
    """
    arguments = _arguments(queries, documents, settings)
    lengths = np.diff(documents.offsets)
    order = np.argsort(-lengths, kind="stable")
    shape = len(queries), -(-len(order) // LANES) * LANES
    costs, ends = np.full(shape, np.inf, dtype=np.float32), np.full(shape, -1, dtype=np.int32)
    begins, sizes = (np.zeros(shape[1], dtype=np.int64) for _ in range(2))
    begins[: len(order)], sizes[: len(order)] = np.where(lengths > 0, documents.offsets[:-1], 0)[order], lengths[order]

    def align_some(first: int, last: int) -> None:
        part = slice(first, last)
        positions = -(-int(sizes[first]) // POSITIONS) * POSITIONS
        by_path = settings.normalise == "path"
        paths = tuple(_vectors(positions) for _ in range(3)) if by_path else None
        scratch = tuple(_scratch(positions, settings))
        kernels.align_packs(*arguments, begins[part], sizes[part], scratch, paths, costs[:, part], ends[:, part])

    _share(align_some, sizes[::LANES], sum(map(len, queries)), threads)
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return tuple(Alignments(costs=costs[q, back], ends=ends[q, back]) for q in range(len(queries)))


def path(query: Embeddings, embeddings: NDArray[Any], bias: Floats, settings: Alignment) -> Path:
    """The cheapest path through one document (`definition.path`)."""
    length = len(embeddings)
    document = Packed(embeddings=embeddings, bias=bias, offsets=np.array([0, length], dtype=np.int64))
    arguments = _arguments([query], document, settings)
    ways, sources = np.zeros((len(query), length), dtype=np.uint8), np.zeros((len(query) + 1, 2), dtype=np.int32)
    if length == 0 or not kernels.fill(*arguments, tuple(_path_scratch(length, settings)), ways, sources):
        return NO_PATH
    traced = ways, sources, settings.steps == "classic", settings.whole
    cells = np.empty((kernels.trace(*traced, NO_PATH), 2), dtype=np.int32)
    kernels.trace(*traced, cells)
    return cells


def _arguments(queries: Sequence[Embeddings], documents: Packed, settings: Alignment) -> tuple[tuple[Any, ...], ...]:
    """The fields of `kernels.Queries`, `DocumentArrays` and `Settings` as plain tuples (see `kernels._entry`)."""
    for query in queries:
        check_query(query)
    embeddings = np.ascontiguousarray(documents.embeddings)
    if settings.int8:
        queries = [rounded(query) for query in queries]
        embeddings = embeddings if MULTIPLIES_BYTES else rounded(embeddings.astype(np.float32))
    counts = np.array([len(query) for query in queries], dtype=np.int64)
    filled = -(-counts // ROWS) * ROWS
    rows = np.zeros((filled.sum(), DIMENSION), dtype=np.float32)
    for query, first in zip(queries, np.cumsum(filled) - filled, strict=True):
        rows[first : first + len(query)] = -query
    halves = embeddings.dtype == np.float16
    weight = np.float32(settings.bias_weight)
    bias = documents.bias * weight if weight else np.empty(0, dtype=np.float32)
    named = (
        kernels.Queries(rows=_bytes(rows) if _packs_bytes(settings) else rows, counts=counts),
        kernels.DocumentArrays(words=embeddings.reshape(-1).view(np.uint32), halves=halves, bias=bias),
        kernels.Settings(
            steps=kernels.STEPS.index(settings.steps),
            whole=settings.whole,
            penalty=np.float32(settings.jump_penalty),
            price=np.float32(settings.rest_price),
        ),
    )
    return tuple(map(tuple, named))


def _packs_bytes(settings: Alignment) -> bool:
    """Whether the kernels multiply bytes, not floats."""
    return settings.int8 and MULTIPLIES_BYTES


def _bytes(rows: Floats) -> NDArray[np.int32]:
    """The rows as `lanes.product` takes bytes, int32 (n, 9): 8 words of bytes, and the start of the sums.

    The sums start below 0 because the bytes of documents are unsigned: they store 0 as 128.
    """
    signed = (rows * QUANTA).astype(np.int8)
    start = -int(QUANTA) * signed.sum(axis=1, dtype=np.int32, keepdims=True)
    return np.hstack([signed.view(np.int32), start])


def _vectors(count: int) -> Floats:
    """Memory for `count` vectors, aligned to 64 bytes: a vector that crosses a cache line takes twice as long."""
    floats = np.empty((count + 1) * LANES, dtype=np.float32)
    start = -floats.ctypes.data // floats.itemsize % LANES
    return floats[start : start + count * LANES]


def _scratch(positions: int, settings: Alignment) -> kernels.Scratch:
    """Memory for aligning a pack of `positions` positions."""
    columns, base, block = _pack_memory(positions, settings)
    return kernels.Scratch(
        columns=columns,
        base=base,
        block=block,
        totals=_vectors(positions),
        charges=_vectors(2 * positions),
        carried=_vectors(4),
        starts=np.empty(LANES, dtype=np.int64),
    )


def _path_scratch(length: int, settings: Alignment) -> kernels.PathScratch:
    """Memory for tracing the path through a document of `length` snippets."""
    columns, base, block = _pack_memory(-(-length // (LANES * POSITIONS)) * POSITIONS, settings)
    costs, above, here, charges, far_charges = (
        np.full(length + kernels.PADDING, np.inf, dtype=np.float32) for _ in range(5)
    )
    starts, begins, lengths = (np.empty(LANES, dtype=np.int64) for _ in range(3))
    return kernels.PathScratch(
        columns=columns,
        base=base,
        block=block,
        costs=costs,
        above=above,
        here=here,
        charges=charges,
        far_charges=far_charges,
        starts=starts,
        begins=begins,
        lengths=lengths,
    )


def _pack_memory(positions: int, settings: Alignment) -> tuple[NDArray[Any], Floats, Floats]:
    """Memory for the embeddings of a pack (columns), their base costs, and a block of local costs."""
    columns: NDArray[Any] = _vectors(positions * (WORDS if _packs_bytes(settings) else DIMENSION))
    if _packs_bytes(settings):
        columns = columns.view(np.int32)
    return columns, _vectors(positions), _vectors(positions * kernels.block_rows(positions))


def _share(align: Callable[[int, int], None], longest: NDArray[np.int64], rows: int, threads: int) -> None:
    """Calls align(first, last) for consecutive runs of documents, each with about the same number of cells, on threads.

    longest: length in snippets of the longest document of each pack, (packs,).
    rows: number of query snippets.
    """
    done = np.concatenate([[0], np.cumsum(longest)])
    runs = min(threads * RUNS_PER_THREAD, int(done[-1]) * LANES * rows // CELLS_PER_RUN) if threads > 1 else 1
    marks = np.arange(1, runs) * done[-1] // max(1, runs)
    borders = (np.unique(np.concatenate([[0], np.searchsorted(done, marks), [len(longest)]])) * LANES).tolist()
    if len(borders) <= 2:
        for first, last in itertools.pairwise(borders):
            align(first, last)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(align, borders[:-1], borders[1:]))
