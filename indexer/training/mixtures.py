"""Queries that hold more than a part of one piece, for the calibration of alignments with rests.

A mixture is a part of a document with stretches of other documents, of applause, speech or noise before and after it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from engine import audio
from engine.collection import Collection
from engine.embedding.documents import Encoder, sequences
from engine.values import DIMENSION, OTHER, Document, Embeddings, Kind
from indexer.synthesis.interruptions import interruptions

MIXTURES = 8
"""Mixtures made of each document."""
MIN_MIXED_SNIPPETS = 8
"""Length of the shortest part of a piece in a mixture."""
PURE_SHARE = 0.5
"""Share of the sides of a part on which a mixture has nothing."""
MAX_ADDED_SNIPPETS = 300
"""Length of the longest stretch laid on one side of a part."""
INTERRUPTIONS = 6
"""Made sounds of each kind."""
INTERRUPTION_S = 60
"""Length of each made sound that stretches are cut from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A query that may hold more than a part of one piece."""

    embeddings: Embeddings
    """Rows of the query, float32 (N, 32)."""
    piece: str
    truth: int
    """Index of the right document in the pieces' collection."""
    others: tuple[int, ...]
    """Indexes of the right documents of the other pieces in the query."""


def mixtures(collection: Collection, noises: Sequence[Embeddings], among: Kind, rng: Generator) -> Iterator[Mixture]:
    """Yields MIXTURES queries for each document of the other kind than `among` whose piece the collection holds.

    Each is a part of the document, on each side of which may lie a stretch of another document or of a noise.
    """
    truths = {piece_of(document): number for number, document in enumerate(collection.of_kind(among))}
    documents = [document for document in collection.of_kind(OTHER[among]) if piece_of(document) in truths]
    rows = {document.id: collection.sequence(document.id).embeddings for document in documents}

    def side(piece: str) -> tuple[Embeddings, tuple[int, ...]]:
        """A stretch that is laid beside a part of a piece, and the right documents of what it holds."""
        if rng.random() < PURE_SHARE:
            return np.empty((0, DIMENSION), np.float32), ()
        longest = int(np.exp(rng.uniform(np.log(MIN_MIXED_SNIPPETS), np.log(MAX_ADDED_SNIPPETS))))
        if noises and rng.random() < 0.5:
            return cut(noises[int(rng.integers(len(noises)))], longest, rng), ()
        other = documents[rng.integers(len(documents))]
        if piece_of(other) == piece:
            return np.empty((0, DIMENSION), np.float32), ()
        return cut(rows[other.id], longest, rng), (truths[piece_of(other)],)

    for document in documents:
        piece, embeddings = piece_of(document), rows[document.id]
        most = max(MIN_MIXED_SNIPPETS, len(embeddings))
        for length in np.exp(rng.uniform(np.log(MIN_MIXED_SNIPPETS), np.log(most + 1), MIXTURES)).astype(np.int64):
            (before, first), (after, last) = side(piece), side(piece)
            mixed = np.concatenate([before, cut(embeddings, int(length), rng), after])
            yield Mixture(embeddings=mixed, piece=piece, truth=truths[piece], others=(*first, *last))


def made_noises(encoder: Encoder) -> list[Embeddings]:
    """The embeddings of sounds that are no music, INTERRUPTIONS of each kind."""
    rng, front_end = np.random.default_rng(3), encoder.identity.front_end
    sounds = [sound for _ in range(INTERRUPTIONS) for sound in interruptions(INTERRUPTION_S, rng)]
    recordings = [audio.recording_of(sound, audio.SAMPLE_RATE, front_end) for sound in sounds]
    return [sequence.embeddings for sequence in sequences(recordings, encoder)]


def cut(embeddings: Embeddings, longest: int, rng: Generator) -> Embeddings:
    """A part of at most `longest` rows from a random place."""
    first = int(rng.integers(max(1, len(embeddings) - longest + 1)))
    return np.ascontiguousarray(embeddings[first : first + longest])


def piece_of(document: Document) -> str:
    """The name that the score and the recording of a piece share."""
    return document.id.removesuffix(".score") if document.kind == "score" else document.id.rpartition(".")[0]
