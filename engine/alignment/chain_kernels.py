"""The kernels of chains, compiled by numba. They share the rows of single documents with `engine.alignment.kernels`."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, var-annotated"

import numpy as np

from engine.alignment.kernels import (
    COLUMN,
    DIAGONAL,
    FAR_COLUMN,
    INFINITY,
    JUMP,
    PADDING,
    ROW,
    START,
    _compiled,
    _entry,
    fill_slope,
)


@_entry
def fill_chain(costs, offsets, numbers, prices, far, above, here, charges, far_charges, lowest, leaps, ends, ways):
    """Writes rows of D of a stage's documents over `above`, which holds the row before them on entry.

    costs: float32 (N, M), local costs of N rows against the documents' snippets, side by side.
    offsets, numbers: int64 (B + 1,) and (B,), the borders and the numbers of the documents.
    prices: float32 (4,): of a jump, of a rest, of an entry, and S of the row before.
    far: whether the steps have (3, 1) and (1, 3).
    above, here: float32 (M + B * PADDING,); each document has PADDING elements before its own.
    charges, far_charges: float32 (M,), see `kernels.PathScratch`.
    lowest: float32 (B,), minimum of each document in the row before. On return, all these are of the last row.
    leaps: int32 (N, B), receives the snippet from which jumps into the next row start.
    ends: int32 (N, 2), receives the last cell of the path of S: number of the document and snippet; -1 for a rest.
    ways: uint8 (N, M), receives the way into each cell, START for an entry. With one row, it receives nothing that is
        of use, and of `leaps` only the last row is written.
    """
    penalty, price, entry_price, reached = prices[0], prices[1], prices[2], prices[3]
    barrier = np.float32(0) if far else INFINITY
    traced = len(ways) == len(costs)
    for i in range(len(costs)):
        place = min(i, len(ways) - 1)
        entry, best, document = reached + entry_price, INFINITY, 0
        for d in range(len(numbers)):
            first, last = offsets[d], offsets[d + 1]
            start, length = first + d * PADDING, last - first
            stop = start + length + PADDING
            jump, way = lowest[d] + penalty, JUMP
            if entry < jump:
                jump, way = entry, START
            rows = above[start:stop], here[start:stop], charges[first:last], far_charges[first:last]
            fill_slope(costs[i, first:last], length, jump, way, barrier, *rows, ways[place, first:last])
            own = here[start + PADDING : stop]
            lowest[d] = minimum_of(own)
            if traced or i == len(costs) - 1:
                leaps[i, d] = first_equal(own, lowest[d])
            if lowest[d] < best:
                best, document = lowest[d], d
        if reached + price < best:
            reached += price
            ends[i, 0] = ends[i, 1] = -1
        else:
            start = offsets[document] + (document + 1) * PADDING
            stop = offsets[document + 1] + (document + 1) * PADDING
            reached, ends[i, 0] = best, numbers[document]
            ends[i, 1] = first_equal(here[start:stop], best)
        above, here = here, above
    if len(costs) % 2 == 1:
        here[:] = above
    prices[3] = reached


@_compiled
def minimum_of(row):
    """Returns the smallest value of a row."""
    lowest = INFINITY
    for j in range(len(row)):
        lowest = min(lowest, row[j])
    return lowest


@_compiled
def first_equal(row, value):
    """Returns the first place of a value in a row that has it."""
    j = 0
    while j < len(row) - 1 and row[j] != value:
        j += 1
    return j


@_entry
def trace_chain(first, offsets, numbers, leaps, ends, ways, before_leaps, before_end, at, cells):
    """Writes the cells of the chain in the rows of a stage to `cells`, last cell first, and returns their number.

    first: number of the stage's first row. leaps, ends, ways: as `fill_chain` writes them.
    before_leaps: int32 (B,), of each document in the row before the stage. before_end: int32 (2,), of this row.
    at: int32 (4,), the cell to trace from: row, number of the document (-1 for a rest), snippet, and the number of rows
        that the step into it still skips. On return, the cell of the row before the stage.
    cells: int32 (N, 4): row, number of the document, snippet, and whether the path enters the document there.
    """
    count = 0
    row, number, column, skipped = at[0], at[1], at[2], at[3]
    while row >= first:
        i = row - first
        end = ends[i - 1] if i > 0 else before_end
        if number < 0:  # a rest
            row, number, column = row - 1, end[0], end[1]
            continue
        cells[count, 0], cells[count, 1], cells[count, 2], cells[count, 3] = row, number, column, 0
        count += 1
        if skipped > 0:
            skipped -= 1
            row, column = row - 1, column - (skipped == 0)
            continue
        d = np.searchsorted(numbers, number)
        way = ways[i, offsets[d] + column]
        if way == START:
            cells[count - 1, 3] = 1
            row, number, column = row - 1, end[0], end[1]
        elif way == JUMP:
            column = leaps[i - 1, d] if i > 0 else before_leaps[d]
            row -= 1
        elif way == COLUMN:
            row, column = row - 1, column - 2
        elif way == FAR_COLUMN:
            row, column = row - 1, column - 3
        elif way == DIAGONAL:
            row, column = row - 1, column - 1
        else:
            skipped = 1 if way == ROW else 2
            row -= 1
    at[0], at[1], at[2], at[3] = row, number, column, skipped
    return count
