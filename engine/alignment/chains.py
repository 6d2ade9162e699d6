"""Chains: the cheapest way of a long query through several documents, with rests between them.

`engine.alignment.chain_definition` says what a chain is. This module computes it in time linear in the length of the
query, and in memory for one stage: it goes through the query forwards and keeps only what one stage hands to the next.
Then it goes backwards, computes each stage a second time, now with the way into every cell, and traces the chain.
Totals are counted from the start of the stage, so that their rounding does not grow with the query.
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
class _State:
    """What a stage hands to the next: its last row, with totals counted from S of this row."""

    numbers: NDArray[np.int64]
    """Numbers of the stage's documents, (B,)."""
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
    if settings.steps == "classic" or settings.whole or not settings.rests:
        raise ValueError(f"expected slope or wide steps, parts of documents and a price of rests, got {settings}")
    if sum(stage.rows for stage in stages) != len(query) or any(stage.rows < 1 for stage in stages):
        raise ValueError(f"expected stages of {len(query)} rows together, got {[stage.rows for stage in stages]}")
    firsts = np.cumsum([0, *(stage.rows for stage in stages)])
    nothing = np.empty(0, dtype=np.float32)
    states = [_State(
        numbers=np.empty(0, dtype=np.int64),
        offsets=np.zeros(1, dtype=np.int64),
        totals=nothing,
        charges=np.empty((2, 0), dtype=np.float32),
        lowest=nothing,
        leaps=np.empty(0, dtype=np.int32),
        end=np.full(2, -1, dtype=np.int32),
    )]  # fmt: skip
    parts = [query[first : first + stage.rows] for first, stage in zip(firsts[:-1], stages, strict=True)]
    for part, stage in zip(parts, stages, strict=True):
        between()
        states.append(_Passing(part, stage, documents, states[-1]).state(settings, entry_price))
    at, cells = np.array([len(query) - 1, *states[-1].end, 0], dtype=np.int32), []
    for k in reversed(range(len(stages))):
        between()
        passing = _Passing(parts[k], stages[k], documents, states[k])
        cells.append(passing.traced(settings, entry_price, int(firsts[k]), at))
    return _links(np.concatenate(cells)[::-1])


class _Passing:
    """One stage of a chain while it is computed, from the state that the stage before hands over."""

    def __init__(self, query: Embeddings, stage: Stage, documents: Documents, before: _State) -> None:
        packed = documents.take(stage.documents)
        self._query = query
        self._packed = _as_float32(packed)
        self._state = _carried(before, stage.documents, packed.offsets)

    def state(self, settings: Alignment, entry_price: float) -> _State:
        """Returns the state after the stage."""
        return self._filled(settings, entry_price, traced=False)[0]

    def traced(self, settings: Alignment, entry_price: float, first: int, at: NDArray[np.int32]) -> NDArray[np.int32]:
        """Returns the cells of the chain in this stage, last cell first, see `chain_kernels.trace_chain`.

        first: number of the stage's first row. at: the cell to trace from; on return, that of the stage before.
        """
        before = self._state
        _, leaps, ends, ways = self._filled(settings, entry_price, traced=True)
        cells = np.empty((len(self._query), 4), dtype=np.int32)
        borders = before.offsets, before.numbers
        count = chain_kernels.trace_chain(first, *borders, leaps, ends, ways, before.leaps, before.end, at, cells)
        return cells[:count]

    def _filled(
        self, settings: Alignment, entry_price: float, *, traced: bool
    ) -> tuple[_State, NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
        """Returns the state after the stage, and the leaps, ends and ways of `chain_kernels.fill_chain`."""
        before, rows, (columns, count) = self._state, len(self._query), (len(self._packed.bias), len(self._packed))
        leaps, ends = np.zeros((rows, count), dtype=np.int32), np.empty((rows, 2), dtype=np.int32)
        ways = np.empty((rows if traced else 1, columns), dtype=np.uint8)
        above, charges, lowest = before.totals.copy(), before.charges.copy(), before.lowest.copy()
        here = np.full_like(above, np.inf)
        prices = np.array([settings.jump_penalty, settings.rest_price, entry_price, 0], dtype=np.float32)
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
        return after, leaps, ends, ways


def _as_float32(packed: Packed) -> Packed:
    """Returns the documents with embeddings as float32, which matrices are multiplied in."""
    return Packed(embeddings=packed.embeddings.astype(np.float32), bias=packed.bias, offsets=packed.offsets)


def _carried(before: _State, numbers: NDArray[np.int64], offsets: NDArray[np.int64]) -> _State:
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


def _links(cells: NDArray[np.int32]) -> list[Link]:
    """Returns the links of a chain. cells: in order, (L, 4), see `chain_kernels.trace_chain`."""
    entries = np.flatnonzero(cells[:, 3])
    parts = np.split(cells, entries[1:]) if len(entries) else []
    return [Link(document=int(part[0, 1]), path=np.ascontiguousarray(part[:, (0, 2)])) for part in parts]
