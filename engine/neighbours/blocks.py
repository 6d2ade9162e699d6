"""The snippets of many documents, read in blocks, so that memory holds only the index while it is built."""

from collections.abc import Iterator

import numpy as np

from engine.values import Documents, Embeddings

BLOCK_ROWS = 1 << 18
"""Number of rows converted to float32 at a time, about."""


def blocks(documents: Documents) -> Iterator[Embeddings]:
    """The snippets of all documents, in blocks of whole documents with about BLOCK_ROWS rows."""
    first = 0
    while first < len(documents.offsets) - 1:
        limit = documents.offsets[first] + BLOCK_ROWS
        last = max(first + 1, int(np.searchsorted(documents.offsets, limit, side="right")) - 1)
        yield np.ascontiguousarray(documents.take(np.arange(first, last)).embeddings, dtype=np.float32)
        first = last


def sample(documents: Documents, rows: int) -> Embeddings:
    """About `rows` snippets of randomly drawn documents, float32 (n, 32). Each call draws the same snippets."""
    rng = np.random.default_rng(0)
    lengths = np.diff(documents.offsets)
    order = rng.permutation(len(lengths))
    count = int(np.searchsorted(np.cumsum(lengths[order]), rows)) + 1
    drawn = documents.take(np.sort(order[:count])).embeddings
    chosen = np.sort(rng.choice(len(drawn), min(len(drawn), rows), replace=False))
    return np.ascontiguousarray(drawn[chosen], dtype=np.float32)
