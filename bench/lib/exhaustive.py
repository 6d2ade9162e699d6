"""The costs of a search that aligns all documents: the ranking that other rankings are compared with."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Backend
from engine.config import Alignment
from engine.search.stillness import without_still
from engine.values import Embeddings, Packed


def costs(
    queries: Sequence[Embeddings], documents: Packed, backend: Backend, settings: Alignment | None = None
) -> NDArray[np.float32]:
    """Returns the cost of each document for each query, float32 (queries, documents); infinite: not aligned.

    The costs are those of `Searcher` by the method `exhaustive`: still stretches of a query count nothing, and jumps
    have the penalty that ranks (`Alignment.ranking`). A searcher with a calibration may rank by other costs where a
    query holds more than the piece (`Alignment.rest_price`).

    queries: of one kind, each float32 (n, 32). documents: of the other kind.
    settings: the search's; None: the default.
    """
    heard = [without_still(query) for query in queries]
    found = backend.align_many(heard, documents, (settings or Alignment()).ranking)
    return np.stack([one.costs for one in found])
