"""Fingerprints over embeddings: hits vote for a document, a tempo and a place in it at once.

A hit is a pair of a query snippet and a document snippet that look alike. If the piece is played at a steady tempo,
the true hits lie on a line: position in document = a * position in query + offset, where the slope `a` is the tempo in
document snippets per query snippet. So each hit votes for one offset at every slope of a grid, and a document's score
is its highest bin.

With the slope 1 alone this is the paper's "Shazam, using the embeddings as the spectral fingerprints" (`LITERAL`).
Source: Carvalho & Widmer, Exploiting Temporal Dependencies for Cross-Modal Music Piece Identification (EUSIPCO 2021),
one sentence; Wang, An Industrial-Strength Audio Search Algorithm (ISMIR 2003), offset histograms. The slopes and the
weights are ours.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from engine.neighbours import PROBES, Index, nearest
from engine.search.voting import Votes
from engine.values import Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class FingerprintSettings:
    """How hits are sought and binned. Chosen on Joplin and synthetic takes in a crowd (`bench.shortlist`)."""

    neighbours: int = 100
    """Nearest document snippets that are hits of each query snippet."""
    probes: int = PROBES
    """Cells of the index that are looked into for each query snippet."""
    least_slope: float = 0.4
    most_slope: float = 2.5
    slope_step: float = 1.2
    """Ratio of neighbouring slopes, about. 1.06 finds no more, 1.3 little less."""
    bin_snippets: float = 4.0
    """Width of a bin. 2 to 5 are all the same, and so is each histogram twice, the second moved by half a bin."""
    weighted: bool = True
    """Each hit counts by its weight; else all the same."""

    def slopes(self) -> NDArray[np.float64]:
        """The grid, rising."""
        steps = round(np.log(self.most_slope / self.least_slope) / np.log(self.slope_step))
        return np.geomspace(self.least_slope, self.most_slope, steps + 1)


MAX_LOOKED_UP = 128
"""Snippets of a query that are looked up; of a longer query every second, third or so on."""

LITERAL = FingerprintSettings(neighbours=25, least_slope=1, most_slope=1, bin_snippets=2, weighted=False)
"""The paper's adaptation: slope 1, each offset together with a neighbour, since snippets overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """Pairs of snippets that look alike, those of each query snippet together."""

    query: NDArray[np.int32]
    """(H,) position in the query, rising."""
    rows: NDArray[np.int64]
    """(H,) snippet of the packed documents."""
    weights: NDArray[np.float32]
    """(H,) what the hit counts, above 0."""


def offsets(
    index: Index,
    query: Embeddings,
    starts: NDArray[np.int64],
    settings: FingerprintSettings | None = None,
    *,
    threads: int = 1,
) -> Votes:
    """The votes of the nearest snippets, see `histograms`.

    index: over all snippets; row i is snippet i of the packed documents.
    query: float32 (N, 32); of a long one MAX_LOOKED_UP are looked up, evenly spaced.
    starts: int64 (B + 1,), where each document's rows start.
    """
    settings = settings or FingerprintSettings()
    asked = np.arange(0, len(query), -(-len(query) // MAX_LOOKED_UP))
    hits = nearest_hits(index, query[asked], settings.neighbours, threads=threads, probes=settings.probes)
    return histograms(replace(hits, query=asked[hits.query].astype(np.int32)), starts, len(query), settings)


def nearest_hits(index: Index, query: Embeddings, neighbours: int, *, threads: int, probes: int = PROBES) -> Hits:
    """The nearest snippets of each query snippet, weighted by how much nearer they are than the last of them.

    A document that is not hit by a query snippet may be as near as that last one at most, and so gets nothing for it.
    (Similarity less the bias, which makes a likelihood ratio of it, finds no more, and would have to be in memory.)
    """
    similarities, rows = nearest(index, query, neighbours, threads=threads, probes=probes)
    found = rows >= 0
    least = np.min(similarities, axis=1, keepdims=True, where=found, initial=1.0)
    weights = similarities - least
    at, place = np.nonzero(found & (weights > 0))
    return Hits(query=at.astype(np.int32), rows=rows[at, place], weights=weights[at, place])


def histograms(hits: Hits, starts: NDArray[np.int64], length: int, settings: FingerprintSettings) -> Votes:
    """What the highest bin of each document holds, over all slopes and offsets; nothing costs time that is not hit.

    Of the hits of one query snippet in one bin only the weightiest counts: neighbouring snippets overlap, so that one
    hit seldom comes alone.

    starts: int64 (B + 1,), where each document's rows start.
    length: snippets of the query.
    Returns how many query snippets have a hit in that bin (`counts`), and their summed weights (`similarity`).
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
    found = _Highest(counts=np.zeros(len(hit), np.int64), sums=np.zeros(len(hit), np.float32))
    _find_highest(
        borders,
        tuple(_HitArrays(positions=positions, queries=hits.query[order], weights=weights)),
        (slopes / settings.bin_snippets).astype(np.float32),
        np.float32(1 / settings.bin_snippets),
        length,
        (*np.zeros((3, bins), np.int64), *np.zeros((2, bins), np.float32)),
        tuple(found),
    )
    votes.counts[hit], votes.similarity[hit] = found
    return votes


def ranking(votes: Votes) -> NDArray[np.int64]:
    """int64 (B,): all documents, best first: by weight, ties by place in the collection; those not hit come last."""
    return np.argsort(-votes.similarity, kind="stable")


class _HitArrays(NamedTuple):
    """The hits of all documents, those of one document after those of another, each in the order of the query."""

    positions: NDArray[np.float32]
    """Where in its document each hit lies."""
    queries: NDArray[np.int32]
    weights: NDArray[np.float32]


class _Bins(NamedTuple):
    """One histogram; `stamps` tells which bins of it were written to, so that none needs clearing."""

    stamps: NDArray[np.int64]
    """The number of the histogram that wrote to the bin last."""
    writers: NDArray[np.int64]
    """The query snippet that wrote to the bin last."""
    counts: NDArray[np.int64]
    """How many query snippets wrote to the bin."""
    sums: NDArray[np.float32]
    """The weight that all of them gave."""
    given: NDArray[np.float32]
    """The weight that the last of them gave."""


class _Highest(NamedTuple):
    """The highest bin of each document: how many query snippets wrote to it, and the weight that they gave."""

    counts: NDArray[np.int64]
    sums: NDArray[np.float32]


@numba.njit(nogil=True, cache=True, error_model="numpy")  # a server calls it from many threads
def _find_highest(  # type: ignore[no-untyped-def]
    borders, hit_arrays, slopes, bins_per_snippet, length, scratch, highest
):
    """Writes the highest bin of each document to `highest`; its hits stand between two of `borders`.

    hit_arrays, scratch, highest: plain tuples of what _HitArrays, _Bins and _Highest hold, for numba keeps no code for
        arguments of a class that is renamed (`engine.alignment.kernels`).
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
