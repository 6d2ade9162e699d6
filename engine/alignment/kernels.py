"""What `cpu` compiles. Nothing is allocated here: numba's own array functions take longest to compile.

Arrays every kernel gets:
- rows: float32 (a multiple of 4, 32), the query; `count` of them are real.
- half, single: uint16 bits of float16, and float32, (T, 32), the embeddings; the other one is empty.
- bias: float32 (T,), or empty.
- scratch: see `cpu._scratch`.
"""

# The kernels' types are numba's to find.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from engine.values import DIMENSION

TILE = 96
"""Document snippets whose costs are made together: 12 KiB of columns, which stay in the first cache.

Of 64, 96, 128 and 192 the fastest: what smaller ones save in padding they lose again between the tiles.
"""
LANES = TILE // 4
BLOCK = 16
"""Query rows whose costs are made together."""

DIAGONAL, ROW, COLUMN, JUMP = 0, 1, 2, 3
"""How a cell was reached, in the order ties prefer; with slope steps ROW is (2, 1) and COLUMN (1, 2)."""

INFINITY = np.float32(np.inf)
HALF_TO_SINGLE = np.float32(2.0**112)
"""float16 counts its exponent from 15, float32 from 127."""


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # No NaN is made: an infinity is only ever added to a finite number or to its like. So nnan and nsz are safe; they
    # let minima vectorise.
    compiled: Callable[..., Any] = numba.njit(
        nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "nsz", "contract"}
    )(function)
    return compiled


@_compiled
def subsequences(rows, count, half, single, bias, slope, penalty, offsets, first, last, scratch, costs, ends):
    """SDTW of documents first to last (exclusive) into `costs` and `ends`, where infinity and -1 stand already."""
    floats, bits, columns, base, block, lanes, above, here, charged = scratch
    for b in range(first, last):
        length = offsets[b + 1] - offsets[b]
        tiles = (length + TILE - 1) // TILE
        load(half, single, bias, offsets[b], length, floats, bits, columns, base)
        for j in range(tiles * TILE):
            above[j + 2] = charged[j] = INFINITY
        jump = np.float32(0)  # into row 0 for nothing, which is the free start
        for i in range(count):
            if i % BLOCK == 0:
                block_costs(rows[i : i + BLOCK], columns, base, tiles, block)
            if slope:
                jump = slope_row(block, i % BLOCK, tiles, above, here, charged, lanes, jump) + penalty
            else:
                jump = classic_row(block, i % BLOCK, tiles, above, here, lanes, i == 0, jump) + penalty
            above, here = here, above
        end = least_of(above, length)
        if length > 0 and above[end + 2] < INFINITY:
            costs[b], ends[b] = above[end + 2] / np.float32(count), end


