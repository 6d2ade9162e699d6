"""The kernels of the CPU backend, compiled by numba.

A *pack* is 16 sequences side by side, one per lane. Snippets of infinite cost pad them to a common number of positions,
a multiple of POSITIONS. All arrays of a pack are flat and have one vector of 16 floats per position.

Kernels allocate no arrays, because numba's own array functions take longest to compile.
"""

# numba infers the types of the kernels, and adds the first argument of an intrinsic.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from engine.alignment.lanes import LANES, POSITIONS, ROWS, load, minimum, pack, plus, product, splat, store, where_less
from engine.machine_code import kept
from engine.values import DIMENSION

LONG = 1000
"""Minimum number of positions of a pack that exceeds the second-level cache (2 MiB), and must be read less often."""

STEPS = ("classic", "slope", "wide")
"""Names of the step sets; the kernels use the positions of the names."""
CLASSIC, SLOPE, WIDE = 0, 1, 2

DIAGONAL, ROW, COLUMN, FAR_ROW, FAR_COLUMN, JUMP, START = (np.uint8(way) for way in range(7))
"""Ways into a cell, in the order in which ties prefer them. ROW and COLUMN are the classic steps (1, 0) and (0, 1), or
the slope and wide steps (2, 1) and (1, 2). FAR_ROW is (3, 1), and FAR_COLUMN is (1, 3). JUMP is also the return from a
rest. START is the start of the path after rows that are left out."""

PADDING = 3
"""Elements before the first column of a row in `fill`: a step comes from at most 3 columns to the left."""

INFINITY = np.float32(np.inf)
ZERO, ONE = np.float32(0), np.float32(1)


class Queries(NamedTuple):
    """Several queries, their rows in one array."""

    rows: Any
    """Negated embeddings, as `lanes.product` takes them; each query is padded to a multiple of ROWS rows."""
    counts: Any
    """Number of rows of each query without the padding, int64 (Q,)."""


class DocumentArrays(NamedTuple):
    """The snippets of all documents."""

    words: Any
    """Bits of all embeddings, uint32 (n,)."""
    halves: bool
    """Whether the embeddings are float16."""
    bias: Any
    """Weighted bias of each snippet, float32 (T,); empty if the weight is 0."""


class Settings(NamedTuple):
    """The fields of `config.Alignment` that the kernels need."""

    steps: int
    """CLASSIC, SLOPE or WIDE."""
    whole: bool
    """Whether documents are aligned from their first to their last snippet."""
    penalty: np.float32
    """Cost of a jump."""
    price: np.float32
    """Cost of a query row that is left out; infinity leaves none out."""


class Scratch(NamedTuple):
    """Memory for aligning a pack; each array has one vector per position unless its docstring says otherwise."""

    columns: Any
    """Embeddings of the pack, DIMENSION vectors per position, or WORDS vectors of bytes."""
    base: Any
    """Cost of each snippet without the product."""
    block: Any
    """Local costs of `block_rows` query rows, one vector per position and row."""
    totals: Any
    """Last row of D."""
    charges: Any
    """Two vectors per position: the cost of steps (2, 1) and of steps (3, 1) before they enter their last cell."""
    carried: Any
    """Four vectors that one row passes to the next: the minimum total (with rests, R), the length of its path, and with
    rests R again and the position of the last cell of R's path."""
    starts: Any
    """Index in `DocumentArrays.words` at which the current snippet of each lane starts, int64 (LANES,)."""


class PathLengths(NamedTuple):
    """Lengths of paths, in cells; each array has one vector per position."""

    totals: Any
    """Lengths of the paths behind `Scratch.totals`."""
    charges: Any
    """Lengths of the paths behind the charges of step (2, 1)."""
    far_charges: Any
    """Lengths of the paths behind the charges of step (3, 1)."""


