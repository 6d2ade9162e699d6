"""A server tries other pitches of a recording that it does not find, as the command line does."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from engine.search.searcher import Query, Searcher
from engine.transposition import SHIFTS
from engine.values import Answer
from media import write_recording
from running_server import fill, running
from server import service

REAL = Searcher.answers


@dataclass
class Sure:
    """Makes searches sure of one try alone: the second of four, and the whole recording at its pitch."""

    asked: list[int] = field(default_factory=list)
    """Number of queries of each search."""
    confidence: float = 0.99
    """Confidence of that try; all others have 0.1."""

    def answers(self, searcher: Searcher, queries: Iterable[Query]) -> list[Answer]:
        queries = list(queries)
        self.asked.append(len(queries))
        again = self.asked[-2:] == [len(SHIFTS), 1]
        likely = [again or (len(queries) == len(SHIFTS) and i == 1) for i in range(len(queries))]
        return [
            judged(one, self.confidence if is_likely else 0.1)
            for one, is_likely in zip(REAL(searcher, queries), likely, strict=True)
        ]


def judged(answer: Answer, confidence: float) -> Answer:
    """An answer whose matches all have this confidence."""
    matches = tuple(replace(match, confidence=confidence) for match in answer.matches)
    return replace(answer, matches=matches, in_collection=confidence >= 0.5)


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> Sure:
    made = Sure()
    monkeypatch.setattr(Searcher, "answers", lambda searcher, queries: made.answers(searcher, queries))
    return made


def asked(folder: Path, sure: Sure, **options: Any) -> dict[str, Any]:
    """The answer of a server to a recording."""
    take = write_recording(folder / "take.flac", 1, seconds=8)

    async def go() -> dict[str, Any]:
        async with running(fill(folder / "c", 0, 1)) as here, here.client() as client:
            sure.asked.clear()
            return await client.query(take, **options)

    return asyncio.run(go())


def test_a_recording_that_is_not_found_is_tried_at_other_pitches(tmp_path: Path, sure: Sure) -> None:
    answer = asked(tmp_path, sure)
    assert (answer["transposed"], answer["in_collection"]) == (SHIFTS[1], True)
    assert answer["matches"][0]["confidence"] == pytest.approx(0.99 / (0.99 + 5 * 0.01))
    assert 0 < answer["timings_ms"]["transpose"] < answer["timings_ms"]["total"]
    assert sure.asked == [1, 4, 1]


def test_the_first_answer_stays_if_no_other_pitch_finds_the_recording(tmp_path: Path, sure: Sure) -> None:
    sure.confidence = 0.1
    answer = asked(tmp_path, sure)
    assert (answer["transposed"], answer["in_collection"]) == (0.0, False)
    assert answer["matches"][0]["confidence"] == 0.1
    assert sure.asked == [1, 4, 1]


def test_a_try_that_is_in_doubt_is_better_than_an_answer_that_is_not(tmp_path: Path, sure: Sure) -> None:
    sure.confidence = 0.9
    answer = asked(tmp_path, sure)
    assert (answer["transposed"], answer["in_collection"]) == (SHIFTS[1], None)


def test_a_client_can_forbid_the_tries(tmp_path: Path, sure: Sure) -> None:
    answer = asked(tmp_path, sure, transpose=[0])
    assert (answer["transposed"], answer["in_collection"], sure.asked) == (0.0, False, [1])


def test_a_client_can_say_which_pitches_are_tried(tmp_path: Path, sure: Sure) -> None:
    assert asked(tmp_path, sure, transpose=[2])["transposed"] == 2.0
    assert sure.asked == [1]
    assert asked(tmp_path, sure, transpose=[4, 3, 2, 1])["transposed"] == 3.0
    assert sure.asked == [4, 1]


def test_without_time_for_tries_the_first_answer_is_the_reply(
    tmp_path: Path, sure: Sure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPLY_S", 1000.0)
    answer = asked(tmp_path, sure)
    assert (answer["transposed"], answer["in_collection"], sure.asked) == (0.0, False, [1])
