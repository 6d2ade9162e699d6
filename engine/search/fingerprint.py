"""Fingerprints over embeddings: each hit votes for a document, a tempo and a place in the document.

A hit is a pair of a query snippet and one of its nearest document snippets. If the piece is played at a steady tempo,
the true hits lie on a line: position in document = a * position in query + offset, where the slope `a` is the tempo in
document snippets per query snippet. So each hit votes for one offset at every slope of a grid. The score of a document
is its highest bin.

With slope 1 alone this is the paper's "Shazam, using the embeddings as the spectral fingerprints" (`LITERAL`).
Source: Carvalho & Widmer, Exploiting Temporal Dependencies for Cross-Modal Music Piece Identification (EUSIPCO 2021),
one sentence; Wang, An Industrial-Strength Audio Search Algorithm (ISMIR 2003), offset histograms. The slopes and the
weights are ours.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.machine_code import kept
from engine.neighbours import PROBES, Index, nearest
from engine.search.voting import Votes
from engine.values import Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class FingerprintSettings:
    """How hits are found and binned. Chosen on Joplin and synthetic takes among many documents (`bench.shortlist`)."""

    neighbours: int = 100
    """Nearest document snippets, the hits, of each query snippet."""
    probes: int = PROBES
    """Index cells searched for each query snippet."""
    min_slope: float = 0.4
    """Lowest slope of the grid, in document snippets per query snippet."""
    max_slope: float = 2.5
    """Highest slope of the grid."""
    slope_step: float = 1.2
    """Approximate ratio of neighbouring slopes. 1.06 does not find more, and 1.3 finds only a little less."""
    bin_snippets: float = 4.0
    """Width of a bin in document snippets. 2 to 5 find the same. A second histogram, moved by half a bin, does not find
    more."""
    weighted: bool = True
    """Whether a hit counts with its weight; otherwise each hit counts 1."""

    def slopes(self) -> NDArray[np.float64]:
        """Returns the slopes of the grid, rising."""
        steps = round(np.log(self.max_slope / self.min_slope) / np.log(self.slope_step))
        return np.geomspace(self.min_slope, self.max_slope, steps + 1)


MAX_LOOKED_UP = 128
"""Largest number of query snippets whose neighbours are searched. In a longer query these are every second snippet,
every third, and so on."""

LITERAL = FingerprintSettings(neighbours=25, min_slope=1, max_slope=1, bin_snippets=2, weighted=False)
"""The paper's adaptation: slope 1. A bin covers two neighbouring offsets, because snippets overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Pairs of a query snippet and one of its nearest document snippets, in the order of the query."""

    query: NDArray[np.int32]
    """Position of each hit in the query, (H,), rising."""
    rows: NDArray[np.int64]
    """Row of each hit's document snippet in the packed documents, (H,)."""
    weights: NDArray[np.float32]
    """Weight of each hit, (H,), above 0."""


