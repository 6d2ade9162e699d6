"""Volumes: the scans of many pieces, one after the other, as one score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from bench.lib.pieces import Piece
from bench.lib.recitals import Played
from engine.collection import Collection
from engine.values import SnippetSequence, System


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume of pages, and what is printed in it."""

    sequence: SnippetSequence
    systems: tuple[System, ...]
    pages: int
    printed: tuple[Played, ...]
    """Each piece with its systems in the place of seconds: from the number of systems before it to that after it."""


def volume(collection: Collection, pieces: Sequence[Piece], known: frozenset[str], rng: Generator) -> Volume:
    """Returns a volume of all pieces in random order.

    collection: of the scans. known: ids of the pieces whose recordings are searched; the others are strangers.
    """
    parts: list[SnippetSequence] = []
    systems: list[System] = []
    printed: list[Played] = []
    pages = 0
    for i in rng.permutation(len(pieces)).tolist():
        piece, before = pieces[i], len(systems)
        document, sequence = collection.document(piece.id), collection.sequence(piece.id)
        numbers = {system.number: before + k for k, system in enumerate(document.systems, start=1)}
        places = sequence.places.copy()
        for name in ("system", "end_system"):
            places[name] = [numbers[number] for number in places[name].tolist()]
        systems += [
            replace(system, number=numbers[system.number], page=pages + system.page) for system in document.systems
        ]
        name = piece.recording_id if piece.id in known else ""
        printed.append(Played(piece=name, start_s=before, end_s=len(systems)))
        pages += document.pages
        parts.append(replace(sequence, places=places))
    joined = SnippetSequence(
        kind="score",
        embeddings=np.concatenate([part.embeddings for part in parts]),
        places=np.concatenate([part.places for part in parts]),
        bias=np.concatenate([part.bias for part in parts]),
    )
    return Volume(sequence=joined, systems=tuple(systems), pages=pages, printed=tuple(printed))