class PathScratch(NamedTuple):
    """Memory for `fill`, which cuts one document into 16 pieces and packs them."""

    columns: Any
    """Embeddings of the pack, like `Scratch.columns`."""
    base: Any
    """Cost of each snippet without the product, like `Scratch.base`."""
    block: Any
    """Local costs of `block_rows` query rows, like `Scratch.block`."""
    costs: Any
    """Local costs of one query row, float32 (length + PADDING,)."""
    above: Any
    """Previous row of D after PADDING elements, float32 (length + PADDING,)."""
    here: Any
    """Current row of D after PADDING elements, float32 (length + PADDING,)."""
    charges: Any
    """Cost of step (2, 1) into each column before it enters its last cell, float32 (length + PADDING,)."""
    far_charges: Any
    """Cost of step (3, 1) into each column before it enters its last cell, float32 (length + PADDING,)."""
    starts: Any
    """Index at which the current snippet of each lane starts, like `Scratch.starts`."""
    begins: Any
    """First snippet of each piece, int64 (LANES,)."""
    lengths: Any
    """Number of snippets of each piece, int64 (LANES,)."""


# nnan and nsz let minima vectorise. Both are safe, because no kernel makes a NaN: an infinity is only added to a finite
# number or to an infinity of the same sign.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"nnan", "nsz", "contract"}}


