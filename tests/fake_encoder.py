"""A small stand-in for the network: random projections of down-sampled snippets and excerpts, the same every time."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine import alignment
from engine.alignment import Backend
from engine.config import FrontEnd, SearchSettings
from engine.embedding.documents import Encoder
from engine.finder import Engine
from engine.values import DIMENSION, Embeddings, Kind, NetworkIdentity


class FakeEncoder:
    """Tells snippets of one kind apart as a network would; it knows nothing of the other kind."""

    identity = NetworkIdentity(name="fake", hash="0" * 64, front_end=FrontEnd())
    device = "cpu: it is a stand-in"

    def score(self, snippets: NDArray[np.uint8]) -> Embeddings:
        # Spread along each row, which even staff lines have none of, and a shift of the snippet changes little.
        return _projected(snippets.reshape(-1, 40, 4, 2, 100).std(axis=4, dtype=np.float32).max(axis=2))

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        return _projected(excerpts[:, ::2, ::6])

    def bias(self, embeddings: Embeddings, kind: Kind) -> NDArray[np.float32]:
        return np.zeros(len(embeddings), dtype=np.float32)


def fake_loader(*_: object) -> Callable[[], FakeEncoder]:
    """In the place of `scorefind.encoder_loader`."""
    return FakeEncoder


def engine_of(encoder: Encoder, backend: Backend | None = None) -> Engine:
    """An engine on one thread, without a calibration."""
    backend = backend or alignment.choose("cpu", threads=1)
    return Engine(encoder=encoder, settings=SearchSettings(threads=1), backend=backend, calibration=None)


def _projected(pixels: NDArray[np.floating]) -> Embeddings:
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    out = flat @ np.random.default_rng(0).standard_normal((flat.shape[1], DIMENSION), dtype=np.float32)
    return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6), dtype=np.float32)
