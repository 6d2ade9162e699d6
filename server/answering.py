"""Answers batches of questions: embeds them together, aligns them together, and makes the replies."""

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import audio
from engine.audio import Recording
from engine.embedding import documents
from engine.embedding.documents import Encoder, Medium
from engine.score import Score
from engine.search.answers import as_dict
from engine.search.searcher import Query
from engine.transposition import Transposer
from engine.values import Answer, Kind, Snippets, SnippetSequence, System
from server.errors import RequestError
from server.messages import Embedded, Wanted
from server.shelf import Generation, Shelf
from server.streams import LiveRecording

NOTHING = Answer(matches=())


@dataclass(slots=True, kw_only=True)
class Push:
    """Further samples of a stream."""

    stream: LiveRecording
    samples: NDArray[np.float32]
    answer: bool
    is_open: Callable[[], bool] = lambda: True
    """Whether the client has the stream open: then the samples are heard even if nobody waits for the answer."""
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
    shifts: tuple[float, ...] = ()
    """Semitones by which a recording is transposed; of several, the likeliest. Empty: it is searched for as it is."""
    tries: int = 1
    """Number of tries that the confidences pay for."""
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
        plain = [question for question in questions if not question.shifts]
        replies = iter(self._together(plain) if plain else [])
        return [self._transposed(question) if question.shifts else next(replies) for question in questions]

    def _transposed(self, question: Question) -> Reply | RequestError:
        """Returns the reply to a question about a recording that is transposed before the search."""
        recording, started = question.source, time.perf_counter()
        assert isinstance(recording, Recording)  # `messages` accepts nothing else
        snippets = audio.excerpt_count(recording.spectrogram, self._encoder.identity.front_end)
        if (refusal := self._refusal(question, snippets)) is not None:
            return refusal
        with self._shelf.taken() as generation:
            query = functools.partial(_query, question)
            transposer = Transposer(searcher=generation.searcher, encoder=self._encoder, query=query)
            answer = transposer.likeliest(recording, question.shifts, question.tries)
            embed_ms = (time.perf_counter() - started) * 1000 - answer.timings_ms["total"]
            return _reply(question, "recording", answer, embed_ms, generation)

    def _together(self, questions: list[Question]) -> list[Reply | RequestError]:
        """Returns the replies to questions that are embedded together and aligned together."""
        started = time.perf_counter()
        sequences = self._sequences(questions)
        embed_ms = (time.perf_counter() - started) * 1000
        pairs = list(zip(questions, sequences, strict=True))
        refusals = [self._refusal(question, len(sequence)) for question, sequence in pairs]
        refused = {i: error for i, error in enumerate(refusals) if error is not None}
        queries = {i: _query(*pair) for i, pair in enumerate(pairs) if i not in refused and _is_due(*pair)}
        with self._shelf.taken() as generation:
            answers = dict(zip(queries, generation.searcher.answers(queries.values()), strict=True))
            replies = [
                _reply(question, sequence.kind, answers.get(i, NOTHING), embed_ms, generation)
                for i, (question, sequence) in enumerate(pairs)
            ]
        return [refused.get(i, reply) for i, reply in enumerate(replies)]

    def _refusal(self, question: Question, snippets: int) -> RequestError | None:
        """Returns the error of a question whose matches would take too long to locate, which cannot be interrupted."""
        top = question.wanted.top
        if snippets * top <= self._max_located:
            return None
        allowed = self._max_located // snippets
        return RequestError(f"top: expected at most {allowed} for a query of {snippets} snippets, got {top}")

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
    """Whether to search: not for samples that want no answer, nor for a stream shorter than one excerpt.

    Nor for samples whose client has given up before they were heard.
    """
    if not isinstance(question.source, Push):
        return True
    return question.source.answer and len(sequence) > 0 and not question.given_up.is_set()


def must_be_heard(question: Question) -> bool:
    """Returns whether a question has samples of a stream, without which all later times of the stream were wrong."""
    source = question.source
    return isinstance(source, Push) and len(source.samples) > 0 and source.is_open()


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


def _reply(question: Question, kind: Kind, answer: Answer, embed_ms: float, generation: Generation) -> Reply:
    """Makes the reply that the client gets from the engine's answer. kind: of the query."""
    source = question.source
    result = as_dict(answer, kind, question.wanted.among, generation.collection)
    result["timings_ms"] = {"embed": embed_ms} | result["timings_ms"]
    if isinstance(source, Push):
        result["heard_s"] = source.heard_s
    return Reply(generation=generation.number, result=result)
