"""Works: the documents of one work are ranked together."""

from typing import Any

import pytest

from engine.search import answers
from engine.search.works import works


def match(rank: int, id: str, work: str, confidence: float | None) -> dict[str, Any]:
    return {"rank": rank, "id": id, "work": work, "confidence": confidence}


def test_evidence_of_editions_and_recordings_adds_up() -> None:
    found = works([match(1, "a", "K. 1", 0.6), match(2, "b", "K. 2", 0.5), match(3, "c", "k.  2 ", 0.5)])
    assert found == [
        {"rank": 1, "work": "K. 2", "confidence": pytest.approx(0.75), "documents": ["b", "c"]},
        {"rank": 2, "work": "K. 1", "confidence": pytest.approx(0.6), "documents": ["a"]},
    ]


def test_documents_without_a_work_are_not_taken_together() -> None:
    found = works([match(1, "a", "", 0.9), match(2, "b", "", 0.2)])
    assert [one["documents"] for one in found] == [["a"], ["b"]]


def test_without_confidences_the_best_match_ranks_the_work() -> None:
    found = works([match(1, "a", "K. 2", None), match(2, "b", "K. 1", None), match(3, "c", "K. 2", None)])
    assert [(one["work"], one["confidence"]) for one in found] == [("K. 2", None), ("K. 1", None)]


def test_the_table_tells_works_that_several_documents_are_of() -> None:
    place = {"title": "", "cost": 0.3, "votes": 0, "start_s": 1.0, "end_s": 2.0, "pages": [], "systems": []}
    matches = [match(1, "a", "K. 1", 0.6) | place, match(2, "b", "K. 1", 0.5) | place, match(3, "c", "", 0.1) | place]
    table = answers.table({"matches": matches, "works": works(matches), "in_collection": True})
    assert table.splitlines()[4:] == ["work 1: K. 1, confidence 0.80: a, b"]