_entry = kept(**_OPTIONS)
"""Compiles a kernel that Python calls."""


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function that only kernels call; its machine code becomes part of theirs."""
    compiled: Callable[..., Any] = numba.njit(**_OPTIONS)(function)
    return compiled


@_entry
def block_rows(positions):
    """Number of query rows whose costs are computed in one pass over the pack."""
    return 8 if positions < LONG else 32


@_entry
def align_packs(queries, documents, settings, begins, lengths, scratch, paths, costs, ends):
    """Aligns documents, and writes their `costs` and `ends`, (Q, documents).

    queries, documents, settings, scratch: fields of Queries, DocumentArrays, Settings and Scratch, as plain tuples.
    begins, lengths: int64 (a multiple of 16,), first snippet and number of snippets of each document.
    paths: fields of PathLengths, to divide costs by the length of the path; None divides by the length of the query.
    costs, ends: infinity and -1 on entry, and left so where there is no path.
    """
    named = Queries(*queries), DocumentArrays(*documents), Settings(*settings), begins, lengths, Scratch(*scratch)
    if paths is None:
        fill_packs(*named, None, costs, ends)
    else:
        fill_packs(*named, PathLengths(*paths), costs, ends)


@_compiled
def fill_packs(queries, documents, settings, begins, lengths, scratch, paths, costs, ends):
    """Aligns documents like `align_packs`, whose tuples arrive here with named fields."""
    rows, counts = queries.rows, queries.counts
    totals, carried = scratch.totals, scratch.carried
    for first in range(0, len(lengths), LANES):
        part = slice(first, first + LANES)
        positions = pack_columns(documents, begins[part], lengths[part], scratch.columns, scratch.base, scratch.starts)
        stop = 0
        for q in range(len(counts)):
            start, stop = stop, stop + (counts[q] + ROWS - 1) // ROWS * ROWS
            last_row(rows[start:stop], counts[q], positions, settings, scratch, paths)
            for lane in range(LANES):
                end = lengths[first + lane] - 1 if settings.whole else int(carried[lane])
                total = totals[end * LANES + lane] if end >= 0 else INFINITY
                if settings.price < INFINITY:
                    total, end = carried[2 * LANES + lane], int(carried[3 * LANES + lane])
                if total < INFINITY:
                    cells = np.float32(counts[q]) if paths is None else paths.totals[end * LANES + lane]
                    costs[q, first + lane], ends[q, first + lane] = total / cells, end


@_compiled
def last_row(rows, count, positions, settings, scratch, paths):
    """Writes the last row of D of one query to `totals` and, unless paths are whole, its first minimum to `carried`."""
    steps, whole, penalty = settings.steps, settings.whole, settings.penalty
    block, totals, charges, carried = scratch.block, scratch.totals, scratch.charges, scratch.carried
    height, price, lead = block_rows(positions), settings.price, ZERO
    store(carried, 2 * LANES, splat(INFINITY))
    for i in range(count):
        if i % height == 0:
            block_costs(rows, i, height, scratch.columns, scratch.base, positions, block)
        place = i % height * positions * LANES
        if i == 0:
            first_row(block, positions, steps, whole, totals, charges, carried, paths)
        elif steps == SLOPE:
            slope_row(block, place, positions, penalty, lead, None, totals, charges, carried, paths)
        elif steps == WIDE:
            slope_row(block, place, positions, penalty, lead, positions * LANES, totals, charges, carried, paths)
        else:
            classic_row(block, place, positions, penalty, lead, totals, carried, paths)
        lead += price
        if price < INFINITY:
            rest(totals, positions, price, carried)
    if not whole:
        first_minimum(totals, positions, carried)


@_compiled
def pack_columns(documents, begins, lengths, columns, base, starts):
    """Packs 16 sequences into `columns`, writes base costs to `base`, and returns the number of positions."""
    words, halves, bias = documents.words, documents.halves, documents.bias
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
    """Writes the local costs of `height` query rows from `first` on to `block`."""
    last = min(first + height, len(rows))
    for position in range(0, positions, POSITIONS):
        for row in range(first, last, ROWS):
            place = ((row - first) * positions + position) * LANES
            product(rows, row, columns, base, position, block, place, positions * LANES)


@_compiled
def first_row(costs, positions, steps, whole, totals, charges, carried, paths):
    """Writes row 0 of D to `totals`, and infinite charges, because no step (2, 1) or (3, 1) ends in row 1."""
    total, cells = splat(ZERO), splat(ZERO)
    lowest, lowest_cells = splat(INFINITY), splat(ZERO)
    for at in range(0, positions * LANES, LANES):
        cost = load(costs, at)
        if at == 0 or not whole:
            total, cells = cost, splat(ONE)
        elif steps != CLASSIC:
            total = splat(INFINITY)
        else:
            total, cells = plus(total, cost), plus(cells, splat(ONE))
        store(totals, at, total)
        store(charges, at, splat(INFINITY))
        store(charges, positions * LANES + at, splat(INFINITY))
        if paths is not None:
            store(paths.totals, at, cells)
            store(paths.charges, at, cells)
            store(paths.far_charges, at, cells)
            lowest_cells = where_less(total, lowest, cells, lowest_cells)
        lowest = minimum(total, lowest)
    store(carried, 0, lowest)
    store(carried, LANES, lowest_cells)


@_compiled
def slope_row(costs, place, positions, penalty, lead, far, totals, charges, carried, paths):
    """Writes row i of D to `totals`, which holds row i - 1 on entry, for slope or wide steps.

    place: index in `costs` at which the local costs of row i start.
    lead: cost of leaving out all rows before row i.
    far: None for slope steps; for wide steps the index in `charges` at which the charges of step (3, 1) start.
    charges: charges[j] = D[i-2, j-1] + C[i-1, j], the cost of step (2, 1) before (i, j), and from `far` on
        D[i-3, j-1] + C[i-2, j] + C[i-1, j]; on return, the charges of row i + 1.
    carried: the minimum of row i - 1 and the length of its path; on return, those of row i.
    paths: PathLengths, or None.
    """
    jump, jump_cells = minimum(plus(load(carried, 0), splat(penalty)), splat(lead)), load(carried, LANES)
    diagonal = column = far_column = lowest = splat(INFINITY)
    diagonal_cells = column_cells = far_column_cells = lowest_cells = splat(ZERO)
    for at in range(0, positions * LANES, LANES):
        cost, above, charge = load(costs, place + at), load(totals, at), load(charges, at)
        best = minimum(charge, diagonal)
        if paths is not None:
            charge_cells = load(paths.charges, at)
            cells = where_less(charge, diagonal, charge_cells, diagonal_cells)
            cells = where_less(column, best, column_cells, cells)
        best = minimum(column, best)
        if far is not None:
            far_charge = load(charges, far + at)
            if paths is not None:
                cells = where_less(far_charge, best, load(paths.far_charges, at), cells)
                cells = where_less(far_column, minimum(far_charge, best), far_column_cells, cells)
                store(paths.far_charges, at, plus(charge_cells, splat(ONE)))
            best = minimum(minimum(far_charge, far_column), best)
            store(charges, far + at, plus(charge, cost))
            far_column, far_column_cells = column, column_cells
        total = plus(cost, minimum(best, jump))
        if paths is not None:
            cells = plus(where_less(jump, best, jump_cells, cells), splat(ONE))
            lowest_cells = where_less(total, lowest, cells, lowest_cells)
            above_cells = load(paths.totals, at)
            store(paths.totals, at, cells)
            store(paths.charges, at, plus(diagonal_cells, splat(ONE)))
            column_cells, diagonal_cells = diagonal_cells, above_cells
        store(totals, at, total)
        store(charges, at, plus(diagonal, cost))
        lowest = minimum(total, lowest)
        column, diagonal = diagonal, above
    store(carried, 0, lowest)
    store(carried, LANES, lowest_cells)


@_compiled
def classic_row(costs, place, positions, penalty, lead, totals, carried, paths):
    """Writes row i of D to `totals`, which holds row i - 1 on entry, for classic steps. Arguments: see `slope_row`."""
    jump, jump_cells = minimum(plus(load(carried, 0), splat(penalty)), splat(lead)), load(carried, LANES)
    diagonal = left = lowest = splat(INFINITY)
    diagonal_cells = left_cells = lowest_cells = splat(ZERO)
    for at in range(0, positions * LANES, LANES):
        cost, above = load(costs, place + at), load(totals, at)
        best = minimum(above, diagonal)
        if paths is not None:
            above_cells = load(paths.totals, at)
            cells = where_less(above, diagonal, above_cells, diagonal_cells)
            cells = where_less(left, best, left_cells, cells)
            cells = where_less(jump, minimum(left, best), jump_cells, cells)
            left_cells = plus(cells, splat(ONE))
            store(paths.totals, at, left_cells)
            diagonal_cells = above_cells
        # In this grouping, the next cell waits for only one minimum and one sum of this cell.
        left = plus(cost, minimum(left, minimum(best, jump)))
        if paths is not None:
            lowest_cells = where_less(left, lowest, left_cells, lowest_cells)
        store(totals, at, left)
        lowest = minimum(left, lowest)
        diagonal = above
    store(carried, 0, lowest)
    store(carried, LANES, lowest_cells)


@_compiled
def rest(totals, positions, price, carried):
    """Writes R of a row, whose minimum is in `carried` on entry, to `carried`, with the last position of R's path."""
    rested, end = plus(load(carried, 2 * LANES), splat(price)), load(carried, 3 * LANES)
    lowest = load(carried, 0)
    first_minimum(totals, positions, carried)
    store(carried, 3 * LANES, where_less(rested, lowest, end, load(carried, 0)))
    store(carried, 2 * LANES, minimum(lowest, rested))
    store(carried, 0, minimum(lowest, rested))


