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

With a finite `rest_price` r, query rows may be left out, each for r. A path may start in any row i, for i r. It may
leave the document after any cell and rest; it comes back to any cell of any later row for `jump_penalty`, or not at
all. The cheapest alignment of rows 0 to i, whether row i is aligned or left out, costs

    R[i] = min(min over j of D[i, j],  R[i-1] + r)

Then the last way into a cell, the jump, becomes

    min(R[i-1] + penalty,  i r)

and the cost is R[N-1] in place of the minimum of D[N-1, j]. Among equally cheap ways, an aligned row goes before a row
that is left out, and a jump before a start. With r = infinity, R[i] is the minimum of row i, and all is as above.

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

Way = tuple[np.float32, list[Cell]]
"""A way into a cell: its cost, and the cells on it, the last one first; none if the path starts in the cell."""

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
    if columns == 0:
        return np.inf, -1, np.empty((0, 2), dtype=np.int32)
    totals = accumulate(costs, settings)
    end = (rows - 1, columns - 1)
    total, end = (totals[end], end) if settings.whole else cheapest(totals, settings)
    if np.isinf(total):
        return np.inf, -1, np.empty((0, 2), dtype=np.int32)
    cells = trace(costs, totals, settings, end)
    length = rows if settings.normalise == "query" else len(cells)
    return float(total / np.float32(length)), end[1], cells


def accumulate(costs: Costs, settings: Alignment) -> Costs:
    """D, the cost of the cheapest path to each cell, float32 (N, M)."""
    totals = np.full_like(costs, np.inf)
    for i in range(len(costs)):
        entry = _entry(totals[:i], settings)
        for j in range(costs.shape[1]):
            if _starts(settings, i, j):
                totals[i, j] = costs[i, j]
            else:
                totals[i, j] = costs[i, j] + _cheapest_way(costs, totals, settings, i, j, entry)[0]
    return totals


def cheapest(totals: Costs, settings: Alignment) -> tuple[np.float32, Cell]:
    """R of the last row of D: the cost of the cheapest alignment of all rows, and the last cell of its path."""
    total, end = np.float32(np.inf), (0, 0)
    for i, row in enumerate(totals):
        rested, j = total + np.float32(settings.rest_price), int(np.argmin(row))
        total, end = (rested, end) if rested < row[j] else (row[j], (i, j))
    return total, end


def trace(costs: Costs, totals: Costs, settings: Alignment, end: Cell) -> Path:
    """The cheapest path to the cell `end`, int32 (L, 2)."""
    cells, way = [end], [end]
    while way and not _starts(settings, *cells[-1]):
        i, j = cells[-1]
        way = _cheapest_way(costs, totals, settings, i, j, _entry(totals[:i], settings))[1]
        cells += way
    return np.array(cells[::-1], dtype=np.int32)


def _starts(settings: Alignment, i: int, j: int) -> bool:
    """Whether a path may start at cell (i, j)."""
    return i == 0 and (j == 0 or not settings.whole)


def _entry(above: Costs, settings: Alignment) -> Way:
    """The cheapest way into any cell of the row below the given rows of D that takes no step.

    The way is a jump, a return from a rest, or the start of the path after rows that are left out.
    """
    if len(above) == 0:
        return np.float32(np.inf), []
    total, left = cheapest(above, settings)
    lead = np.cumsum(np.full(len(above), settings.rest_price, dtype=np.float32), dtype=np.float32)[-1]
    jump = total + np.float32(settings.jump_penalty)
    return (lead, []) if lead < jump else (jump, [left])


def _cheapest_way(costs: Costs, totals: Costs, settings: Alignment, i: int, j: int, entry: Way) -> Way:
    """Cost of the cheapest way into cell (i, j), without C[i, j], and the cells on this way, the last one first.

    entry: the cheapest way into row i that takes no step.
    """
    ways: list[Way] = [(np.float32(np.inf), [])]
    for rows, columns in STEPS[settings.steps]:
        source = (i - rows, j - columns)
        if min(source) >= 0:
            skipped = [(row, j) for row in range(source[0] + 1, i)]
            ways.append((sum((costs[cell] for cell in skipped), totals[source]), [*reversed(skipped), source]))
    return min([*ways, entry], key=lambda way: way[0])