def offsets(
    index: Index,
    query: Embeddings,
    starts: NDArray[np.int64],
    settings: FingerprintSettings | None = None,
    *,
    threads: int = 1,
) -> Votes:
    """Returns the votes of the query's nearest snippets for each document, see `histograms`.

    index: over all snippets; row i is snippet i of the packed documents.
    query: float32 (N, 32). At most MAX_LOOKED_UP evenly spaced snippets of the query vote.
    starts: int64 (B + 1,), the first row of each document, and the number of rows.
    """
    settings = settings or FingerprintSettings()
    positions = np.arange(0, len(query), -(-len(query) // MAX_LOOKED_UP))
    hits = nearest_hits(index, query[positions], settings.neighbours, threads=threads, probes=settings.probes)
    return histograms(replace(hits, query=positions[hits.query].astype(np.int32)), starts, len(query), settings)


def nearest_hits(index: Index, query: Embeddings, neighbours: int, *, threads: int, probes: int = PROBES) -> Hits:
    """Returns the hits of a query: the nearest document snippets of each query snippet.

    A hit's weight is its similarity minus that of the query snippet's k-th neighbour. A document outside the k nearest
    may be as similar as the k-th, so only the excess is evidence. (We tried the similarity minus the bias, which is a
    likelihood ratio. It does not find more, and needs the biases in memory.)
    """
    similarities, rows = nearest(index, query, neighbours, threads=threads, probes=probes)
    is_hit = rows >= 0
    lowest = np.min(similarities, axis=1, keepdims=True, where=is_hit, initial=1.0)
    weights = similarities - lowest
    position, neighbour = np.nonzero(is_hit & (weights > 0))
    return Hits(query=position.astype(np.int32), rows=rows[position, neighbour], weights=weights[position, neighbour])


def histograms(hits: Hits, starts: NDArray[np.int64], length: int, settings: FingerprintSettings) -> Votes:
    """Returns the content of each document's highest bin, over all slopes and offsets.

    `counts` is the number of query snippets with a hit in the bin, and `similarity` the sum of their weights. A query
    snippet counts once in a bin, with its heaviest hit: document snippets overlap, so a query snippet often hits
    several neighbouring ones. Documents without hits cost no time.

    starts: int64 (B + 1,), the first row of each document, and the number of rows.
    length: snippets of the query.
    """
    votes = Votes(counts=np.zeros(len(starts) - 1, np.int64), similarity=np.zeros(len(starts) - 1))
    if len(hits.rows) == 0:
        return votes
    documents = np.searchsorted(starts, hits.rows, side="right") - 1
    order = np.argsort(documents, kind="stable")
    documents = documents[order]
    borders = np.flatnonzero(np.concatenate([[True], documents[1:] != documents[:-1], [True]]))
    hit = documents[borders[:-1]]
    slopes = settings.slopes()
    longest = int(np.diff(starts)[hit].max())
    bins = int((longest + slopes[-1] * length) / settings.bin_snippets) + 2
    positions = (hits.rows[order] - starts[documents]).astype(np.float32)
    weights = hits.weights[order] if settings.weighted else np.ones(len(order), np.float32)
    highest = _Highest(counts=np.zeros(len(hit), np.int64), sums=np.zeros(len(hit), np.float32))
    _find_highest(
        borders,
        tuple(_HitArrays(positions=positions, queries=hits.query[order], weights=weights)),
        (slopes / settings.bin_snippets).astype(np.float32),
        np.float32(1 / settings.bin_snippets),
        length,
        (*np.zeros((3, bins), np.int64), *np.zeros((2, bins), np.float32)),
        tuple(highest),
    )
    votes.counts[hit], votes.similarity[hit] = highest
    return votes


def ranking(votes: Votes) -> NDArray[np.int64]:
    """Returns all documents ranked by the weight of their highest bin, int64 (B,), best first.

    Equal documents keep the order of the collection. Documents without hits come last.
    """
    return np.argsort(-votes.similarity, kind="stable")


class _HitArrays(NamedTuple):
    """The hits of all documents, document after document, in the order of the query within a document."""

    positions: NDArray[np.float32]
    """Position of each hit in its document, in snippets."""
    queries: NDArray[np.int32]
    """Position of each hit in the query, in snippets."""
    weights: NDArray[np.float32]
    """Weight of each hit."""


class _Bins(NamedTuple):
    """The bins of a histogram, used for one histogram after another.

    A bin whose stamp is not that of the current histogram counts as empty, so the bins are never cleared.
    """

    stamps: NDArray[np.int64]
    """Number of the histogram that wrote to the bin last."""
    writers: NDArray[np.int64]
    """Query snippet that wrote to the bin last."""
    counts: NDArray[np.int64]
    """Number of query snippets that wrote to the bin."""
    sums: NDArray[np.float32]
    """Sum of the weights of these query snippets."""
    given: NDArray[np.float32]
    """Weight of the last of these query snippets."""


class _Highest(NamedTuple):
    """The highest bin of each document."""

    counts: NDArray[np.int64]
    """Number of query snippets in the bin."""
    sums: NDArray[np.float32]
    """Sum of the weights of these query snippets."""


@kept(nogil=True, error_model="numpy")  # a server calls it from many threads
def _find_highest(  # type: ignore[no-untyped-def]
    borders, hit_arrays, slopes, bins_per_snippet, length, scratch, highest
):
    """Writes the highest bin of each document to `highest`.

    borders: the hits of document d are borders[d] to borders[d + 1] - 1.
    hit_arrays, scratch, highest: the fields of _HitArrays, _Bins and _Highest as plain tuples. numba's cache does not
        survive a renamed class among the arguments (`engine.machine_code`).
    slopes: bins per query snippet. bins_per_snippet: bins per document snippet.
    """
    hits, bins, found = _HitArrays(*hit_arrays), _Bins(*scratch), _Highest(*highest)
    stamp = 0
    for document in range(len(borders) - 1):
        for slope in slopes:
            stamp += 1
            for i in range(borders[document], borders[document + 1]):
                query, weight = hits.queries[i], hits.weights[i]
                place = int(hits.positions[i] * bins_per_snippet + slope * (length - 1 - query))
                if bins.stamps[place] != stamp:
                    bins.stamps[place], bins.sums[place], bins.counts[place] = stamp, 0.0, 0
                    bins.writers[place] = -1
                if bins.writers[place] != query:
                    bins.writers[place], bins.given[place] = query, 0.0
                    bins.counts[place] += 1
                if weight > bins.given[place]:
                    bins.sums[place] += weight - bins.given[place]
                    bins.given[place] = weight
                if bins.sums[place] > found.sums[document]:
                    found.counts[document], found.sums[document] = bins.counts[place], bins.sums[place]
