"""The definition of the alignment. Read this module to learn what the other backends compute; it is slow on purpose.

A query of N snippets x_i and a document of M snippets y_j have the local costs

    C[i, j] = 1 - x_i . y_j + bias_weight bias[j]          (with `int8`, x and y are rounded first)

A path passes cells (i, j) from query row 0 to query row N - 1. It goes from one cell to the next by one of

    classic steps   (1, 1), (1, 0), (0, 1)
    slope steps     (1, 1), (2, 1), (1, 2)     (query advance, document advance)
    wide steps      slope steps, (3, 1) and (1, 3)
    a jump          from any cell of row i - 1 to any cell of row i, for `jump_penalty`

Every query row is charged: step (2, 1) into (i, j) also passes (i - 1, j), and step (3, 1) also passes (i - 2, j) and
(i - 1, j). Steps (1, 2) and (1, 3) skip document snippets free of charge. The cost of a path is the sum of C over the
cells it passes plus the penalties of its jumps. With wide steps

    D[i, j] = C[i, j] + min(D[i-1, j-1],  D[i-2, j-1] + C[i-1, j],  D[i-1, j-2],
                            D[i-3, j-1] + C[i-2, j] + C[i-1, j],  D[i-1, j-3],
                            min over j' of D[i-1, j'] + penalty)

Among equally cheap ways into a cell, the first in the order above wins; a jump comes last. Among equally cheap cells to
jump from, the first wins.

Subsequence alignment (SDTW) starts and ends anywhere in the document: D[0, j] = C[0, j], and the path ends at the first
minimum of D[N-1, j]. Whole alignment (DTW) runs from (0, 0) to (N-1, M-1). In both, the cost D[N-1, end] is divided by
N, or by the number of cells that the path passes.

Published DTW is Alignment(steps="classic", whole=True, normalise="path", jump_penalty=inf, bias_weight=0);
published SDTW is Alignment(steps="classic", jump_penalty=inf, bias_weight=0).

Source: Müller, Fundamentals of Music Processing (2015), sections 3.2 (DTW, step sizes) and 7.2 (subsequence variant);
the path-normalised cost and the order of ties follow Carvalho & Widmer, EUSIPCO 2021; jumps are ours.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Alignments, Path, check_query
from engine.config import Alignment, StepSet
from engine.values import Embeddings, Packed

Costs = NDArray[np.float32]
"""A cost for each cell, float32 (N, M)."""

Cell = tuple[int, int]
"""Query index and document index, or the query advance and the document advance of a step."""

QUANTA = np.float32(128)
"""Rounded embeddings are multiples of 1 / QUANTA."""

STEPS: dict[StepSet, tuple[Cell, ...]] = {
    "classic": ((1, 1), (1, 0), (0, 1)),
    "slope": ((1, 1), (2, 1), (1, 2)),
    "wide": ((1, 1), (2, 1), (1, 2), (3, 1), (1, 3)),
}
"""The steps of each set as (query advance, document advance); ties prefer the earlier step."""


def align(query: Embeddings, documents: Packed, settings: Alignment) -> Alignments:
    """The cheapest alignment of the query with each document.

    query: float32 (N, 32).
    Raises ValueError if `query` is empty or of another type or shape.
    """
    costs = np.empty(len(documents), dtype=np.float32)
    ends = np.empty(len(documents), dtype=np.int32)
    for b in range(len(documents)):
        part = slice(documents.offsets[b], documents.offsets[b + 1])
        local = local_costs(query, documents.embeddings[part], documents.bias[part], settings)
        costs[b], ends[b], _ = best(local, settings)
    return Alignments(costs=costs, ends=ends)


def align_many(queries: Sequence[Embeddings], documents: Packed, settings: Alignment) -> tuple[Alignments, ...]:
    """The cheapest alignment of each query with each document, one `Alignments` per query."""
    return tuple(align(query, documents, settings) for query in queries)


def path(query: Embeddings, embeddings: NDArray[Any], bias: NDArray[np.float32], settings: Alignment) -> Path:
    """The cheapest path through one document, int32 (L, 2); it has no rows if no path exists.

    query: float32 (N, 32); embeddings: float16 or float32 (M, 32); bias: float32 (M,).
    """
    return best(local_costs(query, embeddings, bias, settings), settings)[2]


def local_costs(query: Embeddings, embeddings: NDArray[Any], bias: NDArray[np.float32], settings: Alignment) -> Costs:
    """C, the cost of query snippet i against document snippet j, float32 (N, M)."""
    check_query(query)
    embeddings = embeddings.astype(np.float32)
    if settings.int8:
        query, embeddings = rounded(query), rounded(embeddings)
    costs = 1 - query @ embeddings.T
    return costs + np.float32(settings.bias_weight) * bias


def rounded(embeddings: Embeddings) -> Embeddings:
    """The embeddings rounded to multiples of 1/128 that fit a signed byte, so that float32 sums products exactly."""
    values: Embeddings = np.clip(np.rint(embeddings * QUANTA), 1 - QUANTA, QUANTA - 1) / QUANTA
    return values


def best(costs: Costs, settings: Alignment) -> tuple[float, int, Path]:
    """Cost, end and path of the cheapest alignment; (inf, -1, a path without rows) if no path exists."""
    rows, columns = costs.shape
    totals = accumulate(costs, settings)
    end = columns - 1 if settings.whole or columns == 0 else int(np.argmin(totals[-1]))
    if end < 0 or np.isinf(totals[-1, end]):
        return np.inf, -1, np.empty((0, 2), dtype=np.int32)
    cells = trace(costs, totals, settings, end)
    length = rows if settings.normalise == "query" else len(cells)
    return float(totals[-1, end] / np.float32(length)), end, cells


def accumulate(costs: Costs, settings: Alignment) -> Costs:
    """D, the cost of the cheapest path to each cell, float32 (N, M)."""
    totals = np.full_like(costs, np.inf)
    for i, j in np.ndindex(costs.shape):
        if _starts(settings, i, j):
            totals[i, j] = costs[i, j]
        else:
            totals[i, j] = costs[i, j] + _cheapest_way(costs, totals, settings, i, j)[0]
    return totals


def trace(costs: Costs, totals: Costs, settings: Alignment, end: int) -> Path:
    """The cheapest path to (N - 1, end), int32 (L, 2)."""
    cells = [(len(costs) - 1, end)]
    while not _starts(settings, *cells[-1]):
        cells += _cheapest_way(costs, totals, settings, *cells[-1])[1]
    return np.array(cells[::-1], dtype=np.int32)


def _starts(settings: Alignment, i: int, j: int) -> bool:
    """Whether a path may start at cell (i, j)."""
    return i == 0 and (j == 0 or not settings.whole)


def _cheapest_way(costs: Costs, totals: Costs, settings: Alignment, i: int, j: int) -> tuple[np.float32, list[Cell]]:
    """Cost of the cheapest way into cell (i, j), without C[i, j], and the cells on this way, the last one first."""
    ways: list[tuple[np.float32, list[Cell]]] = [(np.float32(np.inf), [])]
    for rows, columns in STEPS[settings.steps]:
        source = (i - rows, j - columns)
        if min(source) >= 0:
            skipped = [(row, j) for row in range(source[0] + 1, i)]
            ways.append((sum((costs[cell] for cell in skipped), totals[source]), [*reversed(skipped), source]))
    if i > 0:
        source = (i - 1, int(np.argmin(totals[i - 1])))
        ways.append((totals[source] + np.float32(settings.jump_penalty), [source]))
    return min(ways, key=lambda way: way[0])
