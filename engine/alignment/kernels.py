"""What `cpu` compiles. Nothing is allocated here: numba's own array functions take longest to compile.

A *pack* is 16 sequences side by side, one a lane, filled up with snippets of infinite cost to a common number of
positions, a multiple of POSITIONS. All arrays of a pack are flat, with a vector of 16 floats a position.
"""

# The kernels' types are numba's to find, and so is the first argument of an intrinsic.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from engine.alignment.lanes import LANES, POSITIONS, ROWS, least, load, pack, plus, product, splat, store, where_less
from engine.values import DIMENSION

LONG = 1000
"""Positions from which on a pack lies outside the second cache (2 MiB) and must be read less often."""

STEPS = ("classic", "slope", "wide")
CLASSIC, SLOPE, WIDE = 0, 1, 2

DIAGONAL, ROW, COLUMN, FAR_ROW, FAR_COLUMN, JUMP = (np.uint8(way) for way in range(6))
"""How a cell was reached, in the order ties prefer. Of classic steps ROW is (1, 0) and COLUMN (0, 1), of the others
(2, 1) and (1, 2); FAR_ROW is (3, 1) and FAR_COLUMN (1, 3)."""

PADDING = 3
"""Places before the first column of a row in `fill`, as far as a step reaches."""

INFINITY = np.float32(np.inf)
ZERO, ONE = np.float32(0), np.float32(1)


class Queries(NamedTuple):
    """Several queries, one after the other."""

    rows: Any
    """Their embeddings negated, as `lanes.product` takes them; each query is filled up to a multiple of ROWS."""
    counts: Any
    """int64 (Q,): how many rows of each query are real."""


class DocumentArrays(NamedTuple):
    """The snippets of all documents."""

    words: Any
    """uint32: the bits of all embeddings."""
    halves: bool
    """Whether the embeddings are float16."""
    bias: Any
    """float32 (T,), weighted; empty if it does not count."""


class Settings(NamedTuple):
    """What of `config.Alignment` the kernels need."""

    steps: int
    """CLASSIC, SLOPE or WIDE."""
    whole: bool
    penalty: np.float32
    """Cost of a jump."""


class Scratch(NamedTuple):
    """Memory for a pack; a vector a position unless it says otherwise."""

    columns: Any
    """The pack's embeddings, DIMENSION (as bytes: WORDS) vectors a position."""
    base: Any
    """Cost of each snippet before the product."""
    block: Any
    """Local costs of `block_rows` query rows."""
    totals: Any
    """The last row of D."""
    charges: Any
    """Twice a vector a position: what steps (2, 1) and (3, 1) have cost before they arrive."""
    carried: Any
    """Two vectors that one row hands to the next: the least total, and the length of its path."""
    starts: Any
    """int64 (LANES,): where in `DocumentArrays.words` the snippet being packed starts."""


class PathLengths(NamedTuple):
    """Lengths of paths, in cells; a vector a position each."""

    totals: Any
    """The lengths of the paths behind `Scratch.totals` ..."""
    charges: Any
    """... and behind the charges of step (2, 1) ..."""
    far_charges: Any
    """... and of step (3, 1)."""


class PathScratch(NamedTuple):
    """Memory for `fill`, which cuts one document into 16 pieces that make a pack."""

    columns: Any
    base: Any
    block: Any
    """These three are as in `Scratch`."""
    costs: Any
    """Local costs of one query row; this and the next four are float32 (length + PADDING,)."""
    above: Any
    """A row of D ..."""
    here: Any
    """... and the row after it."""
    charges: Any
    far_charges: Any
    """What steps (2, 1) and (3, 1) have cost before they arrive."""
    starts: Any
    """As in `Scratch`."""
    begins: Any
    lengths: Any
    """int64 (LANES,): first snippet and number of snippets of each piece."""


# No NaN is made: an infinity is only ever added to a finite number or to its like. So nnan and nsz are safe; they let
# minima vectorise.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"nnan", "nsz", "contract"}}


def _entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a kernel that Python calls, and keeps the machine code on disk.

    Its arguments must not be of a class of ours: numba's index of what it keeps names the types of arguments, and
    cannot be read any more once a class that it names is renamed.
    """
    compiled: Callable[..., Any] = numba.njit(cache=True, **_OPTIONS)(function)
    return compiled


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles what kernels call; the machine code becomes part of theirs."""
    compiled: Callable[..., Any] = numba.njit(**_OPTIONS)(function)
    return compiled


