"""An index made of several: an older index that skips removed documents, and indexes of documents added since."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.neighbours.gpu import MAX_CELLS_K
from engine.neighbours.interface import PROBES, Index, Neighbours, merged
from engine.values import Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """An index of some documents, and the positions of these documents among all current documents."""

    index: Index
    offsets: NDArray[np.int64]
    """Row at which each document starts in this index, (documents + 1,)."""
    starts: NDArray[np.int64]
    """Row at which each document starts among all current documents, (documents,); -1 for a removed document."""

    def search(self, query: Embeddings, k: int, probes: int) -> Neighbours:
        """The k nearest rows of each query snippet or more, numbered among all current documents; see `Index.search`.

        Removed documents take part in the search: each of their rows becomes row -1 with similarity -inf. So up to k
        more rows are asked for where there are any, but not more than a GPU finds.
        """
        searched = max(k, min(2 * k, MAX_CELLS_K)) if (self.starts < 0).any() else k
        similarities, rows = self.index.search(query, max(1, min(searched, self.index.ntotal)), probes)
        documents = np.searchsorted(self.offsets, rows, side="right") - 1
        starts = self.starts[np.maximum(documents, 0)]
        kept = (rows >= 0) & (starts >= 0)
        current = np.where(kept, starts + rows - self.offsets[np.maximum(documents, 0)], -1)
        return np.where(kept, similarities, np.float32(-np.inf)), current


class AmendedIndex:
    """Several segments, searched as one index."""

    concurrent = True

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self._segments = segments

    @property
    def ntotal(self) -> int:
        """The number of rows of all segments, including rows of removed documents."""
        return sum(segment.index.ntotal for segment in self._segments)

    @property
    def cells(self) -> int:
        return self._segments[0].index.cells

    @property
    def fell_back(self) -> bool:
        return any(segment.index.fell_back for segment in self._segments)

    def search(self, query: Embeddings, k: int, probes: int = PROBES) -> Neighbours:
        """The k nearest rows of each query snippet in all segments; see `Index.search`."""
        return merged([segment.search(query, k, probes) for segment in self._segments], k)

    def describe(self) -> str:
        return f"{self._segments[0].index.describe()}, amended"
