"""Hashes of embeddings: which snippets share a cell, and how alike a query is to what a cell holds.

The hash of a snippet is its cell: which of some thousand centroids its embedding is most like. A query snippet looks
into the cells of the centroids it is most like itself (multi-probe), for a score and its recording are 0.5 to 0.8
similar, not 1, and seldom share one. What a cell holds of each snippet, a posting, also has one bit a dimension of
where in the cell it lies, which is enough to estimate the similarity to about 0.07: so a lookup needs neither a search
for nearest neighbours nor the embeddings.

Measured on synthetic takes among 860 documents, and left out: 16 sign bits of a rotation, and product codes of 2 x 8
bits, as hashes (MRR .68 and .67 where cells have .80, before the estimate, of as many postings read); pairs of cells
some snippets apart (.77 against .82, with 8 times the postings: the histograms of `engine.fingerprint` ask for company
anyway).

Source: Jégou et al., Product Quantization for Nearest Neighbor Search (PAMI 2011), inverted lists; Lv et al.,
Multi-Probe LSH (VLDB 2007); Gao & Long, RaBitQ (SIGMOD 2024), the estimate from one bit a dimension.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from engine.fingerprint import Hits, compiled
from engine.neighbours import FlatIndex, nearest
from engine.neighbours.blocks import BLOCK_ROWS
from engine.values import DIMENSION, Embeddings

POSTING = np.dtype([("row", "<u4"), ("signs", "<u4"), ("scale", "<f2"), ("bias", "<f2")])
"""A snippet in its cell: bit d of `signs` is set where dimension d of the rotated difference from the centroid is
positive, `scale` is what turns signs into similarity."""

CELL_ROWS = 64
"""Snippets a cell, about."""
MOST_CELLS = 1 << 14
SAMPLE_ROWS = 40
"""Snippets a centroid is learnt from; FAISS warns below 39."""
ITERATIONS = 5
"""Of k-means, which takes most of the time of building: 15 s of one core for 220,000 snippets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """What turns an embedding into a hash."""

    centroids: Embeddings
    """float32 (cells, 32), unit rows."""
    rotation: NDArray[np.float32]
    """(32, 32), orthogonal, drawn at random: it spreads a difference over all dimensions, so that all signs count."""


def learn(embeddings: NDArray[Any], *, threads: int) -> Hashes:
    """Hashes for these embeddings, by spherical k-means of a sample; the same each time.

    embeddings: float16 or float32 (n, 32), unit rows.
    """
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32)
    rows = len(embeddings)
    count = min(1 << max(0, round(np.log2(max(1, rows) / CELL_ROWS))), MOST_CELLS)
    if rows == 0:
        return Hashes(centroids=np.zeros((1, DIMENSION), np.float32), rotation=rotation)
    sample = np.sort(rng.choice(rows, min(rows, SAMPLE_ROWS * count), replace=False))
    faiss.omp_set_num_threads(threads)
    learner = faiss.Kmeans(DIMENSION, count, niter=ITERATIONS, seed=1, spherical=True, min_points_per_centroid=1)
    learner.train(np.ascontiguousarray(embeddings[sample], dtype=np.float32))
    return Hashes(centroids=np.asarray(learner.centroids), rotation=rotation)


