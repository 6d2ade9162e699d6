"""Evenings of a collection of four pieces, what finds their passages, and a calibration that judges these."""

import numpy as np

from engine import alignment
from engine.collection import Collection
from engine.config import Alignment, SearchSettings
from engine.embedding.documents import recording_sequence
from engine.search.confidence import DEFAULT_CALIBRATION, FORMAT, FORMAT_VERSION, Calibration, Scale
from engine.search.searcher import Searcher
from engine.search.segmentation import Evening, Segmenter
from engine.tensors import read
from engine.values import Embeddings, Packed
from tests.paired_collection import NETWORK, SNIPPETS

BACKEND = alignment.choose("cpu", threads=1)
ALIGNMENT = Alignment()


def noise(count: int, seed: int = 1) -> Embeddings:
    embeddings = np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float32)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def shipped_calibration() -> Calibration:
    """The shipped functions, with a background of random documents."""
    given = read(DEFAULT_CALIBRATION, FORMAT, FORMAT_VERSION)[0]
    offsets = np.arange(0, 641, 80, dtype=np.int64)
    background = Packed(embeddings=noise(640, seed=2), bias=np.zeros(640, np.float32), offsets=offsets)
    scale = Scale(
        background=background,
        coefficients=np.array(given["coefficients"]["score"]),
        rest_coefficients=np.array(given["rests"]["coefficients"]["score"]),
    )
    return Calibration(network=NETWORK, alignment=ALIGNMENT, scales={"score": scale}, rest_price=0.5)


def segmenter_of(collection: Collection, calibration: Calibration | None = None) -> Segmenter:
    searcher = Searcher(collection, SearchSettings(threads=1), BACKEND, calibration)
    return Segmenter(searcher, BACKEND, calibration, ALIGNMENT)


def evening_of(*parts: Embeddings) -> Evening:
    return Evening(sequence=recording_sequence(np.concatenate(parts), 0.0, NETWORK.front_end), among="score")


def music_of(collection: Collection, number: int, first: int = 0, last: int = SNIPPETS) -> Embeddings:
    return collection.sequence(f"piece{number}").embeddings[first:last]
