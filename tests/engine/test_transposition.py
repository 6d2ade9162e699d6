from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from engine.audio import SAMPLE_RATE, recording_of
from engine.embedding import documents
from engine.embedding.documents import Encoder, Medium
from engine.search.searcher import Query
from engine.transposition import SHIFTS, Transposer, priced
from engine.values import Answer, Document, Match, SnippetSequence
from fake_encoder import FakeEncoder


@dataclass
class Likely:
    """A searcher that is sure of one transposition alone, known by the order of the queries."""

    right: float
    confidence: float
    asked: list[list[Query]] = field(default_factory=list)

    def answers(self, queries: Iterable[Query]) -> list[Answer]:
        self.asked.append(list(queries))
        count = len(self.asked[-1])
        shifts = SHIFTS if count > 1 else (self.right,) if len(self.asked) == 3 else (0.0,)
        return [self._answer(self.confidence if shift == self.right else 0.1) for shift in shifts[:count]]

    def _answer(self, confidence: float) -> Answer:
        match = Match(rank=1, document=Document(id="a", kind="score"), cost=0.5, votes=None, confidence=confidence)
        return Answer(matches=(match,), in_collection=confidence >= 0.5, timings_ms={"total": 1.0})


def query(sequence: SnippetSequence) -> Query:
    return Query(sequence=sequence, among="score")


def answer(searcher: Likely, shifts: tuple[float, ...] | None = None, seconds: int = 6) -> Answer:
    encoder = FakeEncoder()
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, seconds * SAMPLE_RATE).astype(np.float32)
    recording = recording_of(sound, SAMPLE_RATE, encoder.identity.front_end)
    return Transposer(searcher=cast(Any, searcher), encoder=encoder, query=query).answer(recording, shifts)


def test_a_recording_that_is_found_is_not_transposed() -> None:
    searcher = Likely(right=0.0, confidence=0.9)
    assert answer(searcher).transposed == 0.0
    assert len(searcher.asked) == 1


@pytest.mark.parametrize("right", SHIFTS)
def test_a_recording_that_is_not_found_is_tried_higher_and_lower(right: float) -> None:
    found = answer(Likely(right=right, confidence=0.99))
    assert (found.transposed, found.in_collection) == (right, True)
    assert "transpose" in found.timings_ms


def test_tries_are_paid_for_and_do_not_count_if_they_are_not_worth_it() -> None:
    found = answer(Likely(right=1.5, confidence=0.99))
    assert found.matches[0].confidence == pytest.approx(0.99 / (0.99 + 5 * 0.01))
    unsure = answer(Likely(right=1.5, confidence=0.8))
    assert (unsure.transposed, unsure.in_collection) == (0.0, False)
    assert unsure.matches[0].confidence == 0.1


def test_a_try_that_is_in_doubt_is_better_than_an_answer_that_is_not() -> None:
    doubtful = answer(Likely(right=1.5, confidence=0.9))
    assert (doubtful.transposed, doubtful.in_collection) == (1.5, None)
    assert doubtful.matches[0].confidence == pytest.approx(0.9 / (0.9 + 5 * 0.1))


@pytest.mark.parametrize(("seconds", "transposed"), [(6, 5), (130, 6)])
def test_only_of_a_long_recording_the_likeliest_transposition_is_embedded_again(
    seconds: int, transposed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is, at the four pitches and, if only its middle was tried, as a whole."""
    embedded: list[int] = []
    real = documents.sequences

    def sequences(media: list[Medium], encoder: Encoder) -> list[SnippetSequence]:
        embedded.extend(range(len(media)))
        return real(media, encoder)

    monkeypatch.setattr(documents, "sequences", sequences)
    found = answer(Likely(right=1.5, confidence=0.99), seconds=seconds)
    assert (found.transposed, len(embedded)) == (1.5, transposed)


def test_a_given_transposition_is_the_only_one() -> None:
    searcher = Likely(right=9.0, confidence=0.9)
    found = answer(searcher, (1.5,))
    assert (found.transposed, found.matches[0].confidence, len(searcher.asked)) == (1.5, 0.1, 1)


def test_an_answer_without_confidences_stays_without() -> None:
    match = Match(rank=1, document=Document(id="a", kind="score"), cost=0.5, votes=None)
    assert priced(Answer(matches=(match,)), tries=7) == Answer(matches=(match,))
