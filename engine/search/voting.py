"""Voting: the nearest document snippets of each query snippet vote for their documents."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.neighbours import Index, nearest
from engine.values import Embeddings

SPARE = 8
"""Neighbours searched beyond those that vote. Of documents with the same snippets, as many as this may be equally near
at the last place; the first in the order of the collection votes. An index would choose by the order of its rows, and a
collection in shards has several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """The votes for each of B documents."""

    counts: NDArray[np.int64]
    """Number of votes of each document, (B,)."""
    similarity: NDArray[np.float64]
    """Sum of the similarities of the snippets that voted for each document, (B,)."""


def vote(index: Index, query: Embeddings, offsets: NDArray[np.int64], neighbours: int, *, threads: int = 1) -> Votes:
    """Returns the votes for each document: each of a query snippet's nearest snippets gives its document one vote.

    index: over all snippets; row i is snippet i of the packed documents.
    query: float32 (N, 32).
    offsets: int64 (B + 1,), the first row of each document, and the number of rows.
    neighbours: number of nearest snippets of each query snippet that vote.
    Source: Dorfer et al., Learning Audio-Sheet Music Correspondences (TISMIR 2018), section 5. The rules for ties and
    for documents without votes are ours (see `ranking`).
    """
    similarities, rows = nearest(index, query, neighbours + SPARE, threads=threads)
    order = np.lexsort((rows, -similarities), axis=1)[:, :neighbours]
    similarities, rows = np.take_along_axis(similarities, order, axis=1), np.take_along_axis(rows, order, axis=1)
    hears = np.any(
        query != 0, axis=1, keepdims=True
    )  # a zero row (`stillness`) is as near to one snippet as to another
    voted = hears & (rows >= 0)
    documents = np.searchsorted(offsets, rows[voted], side="right") - 1
    size = len(offsets) - 1
    return Votes(
        counts=np.bincount(documents, minlength=size),
        similarity=np.bincount(documents, weights=similarities[voted], minlength=size).astype(np.float64),
    )


def ranking(votes: Votes) -> NDArray[np.int64]:
    """Returns all documents ranked by votes, int64 (B,), best first.

    The summed similarity decides ties, then the order of the collection. Documents without votes come last, so each
    document has a rank.
    """
    return np.lexsort((-votes.similarity, -votes.counts))
