"""The definition of a chain. Read this module to learn what `engine.alignment.chains` computes; it is slow on purpose.

A chain is the cheapest way of a query through several documents. Each row i of the query is either left out, for the
price of a rest r, or charged against a snippet of one document. Within a document, a path takes the steps and jumps of
`engine.alignment.definition`. A path enters a document at any snippet, for the price of an entry e, and leaves it after
any cell free of charge. So music that follows without a pause costs an entry and no rest.

    S[i]    = min(min over j of D[i, j],  S[i-1] + r)                         with S[-1] = 0
    D[i, j] = C[i, j] + min(steps within the document of j,
                            min over j' in the document of j of D[i-1, j'] + penalty,
                            S[i-1] + e)

Among equally cheap ways into a cell, the first in the order above wins, and steps among each other in the order of
`definition.STEPS`. Among equally cheap cells the first wins. An aligned row goes before a row that is left out.

A query is cut into stages, and each stage has its documents. The cells of other documents cost infinity there.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.alignment.chains import Link
from engine.alignment.definition import STEPS, Cell, Costs
from engine.config import Alignment

Way = tuple[np.float32, list[Cell]]
"""A way into a cell: its cost, and the cells on it, the last one first; none if the path enters the document here."""


def best(costs: Costs, offsets: NDArray[np.int64], settings: Alignment, entry_price: float) -> tuple[float, list[Link]]:
    """Returns the cost of the chain, and its links in the order of the query.

    costs: float32 (N, M), local costs of all documents side by side; infinite where a stage lacks the document.
    offsets: int64 (B + 1,), the borders of the documents among the columns.
    """
    totals = np.full_like(costs, np.inf)
    reached = [(np.float32(0), (-1, -1))]  # S of the rows so far, each with the last cell of its path
    for i in range(len(costs)):
        for j in range(costs.shape[1]):
            way = _cheapest_way(costs, totals, offsets, settings, (i, j), reached[i][0] + np.float32(entry_price))
            totals[i, j] = costs[i, j] + way[0]
        rested, j = reached[i][0] + np.float32(settings.rest_price), int(np.argmin(totals[i]))
        reached.append((rested, reached[i][1]) if rested < totals[i, j] else (totals[i, j], (i, j)))
    return float(reached[-1][0]), _links(costs, totals, offsets, settings, entry_price, reached)


def _links(
    costs: Costs,
    totals: Costs,
    offsets: NDArray[np.int64],
    settings: Alignment,
    entry_price: float,
    reached: Sequence[tuple[np.float32, Cell]],
) -> list[Link]:
    """Returns the links of the chain."""
    links: list[Link] = []
    end = reached[-1][1]
    while end[0] >= 0:
        cells = [end]
        while True:
            i, j = cells[-1]
            entry = reached[i][0] + np.float32(entry_price)
            _, way = _cheapest_way(costs, totals, offsets, settings, (i, j), entry)
            if not way:
                break
            cells += way
        document = int(np.searchsorted(offsets, end[1], side="right")) - 1
        path = np.array(cells[::-1], dtype=np.int32) - np.array([0, offsets[document]], dtype=np.int32)
        links.insert(0, Link(document=document, path=path))
        end = reached[cells[-1][0]][1]
    return links


def _cheapest_way(
    costs: Costs, totals: Costs, offsets: NDArray[np.int64], settings: Alignment, cell: Cell, entry: np.float32
) -> Way:
    """Returns the cheapest way into a cell, without the cost of the cell. entry: the cost of entering a document."""
    i, j = cell
    document = int(np.searchsorted(offsets, j, side="right")) - 1
    first, last = int(offsets[document]), int(offsets[document + 1])
    ways: list[Way] = []
    for rows, columns in STEPS[settings.steps]:
        source = (i - rows, j - columns)
        if source[0] >= 0 and source[1] >= first:
            skipped = [(row, j) for row in range(source[0] + 1, i)]
            ways.append((sum((costs[one] for one in skipped), totals[source]), [*reversed(skipped), source]))
    if i > 0:
        left = first + int(np.argmin(totals[i - 1, first:last]))
        ways.append((totals[i - 1, left] + np.float32(settings.jump_penalty), [(i - 1, left)]))
    return min([*ways, (entry, [])], key=lambda way: way[0])
