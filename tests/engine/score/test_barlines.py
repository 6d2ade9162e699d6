"""Barlines of drawn pages: four measures a system, and what must not be taken for a barline."""

import cv2
import numpy as np
import pytest

from drawn_pages import LEFT, RIGHT, Grey, drawn_page, rotated
from engine.config import FrontEnd
from engine.score import cut_strip, find_systems
from engine.score.barlines import measure_ends
from engine.values import System

SPACE, WIDTH = 9.0, 1000
STAFF = 9 * SPACE
"""Distance between the first lines of two staves of a system."""
TOP = 8 * SPACE
"""First line of the page."""
QUARTERS = [LEFT + (RIGHT - LEFT) * bar / 4 for bar in (1, 2, 3, 4)]


def ends(page: Grey) -> list[list[float]]:
    """The ends of the measures of each system of an upright page."""
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
        found.append(measure_ends(cut_strip(page, one.course, FrontEnd()), system).places.tolist())
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
    assert ends(page)[0] == pytest.approx(QUARTERS, abs=0.01)


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
    assert measure_ends(cut_strip(white, one.course, FrontEnd()), system).places.tolist() == [one.box.x1]
