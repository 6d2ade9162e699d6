"""Queries cut from documents of a collection: whole pieces, fragments of seconds, runs of systems."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.lib.pieces import Piece
from engine.audio import FRAME_RATE
from engine.collection import Collection
from engine.config import FrontEnd
from engine.values import Kind, SnippetSequence

Direction = Literal["A2S", "S2A"]

AMONG: dict[Direction, Kind] = {"A2S": "score", "S2A": "recording"}
"""The kind of document that is searched, by direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledQuery:
    """A query and what it should find."""

    direction: Direction
    form: str
    """Name of the kind of query in tables: `whole`, `20 s`, `2 systems`."""
    piece: str
    truth: str
    """Id of the right document."""
    sequence: SnippetSequence
    also_right: frozenset[str] = frozenset()
    """Ids of other right documents. They are removed from an answer before the rank of `truth` is counted."""


def whole(collection: Collection, found: Sequence[Piece]) -> Iterator[LabelledQuery]:
    """Each piece's recording as a query among the scores, and its score as a query among the recordings.

    A document that could not be added is no query. As the right document of a query, it is never found.
    """
    held = {document.id for document in collection.documents}
    recordings: dict[str, set[str]] = defaultdict(set)
    for piece in found:
        recordings[piece.id].add(piece.recording_id)
    for piece in found:
        others = frozenset(recordings[piece.id] - {piece.recording_id})
        forms: dict[Direction, tuple[str, str, frozenset[str]]] = {
            "A2S": (piece.recording_id, piece.id, frozenset()),
            "S2A": (piece.id, piece.recording_id, others),
        }
        for direction, (query_id, truth, also_right) in forms.items():
            if query_id in held:
                sequence = collection.sequence(query_id)
                yield LabelledQuery(
                    direction=direction,
                    form="whole",
                    piece=piece.id,
                    truth=truth,
                    sequence=sequence,
                    also_right=also_right,
                )


def fragment(query: LabelledQuery, size: float, front_end: FrontEnd, rng: Generator) -> LabelledQuery:
    """A random fragment of a whole query: `size` seconds of a recording, or `size` systems of a score."""
    if query.direction == "A2S":
        return replace(query, form=f"{size} s", sequence=seconds(query.sequence, size, front_end, rng))
    count = int(size)
    form = f"{count} system{'s'[: count > 1]}"
    return replace(query, form=form, sequence=systems(query.sequence, count, rng))


def seconds(sequence: SnippetSequence, length_s: float, front_end: FrontEnd, rng: Generator) -> SnippetSequence:
    """The excerpts in a fragment of this length, from a random excerpt on; all if the recording is shorter."""
    frames = round(length_s * FRAME_RATE)
    count = max(1, 1 + (frames - front_end.excerpt_frames) // front_end.excerpt_hop_frames)
    first = int(rng.integers(max(1, len(sequence) - count + 1)))
    return sequence.part(slice(first, first + count))


def systems(sequence: SnippetSequence, count: int, rng: Generator) -> SnippetSequence:
    """The snippets that lie wholly within `count` consecutive systems, from a random system on.

    Runs of systems without a snippet are not drawn. A score with fewer systems is returned whole.
    """
    runs = list(_runs(sequence.places, count))
    return sequence.part(runs[int(rng.integers(len(runs)))]) if runs else sequence


def _runs(places: NDArray[Any], count: int) -> Iterator[slice]:
    last = int(places["end_system"].max())
    for system in range(int(places["system"].min()), last - count + 2):
        inside = np.flatnonzero((places["system"] >= system) & (places["end_system"] < system + count))
        if len(inside):
            yield slice(int(inside[0]), int(inside[-1]) + 1)
