"""Barlines of drawn pages: four measures a system, and what must not be taken for a barline."""

import cv2
import numpy as np
import pytest

from drawn_pages import LEFT, RIGHT, Grey, drawn_page, rotated
from engine.config import FrontEnd
from engine.score import cut_strip, find_systems
from engine.score.barlines import MeasureEnds, measure_ends
from engine.values import System

SPACE, WIDTH = 9.0, 1000
STAFF = 9 * SPACE
"""Distance between the first lines of two staves of a system."""
TOP = 8 * SPACE
"""First line of the page."""
QUARTERS = [LEFT + (RIGHT - LEFT) * bar / 4 for bar in (1, 2, 3, 4)]


def ends(page: Grey) -> list[list[float]]:
    """The ends of the measures of each system of an upright page."""
    return [one.places.tolist() for one in all_ends(page)]


def split(page: Grey) -> tuple[list[float], list[float]]:
    """The ends of the first system that are certain, and those that are doubtful."""
    first = all_ends(page)[0]
    return first.places[~first.doubtful].tolist(), first.places[first.doubtful].tolist()


def all_ends(page: Grey) -> list[MeasureEnds]:
    """What is found of the measures of each system of an upright page."""
    found = []
    for number, one in enumerate(find_systems(page), start=1):
        system = System(
            page=1,
            number=number,
            box=one.box,
            staves=one.staves,
            staff_space=one.staff_space,
            confidence=one.confidence,
        )
        found.append(measure_ends(cut_strip(page, one.course, FrontEnd()), system))
    return found


def vertical(page: Grey, x: float, top: float, bottom: float, thick: int = 1) -> None:
    cv2.line(page, (round(x * WIDTH), round(top)), (round(x * WIDTH), round(bottom)), 0, thick)


@pytest.mark.parametrize("staves", [1, 2, 3])
@pytest.mark.parametrize("degrees", [0.0, 0.7])
def test_barlines_end_the_measures(staves: int, degrees: float) -> None:
    page, _ = drawn_page([staves, staves], notes=staves > 1)  # which may lie on barlines, as no printer lays them
    for found in ends(rotated(page, degrees)):
        assert found == pytest.approx(QUARTERS, abs=0.01)


def test_a_stem_through_one_of_two_staves_is_no_barline() -> None:
    page, _ = drawn_page([2])
    vertical(page, 0.4, TOP, TOP + 7 * SPACE)
    assert ends(page)[0] == pytest.approx(QUARTERS, abs=0.01)


def test_a_stem_as_long_as_the_only_staff_is_no_barline() -> None:
    page, _ = drawn_page([1, 1], notes=False)
    vertical(page, 0.4, TOP, TOP + 5.5 * SPACE)
    vertical(page, 0.6, TOP, TOP + 4 * SPACE)
    cv2.ellipse(page, (round(0.6 * WIDTH - 0.55 * SPACE), round(TOP + 3.5 * SPACE)), (5, 4), -20, 0, 360, 0, -1)
    assert ends(page)[0] == pytest.approx(QUARTERS, abs=0.01)


def test_barlines_need_not_run_between_the_staves() -> None:
    page, _ = drawn_page([2, 2], notes=False)
    for top in (TOP, TOP + STAFF + 4 * SPACE + 9 * SPACE):
        gap = slice(round(top + 4 * SPACE) + 2, round(top + STAFF) - 1)
        page[gap, round(LEFT * WIDTH) + 12 :] = 255
    for found in ends(page):
        assert found == pytest.approx(QUARTERS, abs=0.01)


def test_a_barline_that_is_worn_is_one() -> None:
    """Its print has broken up: one pixel in nine is gone between the staves."""
    page, _ = drawn_page([2], notes=False)
    x = round(QUARTERS[0] * WIDTH)
    for y in range(round(TOP + 4 * SPACE) + 4, round(TOP + STAFF) - 4, 9):
        page[y, x - 2 : x + 3] = 255
    assert ends(page)[0] == pytest.approx(QUARTERS, abs=0.01)


