"""How an answer is told."""

from typing import Any

import pytest

from engine.search import answers

MATCH = {
    "rank": 1,
    "id": "op1",
    "title": "Étude",
    "cost": 0.25,
    "votes": 7,
    "confidence": 0.991,
    "start_s": None,
    "end_s": None,
}
IN_SCORE = MATCH | {"pages": [1, 2], "systems": [3, 4, 5, 2]}
IN_RECORDING = MATCH | {
    "rank": 2,
    "id": "b",
    "cost": -0.0001,
    "start_s": 3.0,
    "end_s": 63.6,
    "pages": [],
    "systems": [],
}


@pytest.mark.parametrize(("numbers", "text"), [((7,), "7"), ((7, 8, 9), "7-9"), ((1, 2, 7, 3), "1-2, 7, 3")])
def test_numbers_are_told_as_runs(numbers: tuple[int, ...], text: str) -> None:
    assert answers.ranges(numbers) == text


def test_more_ranges_than_one_can_read_are_counted() -> None:
    numbers = tuple(range(1, 40, 2))
    assert answers.ranges(numbers[:6]) == "1, 3, 5, 7, 9, 11"
    assert answers.ranges(numbers) == "1, 3, 5, 7, 9 and 15 more"


@pytest.mark.parametrize(
    ("shift", "text"), [(1.0, "up by 1 semitone"), (-0.5, "down by 0.5 semitones"), (2.0, "up by 2 semitones")]
)
def test_a_transposition_is_told(shift: float, text: str) -> None:
    shown = answers.table({"matches": [IN_SCORE], "in_collection": True, "transposed": shift})
    assert shown.endswith(f"the query was transposed {text}")
    assert "transposed" not in answers.table({"matches": [IN_SCORE], "in_collection": True, "transposed": 0.0})


@pytest.mark.parametrize(("seconds", "text"), [(31.4, "0:31"), (59.7, "1:00"), (3723.0, "1:02:03")])
def test_seconds_are_told_as_a_clock_does(seconds: float, text: str) -> None:
    assert answers.clock(seconds) == text


def test_matches_stand_in_columns_numbers_to_the_right() -> None:
    assert answers.table({"matches": [IN_SCORE, IN_RECORDING], "in_collection": True}).splitlines() == [
        "rank  id   title   cost  confidence  where",
        "   1  op1  Étude  0.250        0.99  p. 1-2, systems 3-5, 2",
        "   2  b    Étude  0.000        0.99  0:03-1:04",
    ]


def test_what_was_not_aligned_shows_its_votes_in_the_place_of_costs() -> None:
    votes = answers.table({"matches": [IN_SCORE | {"cost": None, "confidence": None}], "in_collection": None})
    assert votes.splitlines()[0].split() == ["rank", "id", "title", "votes", "where"]
    assert votes.splitlines()[1].split()[:4] == ["1", "op1", "Étude", "7"]


def test_confidence_has_a_column_only_if_it_is_known_and_doubt_is_told() -> None:
    unknown = answers.table({"matches": [IN_SCORE | {"confidence": None}], "in_collection": None})
    assert "confidence" not in unknown
    doubt = answers.table({"matches": [IN_SCORE], "in_collection": False})
    assert doubt.endswith("likely not in this collection: no match has a confidence of 0.5")
    between = answers.table({"matches": [IN_SCORE | {"confidence": 0.7}], "in_collection": None})
    assert between.endswith("perhaps in this collection: no match has a confidence of 0.8")
    assert answers.table({"matches": [], "in_collection": None}) == "no matches"


def test_answers_to_a_query_as_it_looks_and_as_it_sounds_are_one_the_likeliest_first() -> None:
    def part(*confidences: float | None, kind: str, in_collection: bool | None) -> dict[str, Any]:
        matches = [{"rank": rank, "kind": kind, "confidence": one} for rank, one in enumerate(confidences, start=1)]
        answer = {"direction": "?", "in_collection": in_collection, "partial": False, "transposed": 0.0, "plan": {}}
        return answer | {"matches": matches, "timings_ms": {"embed": 1.0, kind: 2.0}, "collection": {"generation": 1}}

    scores = part(0.2, 0.0, kind="score", in_collection=False)
    recordings = part(0.9, 0.5, kind="recording", in_collection=True)
    both = answers.merged([scores, recordings], top=3)
    assert [(match["rank"], match["kind"], match["confidence"]) for match in both["matches"]] == [
        (1, "recording", 0.9),
        (2, "recording", 0.5),
        (3, "score", 0.2),
    ]
    assert (both["direction"], both["in_collection"], both["plan"]) == ("both", True, None)
    assert both["timings_ms"] == {"embed": 2.0, "score": 2.0, "recording": 2.0}
    doubtful = part(0.6, kind="recording", in_collection=None)
    assert answers.merged([scores, doubtful], top=3)["in_collection"] is None
    assert answers.merged([scores, scores], top=3)["in_collection"] is False
    assert answers.merged([scores, part(kind="recording", in_collection=None)], top=3)["in_collection"] is False
    unsure = [part(None, None, kind=kind, in_collection=None) for kind in ("score", "recording")]
    ranked = answers.merged(unsure, top=4)
    assert [match["kind"] for match in ranked["matches"]] == ["score", "recording"] * 2  # by their ranks
    assert ranked["in_collection"] is None
