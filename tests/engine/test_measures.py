"""Measures of drawn pages, and the seconds at which a map plays them."""

import pytest

from drawn_pages import LEFT, RIGHT, drawn_page
from engine.measures import FIRST_NOTE, PlayedMeasure, PrintedMeasure, played_measures, printed_measures
from engine.score import score_of
from engine.timemap import Stretch, TimeMap
from engine.values import Box, System

SYSTEMS = tuple(
    System(page=1, number=n, box=Box(x0=0.0, y0=0.0, x1=1.0, y1=0.1), staves=(), staff_space=0.01, confidence=1.0)
    for n in (1, 2)
)
NOTE = FIRST_NOTE * 0.01
MEASURES = tuple(
    PrintedMeasure(number=4 * i + k + 1, system=system, x0=k / 4, x1=(k + 1) / 4)
    for i, system in enumerate(SYSTEMS)
    for k in range(4)
)


def stretch(system: int, start_s: float, end_s: float, x0: float, x1: float, *, jump: bool = False) -> Stretch:
    return Stretch(system=SYSTEMS[system - 1], seconds=(start_s, end_s), xs=(x0, x1), jump=jump)


def played(*stretches: Stretch) -> list[tuple[int, float, float]]:
    found = played_measures(TimeMap(stretches=stretches), MEASURES)
    assert all(isinstance(one, PlayedMeasure) for one in found)
    return [(one.measure.number, round(one.start_s, 3), round(one.end_s, 3)) for one in found]


def test_measures_are_counted_through_the_systems() -> None:
    page, _ = drawn_page([2, 2])
    measures = printed_measures(score_of([page]))
    assert [one.number for one in measures] == list(range(1, 9))
    assert [one.system.number for one in measures] == [1] * 4 + [2] * 4
    assert all(one.x0 < one.x1 for one in measures)
    assert measures[4].x0 == measures[4].system.box.x0


def repeat_signs(*bars: float, x_of_others: tuple[float, ...] = ()) -> list[tuple[int, bool]]:
    """The numbers of the measures of a system whose barlines lie at these places, the first a repeat sign."""
    page, _ = drawn_page([2, 2], notes=False)
    width = page.shape[1]
    top, bottom = round(8 * 9.0), round(8 * 9.0 + 13 * 9.0)
    for number, x in enumerate((*bars, *x_of_others)):
        place = round(x * width)
        page[top : bottom + 1, place - 1 : place + 1] = 0
        if number < len(bars):
            page[top : bottom + 1, place + 5 : place + 10] = 0
    return [(one.number, one.is_second_part) for one in printed_measures(score_of([page])) if one.system.number == 1]


def test_the_parts_of_a_measure_that_a_repeat_sign_divides_have_one_number() -> None:
    """The second of four measures is divided; a plain barline there, or a sign between whole measures, divides none."""
    divided = repeat_signs(0.39)
    assert divided == [(1, False), (2, False), (2, True), (3, False), (4, False)]
    assert [number for number, _ in repeat_signs(x_of_others=(0.39,))] == [1, 2, 3, 4, 5]
    assert [number for number, _ in repeat_signs(0.5)] == [1, 2, 3, 4]


def with_line(x: float, *, erased: bool) -> list[int]:
    """The numbers of the measures of a system with a stem through both staves at `x`, in page widths.

    erased: without the second of its three barlines.
    """
    page, _ = drawn_page([2, 2], notes=False)
    width, top = page.shape[1], 8 * 9
    if erased:
        second = round((LEFT + RIGHT) / 2 * width)
        page[: top + 14 * 9, second - 4 : second + 5] = 255
    place = round(x * width)
    page[top - 18 : top + 13 * 9 + 1, place - 1 : place + 1] = 0
    return [one.number for one in printed_measures(score_of([page])) if one.system.number == 1]


def test_a_doubtful_line_is_a_barline_where_it_makes_measures_as_wide_as_usual() -> None:
    assert with_line(0.52, erased=True) == [1, 2, 3, 4]
    assert with_line(0.52, erased=False) == [1, 2, 3, 4]
    assert with_line(0.33, erased=False) == [1, 2, 3, 4]
    assert with_line(0.33, erased=True) == [1, 2, 3]


@pytest.mark.parametrize(("last", "first", "numbers"), [(0.83, 0.22, [4, 5, 5]), (0.79, 0.27, [4, 5, 6])])
def test_a_measure_that_the_end_of_a_system_divides_has_one_number(
    last: float, first: float, numbers: list[int]
) -> None:
    """last: where the last measure of a system begins. first: where the first of the next one ends."""
    page, _ = drawn_page([2, 2], notes=False)
    for x, top in ((last, 8 * 9), (first, 8 * 9 + 22 * 9)):
        place = round(x * page.shape[1])
        page[top : top + 13 * 9 + 1, place - 1 : place + 1] = 0
    measures = printed_measures(score_of([page]))
    assert [one.number for one in measures[3:6]] == numbers
    assert measures[5].is_second_part == (numbers[1] == numbers[2])


def test_a_measure_begins_where_its_first_note_sounds() -> None:
    assert played(stretch(1, 0, 10, 0.0, 1.0)) == [
        (1, 0, 2.5 + 10 * NOTE),
        (2, 2.5 + 10 * NOTE, 5 + 10 * NOTE),
        (3, 5 + 10 * NOTE, 7.5 + 10 * NOTE),
        (4, 7.5 + 10 * NOTE, 10),
    ]


def test_a_stretch_plays_the_measures_that_it_passes_and_no_others() -> None:
    assert [number for number, *_ in played(stretch(2, 5, 9, 0.3, 0.7))] == [6, 7]
    assert played(stretch(2, 5, 9, 0.3, 0.7))[0][1] == 5
    assert played(stretch(2, 5, 9, 0.3, 0.7))[-1][2] == 9


def test_a_measure_that_is_repeated_is_played_twice() -> None:
    found = played(stretch(1, 0, 4, 0.3, 0.7), stretch(1, 4, 8, 0.3, 0.7, jump=True))
    assert [number for number, *_ in found] == [2, 3, 2, 3]
    assert found[1][2] == found[2][1] == pytest.approx(4)


def test_music_that_stands_still_plays_one_measure() -> None:
    assert played(stretch(1, 3, 4, 0.5, 0.5)) == [(2, 3, 4)]