@_entry
def block_rows(positions):
    """Query rows whose costs are made together: each time the pack is read once."""
    return 8 if positions < LONG else 32


@_entry
def align_packs(queries, documents, settings, begins, lengths, scratch, paths, costs, ends):
    """Writes the costs and ends of documents, (Q, documents); infinity and -1 stand there already.

    queries, documents, settings, scratch: plain tuples of what Queries, DocumentArrays, Settings and Scratch hold.
    begins, lengths: int64 (a multiple of 16,) first snippet and number of snippets of each document.
    paths: what PathLengths holds, to divide costs by the length of the path; None divides by the length of the query.
    """
    some = Queries(*queries), DocumentArrays(*documents), Settings(*settings), begins, lengths, Scratch(*scratch)
    if paths is None:
        fill_packs(*some, None, costs, ends)
    else:
        fill_packs(*some, PathLengths(*paths), costs, ends)


@_compiled
def fill_packs(queries, documents, settings, begins, lengths, scratch, paths, costs, ends):
    """As `align_packs`, with what it is given by name."""
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
                if total < INFINITY:
                    cells = np.float32(counts[q]) if paths is None else paths.totals[end * LANES + lane]
                    costs[q, first + lane], ends[q, first + lane] = total / cells, end


@_compiled
def last_row(rows, count, positions, settings, scratch, paths):
    """Leaves the last row of D of one query in `totals` and, of parts of documents, in `carried` where it is least."""
    steps, whole, penalty = settings.steps, settings.whole, settings.penalty
    block, totals, charges, carried = scratch.block, scratch.totals, scratch.charges, scratch.carried
    height = block_rows(positions)
    for i in range(count):
        if i % height == 0:
            block_costs(rows, i, height, scratch.columns, scratch.base, positions, block)
        place = i % height * positions * LANES
        if i == 0:
            first_row(block, positions, steps, whole, totals, charges, carried, paths)
        elif steps == SLOPE:
            slope_row(block, place, positions, penalty, None, totals, charges, carried, paths)
        elif steps == WIDE:
            slope_row(block, place, positions, penalty, positions * LANES, totals, charges, carried, paths)
        else:
            classic_row(block, place, positions, penalty, totals, carried, paths)
    if not whole:
        first_of_least(totals, positions, carried)


@_compiled
def pack_columns(documents, begins, lengths, columns, base, starts):
    """Packs 16 sequences into `columns`, and into `base` what each snippet costs before the product.

    Returns the number of positions.
    """
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
    """Costs of `height` query rows from `first` on."""
    last = min(first + height, len(rows))
    for position in range(0, positions, POSITIONS):
        for row in range(first, last, ROWS):
            place = ((row - first) * positions + position) * LANES
            product(rows, row, columns, base, position, block, place, positions * LANES)


@_compiled
def first_row(costs, positions, steps, whole, totals, charges, carried, paths):
    """Row 0 of D."""
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
        lowest = least(total, lowest)
    store(carried, 0, lowest)
    store(carried, LANES, lowest_cells)


@_compiled
def slope_row(costs, place, positions, penalty, far, totals, charges, carried, paths):
    """The next row of D into `totals`, where the one above it stands.

    far: None for slope steps; for wide ones where in `charges` those of step (3, 1) begin.
    charges: charges[j] = D[i-2, j-1] + C[i-1, j], which step (2, 1) has cost before (i, j), and from `far` on
        D[i-3, j-1] + C[i-2, j] + C[i-1, j]; the next row's are left.
    carried: the least of the row above and the length of its path; this row's are left.
    paths: PathLengths, or None.
    """
    jump, jump_cells = plus(load(carried, 0), splat(penalty)), load(carried, LANES)
    diagonal = column = far_column = lowest = splat(INFINITY)
    diagonal_cells = column_cells = far_column_cells = lowest_cells = splat(ZERO)
    for at in range(0, positions * LANES, LANES):
        cost, above, charge = load(costs, place + at), load(totals, at), load(charges, at)
        best = least(charge, diagonal)
        if paths is not None:
            charge_cells = load(paths.charges, at)
            cells = where_less(charge, diagonal, charge_cells, diagonal_cells)
            cells = where_less(column, best, column_cells, cells)
        best = least(column, best)
        if far is not None:
            far_charge = load(charges, far + at)
            if paths is not None:
                cells = where_less(far_charge, best, load(paths.far_charges, at), cells)
                cells = where_less(far_column, least(far_charge, best), far_column_cells, cells)
                store(paths.far_charges, at, plus(charge_cells, splat(ONE)))
            best = least(least(far_charge, far_column), best)
            store(charges, far + at, plus(charge, cost))
            far_column, far_column_cells = column, column_cells
        total = plus(cost, least(best, jump))
        if paths is not None:
            cells = plus(where_less(jump, best, jump_cells, cells), splat(ONE))
            lowest_cells = where_less(total, lowest, cells, lowest_cells)
            above_cells = load(paths.totals, at)
            store(paths.totals, at, cells)
            store(paths.charges, at, plus(diagonal_cells, splat(ONE)))
            column_cells, diagonal_cells = diagonal_cells, above_cells
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
            above_cells = load(paths.totals, at)
            cells = where_less(above, diagonal, above_cells, diagonal_cells)
            cells = where_less(left, best, left_cells, cells)
            cells = where_less(jump, least(left, best), jump_cells, cells)
            left_cells = plus(cells, splat(ONE))
            store(paths.totals, at, left_cells)
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


