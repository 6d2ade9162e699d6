import numpy as np
import pytest

from bench.lib.passages import Measure
from bench.lib.printed import PrintedSystem
from bench.lib.truth import Truth, join
from bench.lib.visits import Visit
from engine.values import Box, Document, System


def system(number: int, y0: float) -> System:
    box = Box(x0=0.1, y0=y0, x1=0.9, y1=y0 + 0.1)
    return System(page=1, number=number, box=box, staves=(box,), staff_space=0.0, confidence=1)


def measure(number: int, *, whole: bool = True) -> Measure:
    onsets = (0.0, 1.0, 2.0, 3.0)
    return Measure(
        number=number, start_quarter=4.0 * number, length_quarters=4.0, onsets=onsets, whole=whole, repeated=False
    )


@pytest.fixture
def truth() -> Truth:
    """Three systems of two measures, two seconds each; the second system is not found; measures 1 and 2 play twice."""
    score = Document(id="score", kind="score", systems=(system(1, 0.1), system(2, 0.7)))
    rows = ((0.1, 0.2), (0.4, 0.5), (0.7, 0.8))
    printed = [(1, PrintedSystem(rows=y, first_measure=2 * i + 1, last_measure=2 * i + 2)) for i, y in enumerate(rows)]
    played = [Visit(measure=m, start_s=2.0 * i, end_s=2.0 * i + 2) for i, m in enumerate((1, 2, 1, 2, 3, 4, -1, 6))]
    return join("piece", score, printed, [measure(n, whole=n != 5) for n in range(1, 7)], played)


def test_a_second_has_a_point_and_a_point_its_place(truth: Truth) -> None:
    assert truth.point_at(5.0) == 1.5
    place = truth.place_of(1.5)
    assert place is not None
    assert (place.page, place.system, place.x) == (1, 1, pytest.approx(0.3))


def test_a_point_sounds_as_often_as_it_is_visited(truth: Truth) -> None:
    assert truth.seconds_of(1.5) == [1.0, 5.0]
    assert truth.seconds_of(3.25) == [8.5]


def test_a_place_has_its_point(truth: Truth) -> None:
    assert truth.point_of(1, 0.3) == pytest.approx(1.5)
    assert truth.point_of(2, 0.8) == pytest.approx(6.75)


def test_what_is_uncertain_is_not_told(truth: Truth) -> None:
    assert truth.point_at(13.0) is None  # not mapped
    assert truth.point_at(99.0) is None  # after the end
    assert truth.place_of(3.5) is None  # in a system that is not found
    assert truth.point_of(2, 0.2) is None  # in a measure that a repeat splits
    assert truth.point_of(7, 0.2) is None


def test_points_of_a_system_rise_from_left_to_right(truth: Truth) -> None:
    for line in truth.lines:
        assert np.all(np.diff(line.points) > 0)
        assert np.all(np.diff(line.xs) > 0)