@_compiled
def fill(rows, count, half, single, bias, slope, penalty, start, length, anywhere, scratch, ways, sources):
    """Cost and end of the best path through the document of `length` >= 1 snippets from `start`; infinite if none.

    ways: uint8 (N, length) is given how each cell was reached; sources: int32 (N,) where the jumps into each row start.
    anywhere: SDTW, else DTW.
    """
    floats, bits, columns, base, block, _, above, here, charged = scratch
    tiles = (length + TILE - 1) // TILE
    load(half, single, bias, start, length, floats, bits, columns, base)
    for j in range(length):
        above[j + 2] = charged[j] = INFINITY
    jump = INFINITY
    for i in range(count):
        if i % BLOCK == 0:
            block_costs(rows[i : i + BLOCK], columns, base, tiles, block)
        for j in range(length):
            cost = block[(j // TILE * BLOCK + i % BLOCK) * TILE + j % TILE]
            best, way = above[j + 1], DIAGONAL
            by_row = charged[j] if slope else above[j + 2]
            by_column = above[j] if slope else here[j + 1]
            if by_row < best:
                best, way = by_row, ROW
            if by_column < best:
                best, way = by_column, COLUMN
            if jump < best:
                best, way = jump, JUMP
            if i == 0 and (anywhere or j == 0):
                best = np.float32(0)
            charged[j] = above[j + 1] + cost
            here[j + 2] = cost + best
            ways[i, j] = way
        above, here = here, above
        if i + 1 < count:
            sources[i + 1] = least_of(above, length)
            jump = above[sources[i + 1] + 2] + penalty
    end = least_of(above, length) if anywhere else length - 1
    return above[end + 2], end


@_compiled
def trace(ways, sources, slope, anywhere, end, path):
    """How many cells the path to (N - 1, end) passes.

    path: int32 (that many, 2) is given the cells, in order, if it has rows.
    """
    i, j, cells = len(ways) - 1, end, 0
    while True:
        cells += 1
        if len(path) > 0:
            path[len(path) - cells, 0], path[len(path) - cells, 1] = i, j
        if i == 0 and (j == 0 or anywhere):
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


@_compiled
def load(half, single, bias, start, length, floats, bits, columns, base):
    """Snippets start to start + length into `columns`: of each TILE of them dimension 0, then dimension 1, ..."""
    for tile in range((length + TILE - 1) // TILE):
        width = min(TILE, length - tile * TILE)
        for j in range(width):
            row = start + tile * TILE + j
            if len(single) > 0:
                for d in range(DIMENSION):
                    floats[j * DIMENSION + d] = single[row, d]
            else:
                for d in range(DIMENSION):
                    number = np.uint32(half[row, d])
                    sign = (number & np.uint32(0x8000)) << np.uint32(16)
                    bits[j * DIMENSION + d] = sign | (number & np.uint32(0x7FFF)) << np.uint32(13)
        factor = np.float32(1) if len(single) > 0 else HALF_TO_SINGLE
        out = columns[tile * TILE * DIMENSION : (tile + 1) * TILE * DIMENSION]
        for j in range(width):
            for d in range(DIMENSION):
                out[d * TILE + j] = floats[j * DIMENSION + d] * factor
        for j in range(TILE):
            base[tile * TILE + j] = np.float32(1) if j < width else INFINITY
    if len(bias) > 0:
        for j in range(length):
            base[j] += bias[start + j]


@_compiled
def block_costs(rows, columns, base, tiles, block):
    """Costs of up to BLOCK query rows: block[(tile * BLOCK + row) * TILE + j]."""
    for tile in range(tiles):
        tile_columns = columns[tile * TILE * DIMENSION : (tile + 1) * TILE * DIMENSION]
        tile_base = base[tile * TILE : (tile + 1) * TILE]
        for row in range(0, len(rows), 4):
            place = (tile * BLOCK + row) * TILE
            four_rows(rows[row], rows[row + 1], rows[row + 2], rows[row + 3], tile_columns, tile_base, block[place:])


@_compiled
def four_rows(q, r, s, t, columns, base, out):
    """Costs of four query rows against a tile; four rows by four dimensions is what the registers hold."""
    for j in range(TILE):
        out[j] = out[TILE + j] = out[2 * TILE + j] = out[3 * TILE + j] = base[j]
    for d in range(0, DIMENSION, 4):
        four = columns[d * TILE : (d + 4) * TILE]
        q0, q1, q2, q3 = q[d], q[d + 1], q[d + 2], q[d + 3]
        r0, r1, r2, r3 = r[d], r[d + 1], r[d + 2], r[d + 3]
        s0, s1, s2, s3 = s[d], s[d + 1], s[d + 2], s[d + 3]
        t0, t1, t2, t3 = t[d], t[d + 1], t[d + 2], t[d + 3]
        for j in range(TILE):
            y0, y1, y2, y3 = four[j], four[TILE + j], four[2 * TILE + j], four[3 * TILE + j]
            out[j] = out[j] - q0 * y0 - q1 * y1 - q2 * y2 - q3 * y3
            out[TILE + j] = out[TILE + j] - r0 * y0 - r1 * y1 - r2 * y2 - r3 * y3
            out[2 * TILE + j] = out[2 * TILE + j] - s0 * y0 - s1 * y1 - s2 * y2 - s3 * y3
            out[3 * TILE + j] = out[3 * TILE + j] - t0 * y0 - t1 * y1 - t2 * y2 - t3 * y3


@_compiled
def slope_row(block, row, tiles, above, here, charged, lanes, jump):
    """One row of D into `here`, from the row `above` it; column j of a row stands at j + 2. Returns its minimum."""
    for j in range(LANES):
        lanes[j] = INFINITY
    for tile in range(tiles):
        place = (tile * BLOCK + row) * TILE
        costs = block[place : place + TILE]
        up = above[tile * TILE : (tile + 1) * TILE + 2]
        out = here[tile * TILE + 2 : (tile + 1) * TILE + 2]
        charge = charged[tile * TILE : (tile + 1) * TILE]
        for j in range(TILE):
            best = min(min(up[j + 1], up[j]), min(charge[j], jump))
            charge[j] = up[j + 1] + costs[j]
            out[j] = costs[j] + best
        lower(lanes, out)
    return least(lanes)


@_compiled
def classic_row(block, row, tiles, above, here, lanes, first, jump):
    """As `slope_row`, but serial, since each cell waits for its left neighbour; in the first row it does not."""
    for j in range(LANES):
        lanes[j] = INFINITY
    for tile in range(tiles):
        place = (tile * BLOCK + row) * TILE
        costs = block[place : place + TILE]
        up = above[tile * TILE + 1 : (tile + 1) * TILE + 2]
        out = here[tile * TILE + 2 : (tile + 1) * TILE + 2]
        for j in range(TILE):
            out[j] = costs[j] + min(min(up[j], up[j + 1]), jump)
        if not first:
            left = here[tile * TILE + 1]
            for j in range(TILE):
                left = min(out[j], left + costs[j])
                out[j] = left
        lower(lanes, out)
    return least(lanes)


@_compiled
def lower(lanes, out):
    """A tile's share of a row's minimum, in LANES partial ones: the compiler does not split a minimum up by itself."""
    for j in range(LANES):
        first, second = min(out[j], out[LANES + j]), min(out[2 * LANES + j], out[3 * LANES + j])
        lanes[j] = min(lanes[j], min(first, second))


@_compiled
def least(lanes):
    value = lanes[0]
    for j in range(1, LANES):
        value = min(value, lanes[j])
    return value


@_compiled
def least_of(row, length):
    """The first column of the least of a row's `length` values."""
    end = 0
    for j in range(1, length):
        if row[j + 2] < row[end + 2]:
            end = j
    return end
