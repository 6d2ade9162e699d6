"""The centroids of cells, learnt by two levels of k-means.

One level would take hours for 65,536 centroids; two levels take a minute. `faiss.contrib.clustering` also has two
levels, but with 25 iterations at the second level, and it fails if a cluster is empty.
"""

from typing import Any

import faiss
import numpy as np

from engine.neighbours.interface import gpus
from engine.values import DIMENSION, Embeddings

COARSE_ROUNDS, FINE_ROUNDS = 8, 6
"""Iterations of k-means at the first and at the second level."""


def learn(sample: Embeddings, count: int) -> tuple[Embeddings, Any]:
    """About `count` centroids of the sample, and a FAISS index that finds the nearest centroid of a row."""
    coarse = _means(sample, 1 << (count.bit_length() - 1) // 2, COARSE_ROUNDS)
    first_level = faiss.IndexFlatIP(DIMENSION)
    first_level.add(coarse)
    member = first_level.search(sample, 1)[1].ravel()
    present, sizes = np.unique(member, return_counts=True)
    groups = np.split(sample[np.argsort(member, kind="stable")], np.cumsum(sizes)[:-1])
    shares = np.maximum(1, np.round(sizes / len(sample) * count).astype(np.int64)).tolist()
    centroids = np.concatenate([_means(group, share, FINE_ROUNDS) for group, share in zip(groups, shares, strict=True)])
    first_level = faiss.IndexFlatIP(DIMENSION)
    first_level.add(coarse[present])  # only first-level cells with centroids, so that each row finds a centroid
    assigning: Any = faiss.IndexIVFFlat(first_level, DIMENSION, len(present), faiss.METRIC_INNER_PRODUCT)
    assigning.is_trained = True
    assigning.add(centroids)
    return centroids, assigning


def _means(rows: Embeddings, count: int, rounds: int) -> Embeddings:
    """At most `count` centroids by spherical k-means; the rows themselves if there are at most `count` rows."""
    if count >= len(rows):
        return rows
    learner = faiss.Kmeans(
        DIMENSION, count, niter=rounds, seed=1, spherical=True, min_points_per_centroid=1, gpu=gpus() > 0
    )
    learner.train(rows)
    return np.asarray(learner.centroids, np.float32)
