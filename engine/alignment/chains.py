"""Chains: the cheapest way of a long query through several documents, with rests between them.

`engine.alignment.chain_definition` says what a chain is. This module computes it in time linear in the length of the
query, and in memory for one stage: it goes through the query forwards and keeps only what one stage hands to the next.
Then it goes backwards, computes each stage a second time, now with the way into every cell, and traces the chain.
Totals are counted from the start of the stage, so that their rounding does not grow with the query.

A query that is still going on is given in parts. `advanced` goes on from the state after the rows whose way is settled,
and traces the chain through the rows that follow them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Path, chain_kernels, check_query
from engine.alignment.kernels import PADDING
from engine.config import Alignment
from engine.values import Documents, Embeddings, Packed

CELLS_AT_A_TIME = 2_000_000
"""Cells whose local costs are computed at a time: 8 MB."""

Floats = NDArray[np.float32]
Cells = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the query, and the documents that may be played in it."""

    rows: int
    """Number of query rows."""
    documents: NDArray[np.int64]
    """Numbers of the documents, rising."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A part of the query that a chain aligns with one document."""

    document: int
    """Number of the document."""
    path: Path
    """Cells in order, int32 (L, 2): query row and document snippet; one cell for each row of the part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of a chain after some rows: its last row, with totals counted from S of this row."""

    numbers: NDArray[np.int64]
    """Numbers of the documents, (B,)."""
    offsets: NDArray[np.int64]
    """Borders of the documents, (B + 1,)."""
    totals: Floats
    """Last row of D, each document after PADDING elements, (M + B * PADDING,)."""
    charges: Floats
    """Cost of steps (2, 1) and (3, 1) before they enter their last cell, (2, M)."""
    lowest: Floats
    """Minimum of each document's totals, (B,)."""
    leaps: NDArray[np.int32]
    """Snippet of this minimum, (B,)."""
    end: NDArray[np.int32]
    """Last cell of the path of S: number of the document, and snippet; -1 for a rest; (2,)."""

    @classmethod
    def begun(cls) -> "State":
        """Returns the state before the first row."""
        nothing = np.empty(0, dtype=np.float32)
        return cls(
            numbers=np.empty(0, dtype=np.int64),
            offsets=np.zeros(1, dtype=np.int64),
            totals=nothing,
            charges=np.empty((2, 0), dtype=np.float32),
            lowest=nothing,
            leaps=np.empty(0, dtype=np.int32),
            end=np.full(2, -1, dtype=np.int32),
        )


def chain(
    query: Embeddings,
    stages: Sequence[Stage],
    documents: Documents,
    settings: Alignment,
    entry_price: float,
    between: Callable[[], None] = lambda: None,
) -> list[Link]:
    """Returns the links of the cheapest chain, in the order of the query.

    query: float32 (N, 32). stages: of N rows together.
    documents: all documents; each stage reads its own.
    settings: with a price of rests, and steps that are not classic.
    entry_price: cost of entering a document.
    between: is called between parts of the work, of some hundred milliseconds. It may raise, which ends the work.
    Raises ValueError if the arguments do not fit together.
    """
    check_query(query)
    _check_settings(settings)
    if sum(stage.rows for stage in stages) != len(query) or any(stage.rows < 1 for stage in stages):
        raise ValueError(f"expected stages of {len(query)} rows together, got {[stage.rows for stage in stages]}")
    firsts = np.cumsum([0, *(stage.rows for stage in stages)])
    states = [State.begun()]
    parts = [query[first : first + stage.rows] for first, stage in zip(firsts[:-1], stages, strict=True)]
    for part, stage in zip(parts, stages, strict=True):
        between()
        packed = documents.take(stage.documents)
        states.append(_Passing(part, stage.documents, packed, states[-1], settings, entry_price).state())
    at, cells = _last_cell(len(query), states[-1]), []
    for k in reversed(range(len(stages))):
        between()
        packed = documents.take(stages[k].documents)
        passing = _Passing(parts[k], stages[k].documents, packed, states[k], settings, entry_price)
        cells.append(passing.filled().traced(int(firsts[k]), at))
    return links(np.concatenate(cells)[::-1])


def advanced(
    before: State,
    query: Embeddings,
    settled: int,
    stage: Stage,
    documents: Documents,
    settings: Alignment,
    price: float,
) -> tuple[State, Cells]:
    """Returns the state after the first rows of a query that goes on, and the cells of the cheapest chain so far.

    before: the state before these rows. query: float32 (N, 32), the rows that follow. settled: number of the first rows
        of them, less than N, after which the state is that is returned.
    stage: the rows of the query, and the documents that may be played in them. documents: all documents.
    settings: as for `chain`. price: cost of entering a document.
    The cells are int32 (L, 4), in order: row, number of the document, snippet, and whether the path enters the document
    there. Rows are counted from the first one of `query`.
    """
    check_query(query)
    _check_settings(settings)
    if not 0 <= settled < len(query) == stage.rows:
        raise ValueError(f"expected fewer settled rows than the {len(query)} of query and stage, got {settled}")
    packed, filled = documents.take(stage.documents), []
    state = before
    for first, part in ((0, query[:settled]), (settled, query[settled:])):
        if len(part):
            passing = _Passing(part, stage.documents, packed, state, settings, price).filled()
            filled.append((first, passing))
            state = passing.after
    at = _last_cell(len(query), state)
    cells = [passing.traced(first, at) for first, passing in reversed(filled)]
    return filled[0][1].after if settled else before, np.concatenate(cells)[::-1]