def postings(
    hashes: Hashes, embeddings: NDArray[Any], bias: NDArray[np.float32], *, threads: int
) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """The cell, int32 (n,), and the POSTING (n,) of each snippet.

    embeddings: float16 or float32 (n, 32), unit rows; bias: float32 (n,).
    """
    index = FlatIndex()
    index.raw.add(hashes.centroids)
    cells = np.empty(len(embeddings), np.int32)
    made = np.empty(len(embeddings), POSTING)
    made["row"] = np.arange(len(embeddings))
    made["bias"] = bias
    for start in range(0, len(embeddings), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        rows = np.ascontiguousarray(embeddings[part], dtype=np.float32)
        cells[part] = nearest(index, rows, 1, threads=threads)[1][:, 0]
        difference = (rows - hashes.centroids[cells[part]]) @ hashes.rotation
        made["signs"][part] = np.packbits(difference > 0, axis=1, bitorder="little").view("<u4")[:, 0]
        # With s the signs, <s, q> |difference|^2 / <s, difference> estimates <difference, q> without bias (RaBitQ).
        total = np.maximum(np.abs(difference).sum(axis=1), np.finfo(np.float32).tiny)
        made["scale"][part] = (difference**2).sum(axis=1) / total
    return cells, made


def probe(hashes: Hashes, query: Embeddings, probes: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The cells to look into for each query snippet, int32 (N, probes), and how alike their centroids are, float32.

    Fewer than `probes` where there are not as many cells.
    """
    similarities = query @ hashes.centroids.T
    probes = min(probes, similarities.shape[1])
    cells = np.empty((len(query), probes), np.int32)
    likeness = np.full((len(query), probes), -np.inf, np.float32)
    _highest(similarities, cells, likeness)
    return cells, likeness


def estimated_hits(
    hashes: Hashes,
    query: Embeddings,
    places: NDArray[np.int64],
    likeness: NDArray[np.float32],
    held: NDArray[Any],
    borders: NDArray[np.int64],
    *,
    use_bias: bool,
) -> Hits:
    """The hits among the postings, weighted as by `fingerprint.nearest_hits`, but by estimated similarity.

    places: int64 (N, probes), the cells of each query snippet, counted among those that were read.
    likeness: float32 (N, probes), see `probe`.
    held: POSTING (P,), those of the cells that were read; cell c's are borders[c] to borders[c + 1].
    """
    most = int(np.diff(borders)[places].sum())
    found = np.empty(most, np.int32), np.empty(most, np.int64), np.empty(most, np.float32)
    fields = held["row"], held["signs"], held["scale"].astype(np.float32), held["bias"] * np.float32(use_bias)
    count = _estimate(query @ hashes.rotation, places, likeness, borders, *fields, *found)
    return Hits(query=found[0][:count], rows=found[1][:count], weights=found[2][:count])


@compiled
def _highest(similarities, cells, likeness):  # type: ignore[no-untyped-def]
    """The columns of the highest values of each row, in any order, and the values; `likeness` holds -inf before."""
    for n in range(len(cells)):
        least = 0
        for cell in range(similarities.shape[1]):
            if similarities[n, cell] > likeness[n, least]:
                cells[n, least], likeness[n, least] = cell, similarities[n, cell]
                for i in range(cells.shape[1]):
                    if likeness[n, i] < likeness[n, least]:
                        least = i


@compiled
def _estimate(  # type: ignore[no-untyped-def]
    rotated, places, likeness, borders, rows, signs, scales, biases, queries_out, rows_out, weights_out
):
    """Writes the hits whose weight is above 0; returns how many."""
    tables = np.empty((DIMENSION // 8, 256), np.float32)  # <signs, q> by the bytes of `signs`
    count = 0
    for n in range(len(rotated)):
        for byte in range(len(tables)):
            values = rotated[n, 8 * byte : 8 * byte + 8]
            tables[byte, 0] = -values.sum()
            for d in range(8):
                for bits in range(1 << d):
                    tables[byte, bits + (1 << d)] = tables[byte, bits] + 2 * values[d]
        for p in range(places.shape[1]):
            for i in range(borders[places[n, p]], borders[places[n, p] + 1]):
                s = signs[i]
                total = tables[0, s & 255] + tables[1, s >> 8 & 255] + tables[2, s >> 16 & 255] + tables[3, s >> 24]
                weight = likeness[n, p] + scales[i] * total - biases[i]
                if weight > 0:
                    queries_out[count], rows_out[count], weights_out[count] = n, rows[i], weight
                    count += 1
    return count
