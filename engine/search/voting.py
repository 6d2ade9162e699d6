"""Voting: the nearest snippets of each query snippet vote for the documents they belong to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.neighbours import Index, nearest
from engine.values import Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """What each of B documents got."""

    counts: NDArray[np.int64]
    """(B,)."""
    similarity: NDArray[np.float64]
    """(B,) sum of the similarities of the snippets that voted."""


def vote(index: Index, query: Embeddings, offsets: NDArray[np.int64], neighbours: int, *, threads: int = 1) -> Votes:
    """One vote for each of the `neighbours` nearest snippets of each query snippet, to the document it lies in.

    index: over all snippets; row i is snippet i of the packed documents.
    query: float32 (N, 32).
    offsets: int64 (B + 1,), where each document's rows start.
    Source: Dorfer et al., Learning Audio-Sheet Music Correspondences (TISMIR 2018), section 5; ours are the rules for
    ties and for documents without a vote (see `ranking`).
    """
    similarities, rows = nearest(index, query, neighbours, threads=threads)
    found = rows >= 0
    documents = np.searchsorted(offsets, rows[found], side="right") - 1
    size = len(offsets) - 1
    return Votes(
        counts=np.bincount(documents, minlength=size),
        similarity=np.bincount(documents, weights=similarities[found], minlength=size).astype(np.float64),
    )


def ranking(votes: Votes) -> NDArray[np.int64]:
    """int64 (B,): all documents, best first: by votes, ties by summed similarity, then by place in the collection.

    Documents without a vote come last; they are not left out, so that each document has a rank.
    """
    return np.lexsort((-votes.similarity, -votes.counts))