@_compiled
def first_minimum(totals, positions, carried):
    """Writes the position of each lane's first minimum to `carried`, or -1 where all values are infinite."""
    lowest, end = splat(INFINITY), splat(np.float32(-1))
    for position in range(positions):
        total = load(totals, position * LANES)
        end = where_less(total, lowest, splat(np.float32(position)), end)
        lowest = minimum(total, lowest)
    store(carried, 0, end)


@_entry
def fill(queries, documents, settings, scratch, ways, sources):
    """Whether there is a path of one query through one document of at least one snippet.

    The document is cut into 16 pieces, which form a pack.
    queries, documents, settings, scratch: fields of Queries, DocumentArrays, Settings and PathScratch, as plain tuples.
    ways: uint8 (N, M); receives the way into each cell.
    sources: int32 (N + 1, 2); receives the cell from which jumps into each row start, then the last cell of the path.
    """
    named, chosen = PathScratch(*scratch), Settings(*settings)
    rows, (count, length) = Queries(*queries).rows, ways.shape
    steps, whole, penalty = chosen.steps, chosen.whole, chosen.penalty
    columns, base, block, costs = named.columns, named.base, named.block, named.costs
    above, here, charges, far_charges = named.above, named.here, named.charges, named.far_charges
    begins, lengths = named.begins, named.lengths
    piece = (length + LANES - 1) // LANES
    for lane in range(LANES):
        lengths[lane] = min(max(length - lane * piece, 0), piece)
        begins[lane] = lane * piece
    positions = pack_columns(DocumentArrays(*documents), begins, lengths, columns, base, named.starts)
    height = block_rows(positions)
    jump, barrier = INFINITY, ZERO if steps == WIDE else INFINITY
    total, lead, entry = INFINITY, ZERO, JUMP
    for i in range(count):
        if i % height == 0:
            block_costs(rows, i, height, columns, base, positions, block)
        for lane in range(LANES):
            for position in range(lengths[lane]):
                costs[lane * piece + position] = block[(i % height * positions + position) * LANES + lane]
        if i == 0:
            fill_first(costs, length, steps, whole, here, charges, far_charges, ways[0])
        elif steps == CLASSIC:
            fill_classic(costs, length, jump, entry, above, here, ways[i])
        else:
            fill_slope(costs, length, jump, entry, barrier, above, here, charges, far_charges, ways[i])
        above, here = here, above
        lowest, rested = first_minimum_of(above, length), total + chosen.price
        lead += chosen.price
        if rested < above[lowest + PADDING]:
            total = rested
            sources[i + 1] = sources[i]
        else:
            total = above[lowest + PADDING]
            sources[i + 1, 0], sources[i + 1, 1] = i, lowest
        jump, entry = total + penalty, JUMP
        if lead < jump:
            jump, entry = lead, START
    if whole:
        sources[count, 0], sources[count, 1], total = count - 1, length - 1, above[length - 1 + PADDING]
    return total < INFINITY