def test_a_broken_line_beside_a_slur_or_with_heads_beside_it_is_no_barline() -> None:
    page, _ = drawn_page([2], notes=False)
    bottom = TOP + STAFF + 4 * SPACE
    for x, heads in ((0.42, True), (0.58, False)):
        vertical(page, x, TOP, bottom)
        place = round(x * WIDTH)
        for y in range(round(TOP + 4 * SPACE) + 4, round(TOP + STAFF) - 4, 9):
            page[y, place - 2 : place + 3] = 255
        if heads:
            for y in (1, 2, 3):
                cv2.circle(page, (place - 7, round(TOP + y * SPACE)), 4, 0, -1)
        else:
            cv2.rectangle(page, (place + 3, round(TOP + 5 * SPACE)), (place + 9, round(TOP + 8 * SPACE)), 0, -1)
    certain, doubtful = split(page)
    assert certain == pytest.approx(QUARTERS, abs=0.01)
    assert doubtful == pytest.approx([0.42], abs=0.01)


def test_a_stem_through_both_staves_that_goes_on_to_its_beam_is_doubtful() -> None:
    page, _ = drawn_page([2], notes=False)
    vertical(page, 0.4, TOP - 2 * SPACE, TOP + STAFF + 4 * SPACE)
    certain, doubtful = split(page)
    assert certain == pytest.approx(QUARTERS, abs=0.01)
    assert doubtful == pytest.approx([0.4], abs=0.01)


def test_a_pickup_of_one_note_ends_with_its_barline() -> None:
    page, _ = drawn_page([2], notes=False)
    pickup = LEFT + 11 * SPACE / WIDTH
    vertical(page, pickup, TOP, TOP + STAFF + 4 * SPACE)
    assert ends(page)[0] == pytest.approx([pickup, *QUARTERS], abs=0.01)


def double_bar(page: Grey, x: float, *, reversed: bool = False) -> None:
    """A double bar from its thin line at `x` to the right, or to the left."""
    vertical(page, x, TOP, TOP + STAFF + 4 * SPACE)
    vertical(page, x + (-0.009 if reversed else 0.009), TOP, TOP + STAFF + 4 * SPACE, 4)


def test_a_repeat_sign_after_a_wide_key_and_a_double_bar_before_one_bound_the_music() -> None:
    page, _ = drawn_page([2], notes=False)
    opening, closing = LEFT + 12 * SPACE / WIDTH, RIGHT - 8 * SPACE / WIDTH
    double_bar(page, opening, reversed=True)
    double_bar(page, closing)
    (found,) = all_ends(page)
    assert found.places.tolist() == pytest.approx(QUARTERS, abs=0.01)
    assert (found.opening, found.closing) == (pytest.approx(opening, abs=0.01), pytest.approx(closing, abs=0.01))


def test_a_double_bar_is_one_barline_and_a_repeat_sign_after_the_clef_is_none() -> None:
    page, _ = drawn_page([2])
    bottom = TOP + STAFF + 4 * SPACE
    vertical(page, QUARTERS[0] + 0.008, TOP, bottom)
    vertical(page, LEFT + 0.07, TOP, bottom, 3)
    assert ends(page)[0] == pytest.approx(QUARTERS, abs=0.01)


def test_a_measure_that_the_next_system_goes_on_with_ends_with_the_system() -> None:
    page, _ = drawn_page([2])
    last = round(RIGHT * WIDTH)
    page[:, last - 60 :] = 255
    found = ends(page)[0]
    assert len(found) == 4
    assert found[-1] == pytest.approx((last - 60) / WIDTH, abs=0.01)


def test_a_strip_without_barlines_is_one_measure() -> None:
    page, _ = drawn_page([2])
    white = np.full_like(page, 255)
    (one,) = find_systems(page)
    system = System(page=1, number=1, box=one.box, staves=one.staves, staff_space=one.staff_space, confidence=1.0)
    found = measure_ends(cut_strip(white, one.course, FrontEnd()), system)
    assert (found.places.tolist(), found.opening, found.closing) == ([one.box.x1], one.box.x0, one.box.x1)
