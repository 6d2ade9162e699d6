"""An older index that serves the current documents: removed ones are skipped, new ones are searched beside it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.neighbours.interface import PROBES, Index, Neighbours, merged
from engine.values import Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Some documents in an index of their own, and where they start among the current documents."""

    index: Index
    offsets: NDArray[np.int64]
    """(documents + 1,): the row at which each document starts in this index."""
    starts: NDArray[np.int64]
    """(documents,): the row at which each document starts among all current ones; -1: it was removed."""

    def search(self, query: Embeddings, k: int, probes: int) -> Neighbours:
        """As `Index.search`, with the rows of the current documents."""
        similarities, rows = self.index.search(query, max(1, min(k, self.index.ntotal)), probes)
        documents = np.searchsorted(self.offsets, rows, side="right") - 1
        starts = self.starts[np.maximum(documents, 0)]
        here = (rows >= 0) & (starts >= 0)
        now = np.where(here, starts + rows - self.offsets[np.maximum(documents, 0)], -1)
        return np.where(here, similarities, np.float32(-np.inf)), now


class AmendedIndex:
    """Several segments, searched as one index."""

    concurrent = True

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self._segments = segments

    @property
    def ntotal(self) -> int:
        """The rows of all segments, those of removed documents included."""
        return sum(segment.index.ntotal for segment in self._segments)

    def search(self, query: Embeddings, k: int, probes: int = PROBES) -> Neighbours:
        """As `Index.search`."""
        return merged([segment.search(query, k, probes) for segment in self._segments], k)

    def describe(self) -> str:
        return f"{self._segments[0].index.describe()}, amended"
