"""Time maps of paths through a score of eight systems, ten snippets each, and a recording of an excerpt each half
second."""

import itertools

import numpy as np
import pytest

from engine import timemap
from engine.search.location import Ruler
from engine.timemap import TimeMap, time_map
from engine.values import RECORDING_PLACE, SCORE_PLACE, Box, ScorePosition, SnippetSequence, System

SYSTEMS = tuple(
    System(
        page=1 + number // 4,
        number=number,
        box=Box(x0=0.1, y0=0, x1=1.1, y1=0.1),
        staves=(),
        staff_space=0.01,
        confidence=1,
    )
    for number in range(1, 9)
)


def ruler(places: np.ndarray, systems: tuple[System, ...] = ()) -> Ruler:
    count = len(places)
    sequence = SnippetSequence(
        kind="score" if systems else "recording",
        embeddings=np.zeros((count, 32), np.float32),
        places=places,
        bias=np.zeros(count, np.float32),
    )
    return Ruler.of(sequence, systems)


def score() -> Ruler:
    places = np.zeros(80, SCORE_PLACE)
    numbers = np.arange(80)
    places["system"], places["x"] = numbers // 10 + 1, 0.1 + numbers % 10 / 10
    places["end_system"], places["end_x"] = (numbers + 2) // 10 + 1, 0.1 + (numbers + 2) % 10 / 10
    places["end_system"][-2:], places["end_x"][-2:] = 8, 1.1
    return ruler(places, SYSTEMS)


def recording(count: int = 200) -> Ruler:
    places = np.zeros(count, RECORDING_PLACE)
    places["start_s"] = np.arange(count) / 2
    places["end_s"] = places["start_s"] + 4
    return ruler(places)


def played(*runs: range) -> TimeMap:
    """The map of a recording that plays these snippets of the score, one each half second."""
    snippets = [snippet for run in runs for snippet in run]
    return time_map(np.array([range(len(snippets)), snippets], np.int32).T, recording(), score())


