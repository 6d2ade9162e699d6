"""Answers batches of questions: embeds them together, aligns them together, and makes the replies."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.audio import Recording
from engine.collection import Collection
from engine.embedding import documents
from engine.embedding.documents import Encoder, Medium
from engine.score import Score
from engine.search.answers import as_dict
from engine.search.searcher import Query
from engine.values import Answer, Kind, Snippets, SnippetSequence, System
from server.errors import RequestError
from server.messages import Embedded, Wanted
from server.shelf import Shelf
from server.streams import LiveRecording

NOTHING = Answer(matches=())


@dataclass(slots=True, kw_only=True)
class Push:
    """Further samples of a stream."""

    stream: LiveRecording
    samples: NDArray[np.float32]
    answer: bool
    heard_s: float = 0.0
    """Duration of all samples of the stream, these included and later ones not."""
    heard: bool = False
    """Whether the stream has the samples already: a failed batch is tried again, but adds its samples only once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDocument:
    """A document of the collection that is itself the query."""

    sequence: SnippetSequence
    systems: tuple[System, ...]
    """The systems of a score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query: what the client sent, and which results it wants."""

    source: Medium | Embedded | Push | KnownDocument
    wanted: Wanted
    given_up: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for the answer any more: its deadline is over, or its client is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The result for the client, and the number of the generation that gave it."""

    generation: int
    result: dict[str, Any]


class Answering:
    """Answers batches of questions. Only one thread at a time may call it, because it advances streams."""

    def __init__(self, shelf: Shelf, encoder: Encoder, max_located: int) -> None:
        """max_located: snippets of a query times its `top`, at most."""
        self._shelf = shelf
        self._encoder = encoder
        self._max_located = max_located

    def __call__(self, questions: list[Question]) -> list[Reply | RequestError]:
        """Returns one reply per question, in order, or the error of a question that asks for too much."""
        started = time.perf_counter()
        sequences = self._sequences(questions)
        embed_ms = (time.perf_counter() - started) * 1000
        pairs = list(zip(questions, sequences, strict=True))
        refused = {i: error for i, pair in enumerate(pairs) if (error := self._refusal(*pair)) is not None}
        queries = {i: _query(*pair) for i, pair in enumerate(pairs) if i not in refused and _is_due(*pair)}
        with self._shelf.taken() as generation:
            answers = dict(zip(queries, generation.searcher.answers(queries.values()), strict=True))
            results = [
                _result(question, sequence.kind, answers.get(i, NOTHING), embed_ms, generation.collection)
                for i, (question, sequence) in enumerate(pairs)
            ]
        replies = [Reply(generation=generation.number, result=result) for result in results]
        return [refused.get(i, reply) for i, reply in enumerate(replies)]

    def _refusal(self, question: Question, sequence: Snippets) -> RequestError | None:
        """Returns the error of a question whose matches would take too long to locate, which cannot be interrupted."""
        top = question.wanted.top
        if len(sequence) * top <= self._max_located:
            return None
        allowed = self._max_located // len(sequence)
        return RequestError(f"top: expected at most {allowed} for a query of {len(sequence)} snippets, got {top}")

    def _sequences(self, questions: list[Question]) -> list[Snippets]:
        """Returns the snippets of each question; those of media are embedded in one batch."""
        media = [question.source for question in questions if isinstance(question.source, Score | Recording)]
        embedded = iter(documents.sequences(media, self._encoder))
        return [
            next(embedded) if isinstance(question.source, Score | Recording) else self._sequence(question.source)
            for question in questions
        ]

    def _sequence(self, source: Embedded | Push | KnownDocument) -> Snippets:
        """Returns the snippets that a client has embedded, those of a document, or those of a stream so far."""
        if isinstance(source, KnownDocument):
            return source.sequence
        if isinstance(source, Push):
            if not source.heard:
                source.stream.hear(source.samples)
                source.heard = True
                source.heard_s = source.stream.heard_s
            source.stream.embed(self._encoder)
            return source.stream.sequence()
        if source.kind == "score":
            return Snippets(kind="score", embeddings=source.embeddings)
        return documents.recording_sequence(source.embeddings, 0.0, self._encoder.identity.front_end)


def _is_due(question: Question, sequence: Snippets) -> bool:
    """Whether to search: not for samples that want no answer, nor for a stream shorter than one excerpt."""
    return not isinstance(question.source, Push) or (question.source.answer and len(sequence) > 0)


def _query(question: Question, sequence: Snippets) -> Query:
    """Makes the engine's query for a question."""
    wanted, source = question.wanted, question.source
    systems = source.systems if isinstance(source, Score | KnownDocument) else ()
    return Query(
        sequence=sequence,
        among=wanted.among,
        method=wanted.method,
        top=wanted.top,
        path=wanted.path,
        systems=systems,
        is_wanted=lambda: not question.given_up.is_set(),
    )


def _result(question: Question, kind: Kind, answer: Answer, embed_ms: float, collection: Collection) -> dict[str, Any]:
    """Makes the map that the client gets from the engine's answer."""
    source = question.source
    result = as_dict(answer, kind, question.wanted.among, collection)
    result["timings_ms"] = {"embed": embed_ms} | result["timings_ms"]
    if isinstance(source, Push):
        result["heard_s"] = source.heard_s
    return result
