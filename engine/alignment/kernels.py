"""What `cpu` compiles. Nothing is allocated here: numba's own array functions take longest to compile.

A *pack* is 16 sequences side by side, one a lane, filled up with snippets of infinite cost to a common number of
positions, a multiple of POSITIONS. All arrays of a pack are flat, with a vector of 16 floats a position.

Tuples that several kernels get:
- query: the embeddings negated, their number a multiple of ROWS, as `lanes.product` has them; how many are real.
- documents: uint32, the bits of all embeddings; whether these are float16; float32 (T,), the bias, or empty.
- settings: whether the steps are `slope`; whether the document is aligned whole; the jump penalty.
- scratch: see `cpu._scratch`.
"""

# The kernels' types are numba's to find, and so is the first argument of an intrinsic.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from engine.alignment.lanes import LANES, POSITIONS, ROWS, least, load, pack, plus, product, splat, store, where_less
from engine.values import DIMENSION

LONG = 1000
"""Positions from which on a pack lies outside the second cache (2 MiB) and must be read less often."""

DIAGONAL, ROW, COLUMN, JUMP = 0, 1, 2, 3
"""How a cell was reached, in the order ties prefer; with slope steps ROW is (2, 1) and COLUMN (1, 2)."""

INFINITY = np.float32(np.inf)
ZERO, ONE = np.float32(0), np.float32(1)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # No NaN is made: an infinity is only ever added to a finite number or to its like. So nnan and nsz are safe; they
    # let minima vectorise.
    compiled: Callable[..., Any] = numba.njit(
        nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "nsz", "contract"}
    )(function)
    return compiled


@_compiled
def block_rows(positions):
    """Query rows whose costs are made together: each time the pack is read once."""
    return 8 if positions < LONG else 32


@_compiled
def align_packs(query, documents, settings, begins, lengths, scratch, paths, costs, ends):
    """Costs and ends of documents, in packs of 16; infinity and -1 stand there already.

    begins, lengths: int64 (a multiple of 16,) first snippet and number of snippets of each document.
    paths: None divides by the length of the query; two arrays of a pack, for lengths of paths, by those.
    """
    (rows, count), (slope, whole, penalty) = query, settings
    columns, base, block, totals, charges, carried, starts = scratch
    for first in range(0, len(lengths), LANES):
        part = slice(first, first + LANES)
        positions = pack_columns(documents, begins[part], lengths[part], columns, base, starts)
        height = block_rows(positions)
        for i in range(count):
            if i % height == 0:
                block_costs(rows, i, height, columns, base, positions, block)
            place = i % height * positions * LANES
            if i == 0:
                first_row(block, positions, slope, whole, totals, charges, carried, paths)
            elif slope:
                slope_row(block, place, positions, penalty, totals, charges, carried, paths)
            else:
                classic_row(block, place, positions, penalty, totals, carried, paths)
        if not whole:
            first_of_least(totals, positions, carried)
        for lane in range(LANES):
            end = lengths[first + lane] - 1 if whole else int(carried[lane])
            total = totals[end * LANES + lane] if end >= 0 else INFINITY
            if total < INFINITY:
                cells = np.float32(count) if paths is None else paths[0][end * LANES + lane]
                costs[first + lane], ends[first + lane] = total / cells, end


@_compiled
def pack_columns(documents, begins, lengths, columns, base, starts):
    """Packs 16 sequences into `columns`, and into `base` what each snippet costs before the product.

    Returns the number of positions.
    """
    words, halves, bias = documents
    longest = 0
    for lane in range(LANES):
        longest = max(longest, lengths[lane])
    positions = (longest + POSITIONS - 1) // POSITIONS * POSITIONS
    width = DIMENSION // 2 if halves else DIMENSION
    for position in range(positions):
        for lane in range(LANES):
            snippet = begins[lane] + max(min(position, lengths[lane] - 1), 0)
            starts[lane] = snippet * width
            own = bias[snippet] if len(bias) > 0 else ZERO
            base[position * LANES + lane] = ONE + own if position < lengths[lane] else INFINITY
        pack(words, starts, halves, columns, position)
    return positions


