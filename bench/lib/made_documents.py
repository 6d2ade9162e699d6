"""Made documents, which behave in a search as real documents do: they fill collections of millions of snippets.

A made document consists of passages of one real document, each at another tempo, one after the other. All of them are
rotated in embedding space, so that no real piece contains them: x -> m + S^(1/2) R S^(-1/2) (x - m), scaled to unit
length, where m and S are mean and covariance of the real snippets, and R is a rotation for this document alone. So the
snippets of made documents are distributed as real ones are, and follow each other as real ones do, but belong to no
real document. A document depends on nothing but its number and its source, so a smaller collection is always a prefix
of a larger one.

All passages are of one document because a real document has one style: some documents are like a query as a whole, most
are not. Made of passages of many, all documents are alike, and a larger number of them holds few that are nearer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.lib.random_collection import document
from engine.embedding.documents import Encoder as AnyEncoder
from engine.values import DIMENSION, Document, Embeddings, Kind, Packed, SnippetSequence

PASSAGE = (40, 160)
"""Smallest and largest number of snippets of a passage, before its tempo is changed."""
TEMPO = 1.4
"""Largest factor by which the tempo of a passage is raised or lowered."""
ANGLE = 0.35
"""Standard deviation of the angles, in radians, by which a document's planes are rotated. With a larger one, made
documents are easier to tell from the right document than real ones are. With a smaller one, documents made of few
sources become too similar."""
SEED = 0
PREFIX = "made"
"""Beginning of the ids of made documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistractorSource:
    """The source of made documents of one kind: real documents, and the distribution of their snippets."""

    kind: Kind
    packed: Packed
    """Real documents whose passages are used."""
    lengths: NDArray[np.int64]
    """Lengths in snippets from which the length of each made document is drawn."""
    mean: NDArray[np.float32]
    """(32,) mean of the real snippets."""
    whiten: NDArray[np.float32]
    """(32, 32). Real snippets minus their mean, times `whiten`, have the covariance 1."""
    colour: NDArray[np.float32]
    """(32, 32), the inverse of `whiten`."""

    @classmethod
    def of(cls, packed: Packed, kind: Kind, lengths: NDArray[np.int64]) -> "DistractorSource":
        """The source that consists of some real documents.

        Raises ValueError if there are too few snippets to estimate their covariance.
        """
        if len(packed.embeddings) < 10 * DIMENSION:
            raise ValueError(f"expected at least {10 * DIMENSION} {kind} snippets, got {len(packed.embeddings)}")
        rows = packed.embeddings.astype(np.float64)
        values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
        spread = np.sqrt(np.maximum(values, 1e-9))
        return cls(
            kind=kind,
            packed=packed,
            lengths=lengths,
            mean=rows.mean(axis=0).astype(np.float32),
            whiten=((vectors / spread) @ vectors.T).astype(np.float32),
            colour=((vectors * spread) @ vectors.T).astype(np.float32),
        )


def made(source: DistractorSource, number: int, encoder: AnyEncoder) -> tuple[Document, SnippetSequence]:
    """Made document `number` of a source, with its snippets; always the same."""
    rows = embeddings(source, number)
    id = f"{PREFIX}-{source.kind}-{number:06d}"
    return document(id, source.kind, rows, encoder.bias(rows, source.kind), encoder.identity.front_end)


def embeddings(source: DistractorSource, number: int) -> Embeddings:
    """The embeddings of made document `number`: float32 (n, 32)."""
    rng, wanted = _drawn(source, number)
    real = int(rng.integers(len(source.packed)))
    first, last = source.packed.offsets[real : real + 2].tolist()
    snippets = source.packed.embeddings[first:last].astype(np.float32)
    passages: list[NDArray[np.float32]] = []
    while (missing := wanted - sum(map(len, passages))) > 0:
        passages.append(_passage(snippets, rng)[:missing])
    rows = (np.concatenate(passages) - source.mean) @ (source.whiten @ _rotation(rng) @ source.colour) + source.mean
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def length(source: DistractorSource, number: int) -> int:
    """The number of snippets of made document `number`."""
    return _drawn(source, number)[1]


def _drawn(source: DistractorSource, number: int) -> tuple[Generator, int]:
    """The random generator of a document, and the document's length in snippets."""
    rng = np.random.default_rng([SEED, number, source.kind == "score"])
    return rng, max(2, int(rng.choice(source.lengths)))


def _passage(snippets: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """A passage of a document's snippets at another tempo. Between two snippets, embeddings are interpolated."""
    length = min(int(rng.integers(*PASSAGE)), len(snippets))
    start = int(rng.integers(len(snippets) - length + 1))
    rows = snippets[start : start + length]
    at = np.arange(0, max(1, length - 1), TEMPO ** rng.uniform(-1, 1), dtype=np.float32)
    before = at.astype(np.int64)
    share = (at - before)[:, None]
    return np.asarray(rows[before] * (1 - share) + rows[np.minimum(before + 1, length - 1)] * share)


def _rotation(rng: Generator) -> NDArray[np.float32]:
    """A random rotation (32, 32) that turns each of 16 random planes by its own angle."""
    basis = np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0]
    angles = rng.normal(0.0, ANGLE, DIMENSION // 2)
    turned = np.zeros((DIMENSION, DIMENSION))
    even, odd = np.arange(0, DIMENSION, 2), np.arange(1, DIMENSION, 2)
    turned[even, even] = turned[odd, odd] = np.cos(angles)
    turned[even, odd], turned[odd, even] = -np.sin(angles), np.sin(angles)
    return np.asarray(basis @ turned @ basis.T, np.float32)


def pack(sequences: Sequence[SnippetSequence]) -> Packed:
    """The sequences as documents in memory, with embeddings in the type that a collection stores."""
    return Packed(
        embeddings=np.concatenate([sequence.embeddings for sequence in sequences]).astype(np.float16),
        bias=np.concatenate([sequence.bias for sequence in sequences]),
        offsets=np.cumsum([0, *map(len, sequences)], dtype=np.int64),
    )