def _check_settings(settings: Alignment) -> None:
    """Raises ValueError if chains have no such settings."""
    if settings.steps == "classic" or settings.whole or not settings.rests:
        raise ValueError(f"expected slope or wide steps, parts of documents and a price of rests, got {settings}")


def _last_cell(rows: int, state: State) -> NDArray[np.int32]:
    """Returns the cell from which a chain of some rows is traced, see `chain_kernels.trace_chain`."""
    return np.array([rows - 1, *state.end, 0], dtype=np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filled:
    """A part of a chain after it is computed with the way into each cell."""

    before: State
    """The state before it, of the documents of the part."""
    after: State
    leaps: NDArray[np.int32]
    ends: NDArray[np.int32]
    ways: NDArray[np.uint8]
    """These three as `chain_kernels.fill_chain` writes them."""

    def traced(self, first: int, at: NDArray[np.int32]) -> Cells:
        """Returns the cells of the chain in this part, last cell first, see `chain_kernels.trace_chain`.

        first: number of the part's first row. at: the cell to trace from; on return, that of the part before.
        """
        before, cells = self.before, np.empty((len(self.ways), 4), dtype=np.int32)
        borders = before.offsets, before.numbers
        count = chain_kernels.trace_chain(
            first, *borders, self.leaps, self.ends, self.ways, before.leaps, before.end, at, cells
        )
        return cells[:count]


class _Passing:
    """A part of a chain while it is computed, from the state that the part before hands over."""

    def __init__(
        self,
        query: Embeddings,
        numbers: NDArray[np.int64],
        packed: Packed,
        before: State,
        settings: Alignment,
        entry_price: float,
    ) -> None:
        """numbers, packed: the documents that may be played in the part."""
        self._query = query
        self._packed = _as_float32(packed)
        self._state = _carried(before, numbers, packed.offsets)
        self._settings = settings
        self._entry_price = entry_price

    def state(self) -> State:
        """Returns the state after the part."""
        return self._filled(traced=False).after

    def filled(self) -> _Filled:
        """Returns the part with the way into each cell."""
        return self._filled(traced=True)

    def _filled(self, *, traced: bool) -> _Filled:
        before, settings, rows = self._state, self._settings, len(self._query)
        columns, count = len(self._packed.bias), len(self._packed)
        leaps, ends = np.zeros((rows, count), dtype=np.int32), np.empty((rows, 2), dtype=np.int32)
        ways = np.empty((rows if traced else 1, columns), dtype=np.uint8)
        above, charges, lowest = before.totals.copy(), before.charges.copy(), before.lowest.copy()
        here = np.full_like(above, np.inf)
        prices = np.array([settings.jump_penalty, settings.rest_price, self._entry_price, 0], dtype=np.float32)
        base = 1 + np.float32(settings.bias_weight) * self._packed.bias
        step = max(1, CELLS_AT_A_TIME // max(1, columns))
        for first in range(0, rows, step):
            part = slice(first, first + step)
            costs = base - self._query[part] @ self._packed.embeddings.T
            given = ways[part] if traced else ways
            chain_kernels.fill_chain(
                costs, before.offsets, before.numbers, prices, settings.steps == "wide", above, here, *charges, lowest,
                leaps[part], ends[part], given,
            )  # fmt: skip
        reached = prices[3]
        after = replace(
            before, totals=above - reached, charges=charges - reached, lowest=lowest - reached, leaps=leaps[-1],
            end=ends[-1],
        )  # fmt: skip
        return _Filled(before=before, after=after, leaps=leaps, ends=ends, ways=ways)


def _as_float32(packed: Packed) -> Packed:
    """Returns the documents with embeddings as float32, which matrices are multiplied in."""
    return Packed(embeddings=packed.embeddings.astype(np.float32), bias=packed.bias, offsets=packed.offsets)


def _carried(before: State, numbers: NDArray[np.int64], offsets: NDArray[np.int64]) -> State:
    """Returns the state for the documents of the next stage: documents that the stage before lacked cost infinity."""
    count, columns = len(numbers), int(offsets[-1])
    totals = np.full(columns + count * PADDING, np.inf, dtype=np.float32)
    charges = np.full((2, columns), np.inf, dtype=np.float32)
    lowest, leaps = np.full(count, np.inf, dtype=np.float32), np.zeros(count, dtype=np.int32)
    _, old, new = np.intersect1d(before.numbers, numbers, return_indices=True)
    for b, d in zip(old.tolist(), new.tolist(), strict=True):
        start, first, length = int(before.offsets[b]), int(offsets[d]), int(offsets[d + 1] - offsets[d])
        totals[first + d * PADDING :][: length + PADDING] = before.totals[start + b * PADDING :][: length + PADDING]
        charges[:, first : first + length] = before.charges[:, start : start + length]
    lowest[new], leaps[new] = before.lowest[old], before.leaps[old]
    return replace(before, numbers=numbers, offsets=offsets, totals=totals, charges=charges, lowest=lowest, leaps=leaps)


def links(cells: Cells) -> list[Link]:
    """Returns the links of a chain. cells: in order, (L, 4), see `advanced`.

    Cells of another document than the cell before begin a link, too, as do the first cells: a chain that goes on may
    have been entered before them.
    """
    entries = cells[:, 3].astype(np.bool_)
    entries[:1] = True
    entries[1:] |= cells[1:, 1] != cells[:-1, 1]
    parts = np.split(cells, np.flatnonzero(entries)[1:]) if len(cells) else []
    return [Link(document=int(part[0, 1]), path=np.ascontiguousarray(part[:, (0, 2)])) for part in parts]
