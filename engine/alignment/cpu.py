"""The definition on CPU, compiled by numba: no row of D but the last is kept, no GIL.

What it does differently:
- Local costs are made 16 query rows at a time in tiles of 96 document snippets, by a register-blocked product of our
  own: as fast as np.dot here (both about 1 Gcell/s a core), and it starts no threads of a BLAS.
- A document is padded to whole tiles with snippets of infinite cost, so that inner loops have a constant length.
- Slope steps need nothing from their own row, so the compiler vectorises along the document. The charged step (2, 1) is
  carried as one more row, `charged[j] = D[i-2, j-1] + C[i-1, j]`, made while row i - 1 is.
- Threads are plain Python threads over runs of documents. numba's own must not be entered from two threads at once
  where neither OpenMP nor TBB is installed, which a server would do.
- DTW and paths keep one byte a cell, the step that led there.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Alignments, Path, check_query, kernels
from engine.config import Alignment
from engine.values import DIMENSION, Embeddings, Packed

RUNS_PER_THREAD = 4
"""Runs of documents a thread gets, so that one that started late or was held up evens out."""
CELLS_PER_RUN = 500_000
"""About a millisecond of work: with less a thread costs more than it saves."""

NO_PATH: Path = np.empty((0, 2), dtype=np.int32)


def align(query: Embeddings, documents: Packed, settings: Alignment, *, threads: int = 1) -> Alignments:
    """As `definition.align`, on `threads` threads."""
    arguments = _arguments(query, documents, settings)
    count = len(documents)
    found = Alignments(costs=np.full(count, np.inf, dtype=np.float32), ends=np.full(count, -1, dtype=np.int32))

    def align_some(first: int, last: int) -> None:
        if not settings.whole and settings.normalise == "query":
            scratch = _scratch(documents.offsets[first : last + 1])
            kernels.subsequences(*arguments, documents.offsets, first, last, scratch, found.costs, found.ends)
            return
        for b in range(first, last):
            total, end, cells = _best_path(arguments, documents.offsets[b : b + 2], settings)
            found.costs[b] = total / np.float32(len(query) if settings.normalise == "query" else max(1, len(cells)))
            found.ends[b] = end

    _share(align_some, documents.offsets, len(query), threads)
    return found


def path(query: Embeddings, embeddings: NDArray[Any], bias: NDArray[np.float32], settings: Alignment) -> Path:
    """As `definition.path`."""
    document = Packed(embeddings=embeddings, bias=bias, offsets=np.array([0, len(embeddings)], dtype=np.int64))
    return _best_path(_arguments(query, document, settings), document.offsets, settings)[2]


def _arguments(query: Embeddings, documents: Packed, settings: Alignment) -> tuple[Any, ...]:
    """What every kernel starts with. One of `half` and `single` is empty, so that each kernel is compiled but once."""
    check_query(query)
    rows = np.zeros((-(-len(query) // 4) * 4, DIMENSION), dtype=np.float32)
    rows[: len(query)] = query
    embeddings = np.ascontiguousarray(documents.embeddings)
    half, single = np.empty((0, DIMENSION), dtype=np.uint16), np.empty((0, DIMENSION), dtype=np.float32)
    if embeddings.dtype == np.float16:
        half = embeddings.view(np.uint16)
    else:
        single = embeddings.astype(np.float32, copy=False)
    bias = np.ascontiguousarray(documents.bias) if settings.use_bias else np.empty(0, dtype=np.float32)
    return rows, len(query), half, single, bias, settings.steps == "slope", np.float32(settings.jump_penalty)


def _scratch(offsets: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    """Memory for one document at a time of those between `offsets`.

    One tile as floats and the same as bits; columns, base costs and a block of costs; partial minima; then the rows
    above, here and charged, all of it float32. Zero or infinite from the start, so that the padding is never NaN.
    """
    width = -(-int(np.diff(offsets).max(initial=0)) // kernels.TILE) * kernels.TILE
    floats = np.zeros(kernels.TILE * DIMENSION, dtype=np.float32)
    lengths = (width * DIMENSION, width, width * kernels.BLOCK, kernels.LANES)
    columns, base, block, lanes = (np.zeros(length, dtype=np.float32) for length in lengths)
    above, here, charged = (np.full(width + 2, np.inf, dtype=np.float32) for _ in range(3))
    return floats, floats.view(np.uint32), columns, base, block, lanes, above, here, charged


def _best_path(arguments: tuple[Any, ...], part: NDArray[np.int64], settings: Alignment) -> tuple[float, int, Path]:
    """Sum, end and path through the snippets between the two of `part`."""
    start, length = int(part[0]), int(part[1] - part[0])
    ways = np.empty((arguments[1], length), dtype=np.uint8)
    sources = np.empty(arguments[1], dtype=np.int32)
    if length == 0:
        return np.inf, -1, NO_PATH
    anywhere = not settings.whole
    total, end = kernels.fill(*arguments, start, length, anywhere, _scratch(part), ways, sources)
    if total == np.inf:
        return np.inf, -1, NO_PATH
    slope = settings.steps == "slope"
    cells = np.empty((kernels.trace(ways, sources, slope, anywhere, end, NO_PATH), 2), dtype=np.int32)
    kernels.trace(ways, sources, slope, anywhere, end, cells)
    return float(total), int(end), cells


def _share(align: Callable[[int, int], None], offsets: NDArray[np.int64], rows: int, threads: int) -> None:
    """Calls align(first, last) for runs of documents of about as many snippets each, as many as are worth it."""
    snippets = int(offsets[-1] - offsets[0])
    wanted = min(threads * RUNS_PER_THREAD, snippets * rows // CELLS_PER_RUN) if threads > 1 else 1
    marks = offsets[0] + np.arange(1, wanted) * snippets // max(1, wanted)
    borders = np.unique(np.concatenate([[0], np.searchsorted(offsets, marks), [len(offsets) - 1]])).tolist()
    if len(borders) <= 2:
        align(0, len(offsets) - 1)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(align, borders[:-1], borders[1:]))