@_compiled
def block_costs(rows, first, height, columns, base, positions, block):
    """Costs of `height` query rows from `first` on."""
    last = min(first + height, len(rows))
    for position in range(0, positions, POSITIONS):
        for row in range(first, last, ROWS):
            place = ((row - first) * positions + position) * LANES
            product(rows, row, columns, base, position, block, place, positions * LANES)


@_compiled
def first_row(costs, positions, slope, whole, totals, charges, carried, paths):
    """Row 0 of D."""
    total, cells = splat(ZERO), splat(ZERO)
    lowest, lowest_cells = splat(INFINITY), splat(ZERO)
    for at in range(0, positions * LANES, LANES):
        cost = load(costs, at)
        if at == 0 or not whole:
            total, cells = cost, splat(ONE)
        elif slope:
            total = splat(INFINITY)
        else:
            total, cells = plus(total, cost), plus(cells, splat(ONE))
        store(totals, at, total)
        store(charges, at, splat(INFINITY))
        if paths is not None:
            store(paths[0], at, cells)
            store(paths[1], at, cells)
            lowest_cells = where_less(total, lowest, cells, lowest_cells)
        lowest = least(total, lowest)
    store(carried, 0, lowest)
    store(carried, LANES, lowest_cells)


@_compiled
def slope_row(costs, place, positions, penalty, totals, charges, carried, paths):
    """The next row of D into `totals`, where the one above it stands.

    charges: charges[j] = D[i-2, j-1] + C[i-1, j], which step (2, 1) has cost before (i, j); the next row's are left.
    carried: the least of the row above and the length of its path; this row's are left.
    paths: the lengths of the paths behind `totals` and `charges`, or None.
    """
    jump, jump_cells = plus(load(carried, 0), splat(penalty)), load(carried, LANES)
    diagonal = column = lowest = splat(INFINITY)
    diagonal_cells = column_cells = lowest_cells = splat(ZERO)
    for at in range(0, positions * LANES, LANES):
        cost, above, charge = load(costs, place + at), load(totals, at), load(charges, at)
        best = least(charge, diagonal)
        if paths is not None:
            cells = where_less(charge, diagonal, load(paths[1], at), diagonal_cells)
            cells = where_less(column, best, column_cells, cells)
            cells = where_less(jump, least(column, best), jump_cells, cells)
            cells = plus(cells, splat(ONE))
            above_cells = load(paths[0], at)
            store(paths[0], at, cells)
            store(paths[1], at, plus(diagonal_cells, splat(ONE)))
            column_cells, diagonal_cells = diagonal_cells, above_cells
        total = plus(cost, least(least(column, best), jump))
        if paths is not None:
            lowest_cells = where_less(total, lowest, cells, lowest_cells)
        store(totals, at, total)
        store(charges, at, plus(diagonal, cost))
        lowest = least(total, lowest)
        column, diagonal = diagonal, above
    store(carried, 0, lowest)
    store(carried, LANES, lowest_cells)


@_compiled
def classic_row(costs, place, positions, penalty, totals, carried, paths):
    """As `slope_row`, with classic steps."""
    jump, jump_cells = plus(load(carried, 0), splat(penalty)), load(carried, LANES)
    diagonal = left = lowest = splat(INFINITY)
    diagonal_cells = left_cells = lowest_cells = splat(ZERO)
    for at in range(0, positions * LANES, LANES):
        cost, above = load(costs, place + at), load(totals, at)
        best = least(above, diagonal)
        if paths is not None:
            above_cells = load(paths[0], at)
            cells = where_less(above, diagonal, above_cells, diagonal_cells)
            cells = where_less(left, best, left_cells, cells)
            cells = where_less(jump, least(left, best), jump_cells, cells)
            left_cells = plus(cells, splat(ONE))
            store(paths[0], at, left_cells)
            diagonal_cells = above_cells
        # So grouped, the next cell waits for one minimum and one sum of this one only.
        left = plus(cost, least(left, least(best, jump)))
        if paths is not None:
            lowest_cells = where_less(left, lowest, left_cells, lowest_cells)
        store(totals, at, left)
        lowest = least(left, lowest)
        diagonal = above
    store(carried, 0, lowest)
    store(carried, LANES, lowest_cells)