@_entry
def fill(queries, documents, settings, scratch, ways, sources):
    """The end of the best path through the only document, of at least one snippet; -1 if there is none.

    It is cut into 16 pieces, which make a pack.

    queries, documents, settings, scratch: plain tuples of what Queries, DocumentArrays, Settings and PathScratch hold.
    ways: uint8 (N, M) is given how each cell was reached; sources: int32 (N,) where the jumps into each row start.
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
    for i in range(count):
        if i % height == 0:
            block_costs(rows, i, height, columns, base, positions, block)
        for lane in range(LANES):
            for position in range(lengths[lane]):
                costs[lane * piece + position] = block[(i % height * positions + position) * LANES + lane]
        if i == 0:
            fill_first(costs, length, steps, whole, here, charges, far_charges, ways[0])
        elif steps == CLASSIC:
            fill_classic(costs, length, jump, above, here, ways[i])
        else:
            fill_slope(costs, length, jump, barrier, above, here, charges, far_charges, ways[i])
        above, here = here, above
        if i + 1 < count:
            sources[i + 1] = first_of_least_in(above, length)
            jump = above[sources[i + 1] + PADDING] + penalty
    end = length - 1 if whole else first_of_least_in(above, length)
    return end if above[end + PADDING] < INFINITY else -1


@_compiled
def fill_first(costs, length, steps, whole, here, charges, far_charges, ways):
    """Row 0 of D, and of the charges for row 1."""
    for j in range(length):
        here[j + PADDING] = costs[j] if j == 0 or not whole else INFINITY
        charges[j] = far_charges[j] = INFINITY
        if steps == CLASSIC and whole and j > 0:
            here[j + PADDING] = here[j + PADDING - 1] + costs[j]
            ways[j] = COLUMN


@_compiled
def fill_slope(costs, length, jump, barrier, above, here, charges, far_charges, ways):
    """The next row of D, by selections alone, so that vectors do it; an infinite `barrier` forbids far steps."""
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
        ways[j] = JUMP if jump < best else way
        here[j + PADDING] = cost + min(jump, best)
        far_charges[j] = charge + cost
        charges[j] = diagonal + cost


@_compiled
def fill_classic(costs, length, jump, above, here, ways):
    """As `fill_slope`, with classic steps; each cell waits for its left neighbour."""
    for j in range(length):
        best, way = above[j + PADDING - 1], DIAGONAL
        if above[j + PADDING] < best:
            best, way = above[j + PADDING], ROW
        if here[j + PADDING - 1] < best:
            best, way = here[j + PADDING - 1], COLUMN
        if jump < best:
            best, way = jump, JUMP
        here[j + PADDING] = costs[j] + best
        ways[j] = way


@_compiled
def first_of_least_in(row, length):
    """The first column of the least of a row's `length` values, which stand behind the padding."""
    end = 0
    for j in range(1, length):
        if row[j + PADDING] < row[end + PADDING]:
            end = j
    return end


@_entry
def trace(ways, sources, classic, whole, end, path):
    """How many cells the path to (N - 1, end) passes.

    path: int32 (that many, 2) is given the cells, in order, if it has rows.
    """
    i, j, cells, skipped = len(ways) - 1, end, 0, 0
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
        if way == JUMP:
            i, j = i - 1, sources[i]
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
