"""Places of matches on documents whose snippets lie where the tests put them."""

import numpy as np
import pytest

from engine.location import points, where
from engine.values import (
    RECORDING_PLACE,
    SCORE_PLACE,
    Box,
    Document,
    Part,
    PathPoint,
    RecordingPosition,
    ScorePosition,
    System,
)


def system(number: int, x0: float = 0.0, staff_space: float = 0.01) -> System:
    box = Box(x0=x0, y0=0, x1=1, y1=0.1)
    return System(page=1 + number // 4, number=number, box=box, staves=(box,), staff_space=staff_space, confidence=1)


SCORE = Document(id="score", kind="score", systems=tuple(system(number) for number in range(1, 9)))
RECORDING = Document(id="recording", kind="recording")


def score_places() -> np.ndarray:
    """80 snippets, ten a system, each a system's fifth wide; two reach into the next system."""
    made = np.zeros(80, dtype=SCORE_PLACE)
    numbers = np.arange(80)
    made["system"], made["x"] = numbers // 10 + 1, numbers % 10 / 10
    made["end_system"], made["end_x"] = (numbers + 2) // 10 + 1, (numbers + 2) % 10 / 10
    return made


def recording_places() -> np.ndarray:
    """Excerpts of 4.2 s, one each half second."""
    made = np.zeros(200, dtype=RECORDING_PLACE)
    made["start_s"] = np.arange(200) / 2
    made["end_s"] = made["start_s"] + 4.2
    return made


def path(*runs: range) -> np.ndarray:
    """One query row a snippet of the document."""
    snippets = [snippet for run in runs for snippet in run]
    return np.array([range(len(snippets)), snippets], dtype=np.int32).T


def numbers(place: Part) -> list[int]:
    return [system.number for system in place.systems]


def test_a_path_without_jumps_lies_between_its_first_and_last_snippet() -> None:
    found = where(path(range(25, 46)), score_places(), SCORE)
    (part,) = found.pop("parts")
    assert found == {"pages": (1, 2), "systems": SCORE.systems[2:5], "start_x": 0.5, "end_x": pytest.approx(0.7)}
    assert part == Part(share=1.0, **found)


def test_a_repeat_makes_two_parts_and_one_passage() -> None:
    found = where(path(range(28), range(3, 48)), score_places(), SCORE)
    assert [numbers(part) for part in found["parts"]] == [[1, 2, 3], [1, 2, 3, 4, 5]]
    assert [part.share for part in found["parts"]] == [pytest.approx(28 / 73), pytest.approx(45 / 73)]
    assert [system.number for system in found["systems"]] == [1, 2, 3, 4, 5]
    assert (found["start_x"], found["end_x"]) == (0.0, pytest.approx(0.9))


def test_a_stray_jump_at_the_end_does_not_stretch_the_range() -> None:
    found = where(path(range(30, 50), range(150, 152)), recording_places(), RECORDING)
    assert (found["start_s"], found["end_s"]) == (15.0, pytest.approx(24.5 + 4.2))
    assert [(part.start_s, part.share) for part in found["parts"]] == [(15.0, 20 / 22), (75.0, 2 / 22)]


def test_parts_whose_snippets_overlap_are_one_passage() -> None:
    found = where(path(range(30, 40), range(44, 50)), recording_places(), RECORDING)
    assert (found["start_s"], found["end_s"]) == (15.0, pytest.approx(24.5 + 4.2))
    assert len(found["parts"]) == 2


def test_the_points_of_a_path_are_the_middles_of_snippets() -> None:
    told = points(path(range(4, 6), range(1)), recording_places(), (), score_places(), SCORE.systems)
    assert told == (
        PathPoint(
            query=RecordingPosition(s=pytest.approx(2.1)),
            document=ScorePosition(page=1, system=1, x=pytest.approx(0.5)),
            jump=False,
        ),
        PathPoint(
            query=RecordingPosition(s=pytest.approx(2.6)),
            document=ScorePosition(page=1, system=1, x=pytest.approx(0.6)),
            jump=False,
        ),
        PathPoint(
            query=RecordingPosition(s=pytest.approx(3.1)),
            document=ScorePosition(page=1, system=1, x=pytest.approx(0.1)),
            jump=True,
        ),
    )


def test_the_middle_of_a_snippet_across_two_systems_is_found_in_staff_spaces() -> None:
    place = np.array([(1, 0.9, 2, 0.3)], dtype=SCORE_PLACE)
    systems = (system(1), system(2, x0=0.1, staff_space=0.02))
    told = points(path(range(1)), place, systems, recording_places(), ())
    assert told[0].query == ScorePosition(page=1, system=1, x=pytest.approx(1.0))
    place["end_x"] = 0.5
    told = points(path(range(1)), place, systems, recording_places(), ())
    assert told[0].query == ScorePosition(page=1, system=2, x=pytest.approx(0.2))


def test_points_in_a_score_need_its_systems() -> None:
    with pytest.raises(ValueError, match="expected the systems of the score"):
        points(path(range(1)), recording_places(), (), score_places(), ())