@_compiled
def fill_first(costs, length, steps, whole, here, charges, far_charges, ways):
    """Writes row 0 of D to `here`, and the charges for row 1."""
    for j in range(length):
        here[j + PADDING] = costs[j] if j == 0 or not whole else INFINITY
        charges[j] = far_charges[j] = INFINITY
        if steps == CLASSIC and whole and j > 0:
            here[j + PADDING] = here[j + PADDING - 1] + costs[j]
            ways[j] = COLUMN


@_compiled
def fill_slope(costs, length, jump, entry, barrier, above, here, charges, far_charges, ways):
    """Writes the next row of D to `here`, for slope or wide steps.

    The loop only selects and never branches, so that LLVM vectorises it.
    entry: JUMP or START, the way that costs `jump`.
    barrier: infinity forbids steps (3, 1) and (1, 3); 0 allows them.
    """
    for j in range(length):
        cost, diagonal, charge = costs[j], above[j + PADDING - 1], charges[j]
        column, far_charge, far_column = above[j + PADDING - 2], far_charges[j] + barrier, above[j] + barrier
        way = ROW if charge < diagonal else DIAGONAL
        best = min(charge, diagonal)
        way = COLUMN if column < best else way
        best = min(column, best)
        way = FAR_ROW if far_charge < best else way
        best = min(far_charge, best)
        way = FAR_COLUMN if far_column < best else way
        best = min(far_column, best)
        ways[j] = entry if jump < best else way
        here[j + PADDING] = cost + min(jump, best)
        far_charges[j] = charge + cost
        charges[j] = diagonal + cost


@_compiled
def fill_classic(costs, length, jump, entry, above, here, ways):
    """Writes the next row of D to `here`, for classic steps. Each cell waits for its left neighbour."""
    for j in range(length):
        best, way = above[j + PADDING - 1], DIAGONAL
        if above[j + PADDING] < best:
            best, way = above[j + PADDING], ROW
        if here[j + PADDING - 1] < best:
            best, way = here[j + PADDING - 1], COLUMN
        if jump < best:
            best, way = jump, entry
        here[j + PADDING] = costs[j] + best
        ways[j] = way


@_compiled
def first_minimum_of(row, length):
    """The column of the first minimum among the `length` values after the padding of a row."""
    end = 0
    for j in range(1, length):
        if row[j + PADDING] < row[end + PADDING]:
            end = j
    return end


@_entry
def trace(ways, sources, classic, whole, path):
    """The number of cells of the path to the last cell in `sources` (see `fill`).

    path: int32 (number of cells, 2); receives the cells in order. An array without rows receives nothing.
    """
    (i, j), cells, skipped = sources[len(ways)], 0, 0
    while True:
        cells += 1
        if len(path) > 0:
            path[len(path) - cells, 0], path[len(path) - cells, 1] = i, j
        if skipped > 0:
            skipped -= 1
            i, j = i - 1, j - (skipped == 0)
            continue
        if i == 0 and (j == 0 or not whole):
            return cells
        way = ways[i, j]
        if way == START:
            return cells
        if way == JUMP:
            i, j = sources[i]
        elif classic:
            i, j = i - (way != COLUMN), j - (way != ROW)
        elif way == COLUMN:
            i, j = i - 1, j - 2
        elif way == FAR_COLUMN:
            i, j = i - 1, j - 3
        elif way == DIAGONAL:
            i, j = i - 1, j - 1
        else:
            skipped = 1 if way == ROW else 2
            i -= 1