@_compiled
def first_of_least(totals, positions, carried):
    """Leaves in `carried` the first position of each lane's least value, or -1 where all are infinite."""
    lowest, end = splat(INFINITY), splat(np.float32(-1))
    for position in range(positions):
        total = load(totals, position * LANES)
        end = where_less(total, lowest, splat(np.float32(position)), end)
        lowest = least(total, lowest)
    store(carried, 0, end)


@_compiled
def fill(query, documents, settings, scratch, ways, sources):
    """The end of the best path through the only document, of at least one snippet; -1 if there is none.

    It is cut into 16 pieces, which make a pack.

    ways: uint8 (N, M) is given how each cell was reached; sources: int32 (N,) where the jumps into each row start.
    """
    (rows, count), (slope, whole, penalty), length = query, settings, ways.shape[1]
    columns, base, block, above, here, charged, starts, begins, lengths = scratch
    piece = (length + LANES - 1) // LANES
    for lane in range(LANES):
        lengths[lane] = min(max(length - lane * piece, 0), piece)
        begins[lane] = lane * piece
    positions = pack_columns(documents, begins, lengths, columns, base, starts)
    height = block_rows(positions)
    for j in range(length):
        above[j + 2] = charged[j] = INFINITY
    jump = INFINITY
    for i in range(count):
        if i % height == 0:
            block_costs(rows, i, height, columns, base, positions, block)
        for lane in range(LANES):
            for position in range(lengths[lane]):
                j = lane * piece + position
                cost = block[(i % height * positions + position) * LANES + lane]
                best, way = above[j + 1], DIAGONAL
                by_row = charged[j] if slope else above[j + 2]
                by_column = above[j] if slope else here[j + 1]
                if by_row < best:
                    best, way = by_row, ROW
                if by_column < best:
                    best, way = by_column, COLUMN
                if jump < best:
                    best, way = jump, JUMP
                if i == 0 and (j == 0 or not whole):
                    best = ZERO
                charged[j] = above[j + 1] + cost
                here[j + 2] = cost + best
                ways[i, j] = way
        above, here = here, above
        if i + 1 < count:
            sources[i + 1] = first_of_least_in(above, length)
            jump = above[sources[i + 1] + 2] + penalty
    end = length - 1 if whole else first_of_least_in(above, length)
    return end if above[end + 2] < INFINITY else -1


@_compiled
def first_of_least_in(row, length):
    """The first column of the least of a row's `length` values, which stand from element 2 on."""
    end = 0
    for j in range(1, length):
        if row[j + 2] < row[end + 2]:
            end = j
    return end


@_compiled
def trace(ways, sources, slope, whole, end, path):
    """How many cells the path to (N - 1, end) passes.

    path: int32 (that many, 2) is given the cells, in order, if it has rows.
    """
    i, j, cells = len(ways) - 1, end, 0
    while True:
        cells += 1
        if len(path) > 0:
            path[len(path) - cells, 0], path[len(path) - cells, 1] = i, j
        if i == 0 and (j == 0 or not whole):
            return cells
        way = ways[i, j]
        if way == ROW and slope:
            cells += 1
            i -= 1
            if len(path) > 0:
                path[len(path) - cells, 0], path[len(path) - cells, 1] = i, j
        if way == JUMP:
            j = sources[i]
        elif way == DIAGONAL or (way == ROW and slope):
            j -= 1
        elif way == COLUMN:
            j -= 2 if slope else 1
        if way != COLUMN or slope:
            i -= 1