def test_a_cursor_runs_through_the_systems_with_the_music() -> None:
    """The middle of excerpt i is at i / 2 + 2 s, that of snippet i a tenth of a width to the right of its start."""
    found = played(range(40))
    for second, system, x in ((2.0, 1, 0.2), (4.5, 1, 0.7), (7.5, 2, 0.3), (20.0, 4, 0.8)):
        place = found.at(second)
        assert place is not None
        assert (place.system, place.page) == (system, 1 + system // 4)
        assert place.x == pytest.approx(x, abs=0.02)


def test_the_room_of_clef_and_key_is_passed_in_no_time() -> None:
    """The path reaches the border of systems 1 and 2 at 6.5 s, and runs through the room of 8 spaces in 0.4 s."""
    found = played(range(40))
    before, after = found.at(6.65), found.at(6.75)
    assert before == ScorePosition(page=1, system=1, x=pytest.approx(1.1, abs=1e-6))
    assert after == ScorePosition(page=1, system=2, x=pytest.approx(0.1 + 0.08, abs=0.005))


def test_the_map_goes_on_to_the_ends_of_the_first_and_last_snippet() -> None:
    found = played(range(5, 40))
    first = found.at(0.0)
    assert first is not None
    assert (first.system, first.x) == (1, pytest.approx(0.3, abs=0.02))  # four snippets before the first middle
    assert found.at(34 / 2 + 2 + 1.9) is not None
    assert found.at(34 / 2 + 2 + 2.1) is None


def test_a_stretch_is_one_system_and_rises() -> None:
    found = played(range(25), range(10, 60))
    for stretch in found.stretches:
        assert (np.diff(stretch.seconds) > 0).all()
        assert (np.diff(stretch.xs) >= 0).all()
        assert stretch.system.box.x0 - 1e-6 <= min(stretch.xs) <= max(stretch.xs) <= stretch.system.box.x1 + 1e-6
    for before, after in itertools.pairwise(found.stretches):
        assert before.seconds[-1] == pytest.approx(after.seconds[0])


def test_many_snippets_that_match_one_excerpt_give_no_pace() -> None:
    """Snippets 0 to 6 match the first excerpt alone. Nothing says how fast the music around its middle is."""
    path = np.array([[0, snippet] for snippet in range(7)], np.int32)
    (stretch,) = time_map(path, recording(), score()).stretches
    assert stretch.seconds == (0, 2, 4)
    assert stretch.xs == pytest.approx([0.5] * 3)  # the middle of snippet 3, the mean of them


def test_snippets_that_match_one_excerpt_are_one_point_at_their_mean() -> None:
    """A score as the query: every excerpt is matched by two snippets, every fourth one by three."""
    excerpts = np.repeat(np.arange(24), np.where(np.arange(24) % 4 == 3, 3, 2))
    found = time_map(np.array([range(len(excerpts)), excerpts], np.int32).T, score(), recording())
    for plain in found.as_list():
        assert (np.diff(plain["s"]) > 0).all()
    # Excerpt 2, whose middle is at 3 s, is matched by snippets 4 and 5, whose middles are at 0.6 and 0.7.
    assert found.at(3) == ScorePosition(page=1, system=1, x=pytest.approx(0.65, abs=0.02))


@pytest.mark.parametrize("late_spaces", np.linspace(-0.03, 0.03, 13))
def test_seconds_rise_in_milliseconds_where_a_system_ends_near_a_point(
    monkeypatch: pytest.MonkeyPatch, late_spaces: float
) -> None:
    """The map passes to the next system within 1.5 ms of its start, of a point in each system, and of its end."""
    monkeypatch.setattr(timemap, "HEAD_SPACES", 20 + 2 * late_spaces)  # half of it is the middle of snippet 10 n
    found = played(range(14, 47))
    for plain in found.as_list():
        assert (np.diff(plain["s"]) > 0).all()
    numbers = [stretch.system.number for stretch in found.stretches]
    assert numbers == [*range(numbers[0], numbers[-1] + 1)]
    assert {2, 3, 4, 5} <= {*numbers}
    for before, after in itertools.pairwise(found.stretches):
        assert before.seconds[-1] == after.seconds[0]


def test_a_repeat_is_played_twice() -> None:
    found = played(range(20), range(20))
    assert [stretch.system.number for stretch in found.stretches] == [1, 2, 3, 1, 2, 3]
    assert [stretch.jump for stretch in found.stretches] == [False, False, False, True, False, False]
    times = found.seconds_of(2, 0.5)
    assert len(times) == 2
    assert times[1] - times[0] == pytest.approx(10, abs=0.3)
    assert found.at(times[1]) == ScorePosition(page=1, system=2, x=pytest.approx(0.5))


def test_a_score_as_the_query_has_the_same_map() -> None:
    cells = np.array([range(10, 50), range(40)], np.int32).T
    asked = time_map(cells, score(), recording())
    answered = time_map(np.ascontiguousarray(cells[:, ::-1]), recording(), score())
    assert asked.as_list() == answered.as_list()


def test_seconds_that_two_parts_of_a_score_claim_belong_to_the_longer_part() -> None:
    cells = np.array([range(30), [*range(20), *range(5, 15)]], np.int32).T  # snippets 20 to 29 fall back to excerpt 5
    found = time_map(cells, score(), recording())
    assert [stretch.system.number for stretch in found.stretches] == [1, 2, 3][: len(found.stretches)]


def test_two_of_a_kind_have_no_map() -> None:
    with pytest.raises(ValueError, match="two of a kind"):
        time_map(np.zeros((1, 2), np.int32), recording(), recording())


def test_the_map_as_plain_values_has_a_stretch_a_system() -> None:
    (first, *_) = played(range(40)).as_list()
    assert (first["page"], first["system"], first["jump"]) == (1, 1, False)
    assert len(first["s"]) == len(first["x"])
