"""Places of matches on documents whose snippets lie where the tests put them."""

import numpy as np
import pytest

from engine.config import FrontEnd
from engine.search.location import Ruler, points, reach, where
from engine.values import (
    RECORDING_PLACE,
    SCORE_PLACE,
    Box,
    Kind,
    Part,
    PathPoint,
    RecordingPosition,
    ScorePosition,
    SnippetSequence,
    System,
)


def system(number: int, x0: float = 0.0, staff_space: float = 0.01) -> System:
    box = Box(x0=x0, y0=0, x1=1, y1=0.1)
    return System(page=1 + number // 4, number=number, box=box, staves=(box,), staff_space=staff_space, confidence=1)


SYSTEMS = tuple(system(number) for number in range(1, 9))


def sequence(kind: Kind, places: np.ndarray) -> SnippetSequence:
    n = len(places)
    return SnippetSequence(
        kind=kind, embeddings=np.zeros((n, 32), np.float32), places=places, bias=np.zeros(n, np.float32)
    )


def score() -> Ruler:
    """80 snippets, ten a system, each a fifth of a system wide; the last two of a system reach into the next."""
    places = np.zeros(80, dtype=SCORE_PLACE)
    numbers = np.arange(80)
    places["system"], places["x"] = numbers // 10 + 1, numbers % 10 / 10
    places["end_system"], places["end_x"] = (numbers + 2) // 10 + 1, (numbers + 2) % 10 / 10
    places["end_system"][-2:], places["end_x"][-2:] = 8, 1
    return Ruler.of(sequence("score", places), SYSTEMS)


def recording() -> Ruler:
    """200 excerpts of 4 s, one each half second."""
    places = np.zeros(200, dtype=RECORDING_PLACE)
    places["start_s"] = np.arange(200) / 2
    places["end_s"] = places["start_s"] + 4
    return Ruler.of(sequence("recording", places))


def path(*runs: range) -> np.ndarray:
    """One query row a snippet of the document."""
    snippets = [snippet for run in runs for snippet in run]
    return np.array([range(len(snippets)), snippets], dtype=np.int32).T


def numbers(systems: tuple[System, ...]) -> list[int]:
    return [system.number for system in systems]


def test_the_query_starts_and_ends_beyond_the_middles_of_its_outer_snippets() -> None:
    found, parts = where(path(range(25, 46)), score(), reach=2.5)
    assert (found.pages, numbers(found.systems)) == ((1, 2), [3, 4, 5])
    assert (found.start_x, found.end_x) == (pytest.approx(0.35), pytest.approx(0.85))
    assert parts == (Part(share=1.0, place=found),)


def test_a_query_played_at_half_the_pace_reaches_half_as_far() -> None:
    slow = np.array([range(40), np.arange(40) // 2 + 20], dtype=np.int32).T
    found, _ = where(slow, recording(), reach=4.0)
    assert found.start_s == pytest.approx(12 - 4 * 0.25, abs=0.1)
    assert found.end_s == pytest.approx(19.5 + 2 + 4 * 0.25, abs=0.1)


def test_the_range_does_not_leave_the_document() -> None:
    found, _ = where(path(range(200)), recording(), reach=10.0)
    assert (found.start_s, found.end_s) == (0.0, 103.5)


def test_a_repeat_makes_two_parts_whose_systems_are_told_twice() -> None:
    found, parts = where(path(range(28), range(3, 48)), score(), reach=1.0)
    assert [numbers(part.place.systems) for part in parts] == [[1, 2, 3], [1, 2, 3, 4, 5]]
    assert [part.share for part in parts] == [pytest.approx(28 / 73), pytest.approx(45 / 73)]
    assert numbers(found.systems) == [1, 2, 3, 1, 2, 3, 4, 5]
    assert (found.start_x, found.end_x) == pytest.approx((0.0, 0.9), abs=1e-6)


def test_a_jump_lies_half_way_between_two_rows_of_the_query() -> None:
    _, parts = where(path(range(30, 50), range(20, 40)), recording(), reach=4.0)
    first, second = (part.place for part in parts)
    assert (first.start_s, first.end_s) == (15.0, pytest.approx(24.5 + 2 + 0.25))
    assert (second.start_s, second.end_s) == (pytest.approx(10 + 2 - 0.25), pytest.approx(19.5 + 4))


def test_a_stray_jump_at_the_end_does_not_stretch_the_range() -> None:
    found, parts = where(path(range(30, 50), range(150, 152)), recording(), reach=4.0)
    assert (found.start_s, found.end_s) == (15.0, pytest.approx(24.5 + 2 + 0.25))
    assert [part.share for part in parts] == [20 / 22, 2 / 22]
    found, _ = where(path(range(20, 40), range(70, 72)), score(), reach=0.5)
    assert numbers(found.systems) == [3, 4, 5]


def test_in_a_recording_the_range_is_the_first_passage_that_is_no_stray() -> None:
    found, _ = where(path(range(30, 38), range(100, 112)), recording(), reach=4.0)
    assert (found.start_s, found.end_s) == (15.0, pytest.approx(18.5 + 2 + 0.25))
    found, _ = where(path(range(30, 31), range(100, 112)), recording(), reach=4.0)
    assert (found.start_s, found.end_s) == (pytest.approx(50 + 2 - 0.25), pytest.approx(55.5 + 4))


def test_a_step_of_three_snippets_is_no_jump_and_one_of_four_is() -> None:
    fast = np.array([range(12), range(20, 56, 3)], dtype=np.int32).T
    _, parts = where(fast, recording(), reach=4.0)
    assert len(parts) == 1
    assert not any(point.jump for point in points(fast, recording(), recording()))
    leap = path(range(20, 30), range(33, 43))
    _, parts = where(leap, recording(), reach=4.0)
    assert len(parts) == 2
    assert [i for i, point in enumerate(points(leap, recording(), recording())) if point.jump] == [10]


def test_a_snippet_that_is_passed_twice_is_no_jump_and_one_passed_before_is() -> None:
    snippets = [*range(10), 9, 9, 8, *range(9, 20)]
    back = np.array([range(len(snippets)), snippets], dtype=np.int32).T
    assert [i for i, point in enumerate(points(back, recording(), recording())) if point.jump] == [12]


def test_a_system_that_a_part_ends_in_and_the_next_one_starts_in_is_told_once() -> None:
    found, parts = where(path(range(2, 18), range(14, 38)), score(), reach=1.0)
    assert [numbers(part.place.systems) for part in parts] == [[1, 2], [2, 3, 4]]
    assert numbers(found.systems) == [1, 2, 3, 4]
    found, parts = where(path(range(12, 19), range(12, 19), range(12, 28)), score(), reach=1.0)
    assert [numbers(part.place.systems) for part in parts] == [[2], [2], [2, 3]]
    assert numbers(found.systems) == [2, 3]
    assert found.pages == (1,)


def test_parts_near_each_other_are_one_passage() -> None:
    found, parts = where(path(range(30, 40), range(60, 70)), recording(), reach=4.0)
    assert (found.start_s, found.end_s) == (15.0, pytest.approx(34.5 + 4))
    assert len(parts) == 2


def test_the_points_of_a_path_are_the_middles_of_snippets() -> None:
    first, second, third = points(path(range(4, 6), range(1)), recording(), score())
    assert first == PathPoint(
        query=RecordingPosition(s=2.0), document=ScorePosition(page=1, system=1, x=pytest.approx(0.5)), jump=False
    )
    assert (second.query, second.jump) == (RecordingPosition(s=2.5), False)
    assert third == PathPoint(
        query=RecordingPosition(s=3.0), document=ScorePosition(page=1, system=1, x=pytest.approx(0.1)), jump=True
    )


def test_the_middle_of_a_snippet_across_two_systems_is_found_in_staff_spaces() -> None:
    place = np.array([(1, 0.9, 2, 0.5)], dtype=SCORE_PLACE)  # 10 spaces of the first system, 20 of the second
    ruler = Ruler.of(sequence("score", place), (system(1), system(2, x0=0.1, staff_space=0.02)))
    assert ruler.positions(ruler.middles) == [ScorePosition(page=1, system=2, x=pytest.approx(0.2))]


def test_snippets_of_a_score_need_its_systems() -> None:
    with pytest.raises(ValueError, match="expected the systems of the score"):
        Ruler.of(sequence("score", np.zeros(1, dtype=SCORE_PLACE)))


def test_a_snippet_reaches_half_its_length_each_way() -> None:
    assert reach(FrontEnd(), "score") == 2
    assert reach(FrontEnd(), "recording") == pytest.approx(4.2)
