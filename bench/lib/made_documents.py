"""Documents that behave in a search as real ones do, as many as one likes: what millions of snippets are made of.

A made document is real music that nobody wrote. Passages of real documents, each at another tempo, stand one after the
other, and all of them are turned in the space of embeddings: x -> m + S^(1/2) R S^(-1/2) (x - m), scaled to unit
length, where m and S are mean and covariance of the real snippets and R is a rotation that this document alone has. So
the snippets of made documents are spread as those of real ones are, and go on as real ones go on, but are those of no
document that there is. Each is made from its number alone: collections grow by prefixes, in blocks, always the same.
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
"""Snippets of a passage, before its tempo is changed."""
TEMPO = 1.4
"""A passage is played at most so many times as fast or slow."""
ANGLE = 0.35
"""Standard deviation of the angles, in radians, by which a document's planes are turned: with more, made documents
become easier to tell from the right one than real ones are; with less, those of few sources become alike."""
SEED = 0
PREFIX = "made"
"""What the ids of made documents begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistractorSource:
    """What documents of one kind are made from."""

    kind: Kind
    packed: Packed
    """Real documents."""
    lengths: NDArray[np.int64]
    """One of these, drawn at random, is the length of each made document, in snippets."""
    mean: NDArray[np.float32]
    """(32,)."""
    whiten: NDArray[np.float32]
    colour: NDArray[np.float32]
    """(32, 32): rows less their mean, times `whiten`, have the covariance 1; `colour` is its inverse."""

    @classmethod
    def of(cls, packed: Packed, kind: Kind, lengths: NDArray[np.int64]) -> "DistractorSource":
        """Raises ValueError if there are not enough snippets to tell how they are spread."""
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
    """Made document `number`, always the same."""
    rows = embeddings(source, number)
    id = f"{PREFIX}-{source.kind}-{number:06d}"
    return document(id, source.kind, rows, encoder.bias(rows, source.kind), encoder.identity.front_end)


def embeddings(source: DistractorSource, number: int) -> Embeddings:
    """Those of made document `number`: float32 (n, 32)."""
    rng, wanted = _drawn(source, number)
    passages: list[NDArray[np.float32]] = []
    while (missing := wanted - sum(map(len, passages))) > 0:
        passages.append(_passage(source, rng)[:missing])
    rows = (np.concatenate(passages) - source.mean) @ (source.whiten @ _rotation(rng) @ source.colour) + source.mean
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def length(source: DistractorSource, number: int) -> int:
    """How many snippets made document `number` has."""
    return _drawn(source, number)[1]


def _drawn(source: DistractorSource, number: int) -> tuple[Generator, int]:
    """What the document is made by, and its length."""
    rng = np.random.default_rng([SEED, number, source.kind == "score"])
    return rng, max(2, int(rng.choice(source.lengths)))


def _passage(source: DistractorSource, rng: Generator) -> NDArray[np.float32]:
    """A passage of a real document at another tempo: between two snippets lies what lies between their embeddings."""
    number = int(rng.integers(len(source.packed)))
    first, last = source.packed.offsets[number : number + 2].tolist()
    length = min(int(rng.integers(*PASSAGE)), last - first)
    start = first + int(rng.integers(last - first - length + 1))
    rows = source.packed.embeddings[start : start + length].astype(np.float32)
    at = np.arange(0, max(1, length - 1), TEMPO ** rng.uniform(-1, 1), dtype=np.float32)
    before = at.astype(np.int64)
    share = (at - before)[:, None]
    return np.asarray(rows[before] * (1 - share) + rows[np.minimum(before + 1, length - 1)] * share)


def _rotation(rng: Generator) -> NDArray[np.float32]:
    """(32, 32): turns 16 planes, drawn at random, each by an angle of its own."""
    basis = np.linalg.qr(rng.standard_normal((DIMENSION, DIMENSION)))[0]
    angles = rng.normal(0.0, ANGLE, DIMENSION // 2)
    turned = np.zeros((DIMENSION, DIMENSION))
    even, odd = np.arange(0, DIMENSION, 2), np.arange(1, DIMENSION, 2)
    turned[even, even] = turned[odd, odd] = np.cos(angles)
    turned[even, odd], turned[odd, even] = -np.sin(angles), np.sin(angles)
    return np.asarray(basis @ turned @ basis.T, np.float32)


def pack(sequences: Sequence[SnippetSequence]) -> Packed:
    """The sequences in memory, embeddings as a collection stores them."""
    return Packed(
        embeddings=np.concatenate([sequence.embeddings for sequence in sequences]).astype(np.float16),
        bias=np.concatenate([sequence.bias for sequence in sequences]),
        offsets=np.cumsum([0, *map(len, sequences)], dtype=np.int64),
    )
