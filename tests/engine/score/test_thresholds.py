"""Each rule and threshold of system detection, on a small page on which another value finds something else."""

import cv2
import numpy as np
import pytest

from drawn_pages import Grey, bent, draw_staff, drawn_page, rotated
from engine.score import explain, find_systems, normalise_grey

SPACE = 9
"""Staff space of the pages drawn here, in px; a staff is 36 px high."""
LEFT, RIGHT = 80, 930


def page_with(*tops: int) -> Grey:
    """A page of 1000 px with a staff at each of these rows, and nothing else."""
    page = np.full((1400, 1000), 255, np.uint8)
    for top in tops:
        draw_staff(page, top, LEFT, RIGHT)
    return page


def with_staff(top: int, x0: int, x1: int, space: float = SPACE) -> Grey:
    """A page of two piano systems, and one more staff below them."""
    page, _ = drawn_page([2, 2], notes=False)
    draw_staff(page, top, x0, x1, space)
    return page


def cover(page: Grey, tops: tuple[int, ...], every: int, grey: int = 0) -> None:
    """Covers each staff with blocks of two spaces' width, as chords and beams do."""
    for top in tops:
        for x in range(100, 920, every):
            cv2.rectangle(page, (x, top - 1), (x + 2 * SPACE - 1, top + 4 * SPACE + 1), grey, -1)


def line(page: Grey, x: int, y0: int, y1: int, inked: float = 1.0) -> None:
    """A vertical line from row to row, of which only a share is inked, in six dashes."""
    length = (y1 - y0) / 6
    for start in y0 + length * np.arange(6):
        cv2.line(page, (x, round(start)), (x, round(start + length * inked) - (inked < 1)), 0, 1)


def staves(page: Grey) -> list[int]:
    """How many staves each system has."""
    return [len(system.staves) for system in find_systems(page)]


# Ink


def test_a_page_of_four_pixels_a_space_is_enlarged_before_and_after_its_lines_are_measured() -> None:
    """MIN_WIDTH_PX, MIN_SPACE_PX: neither measuring nor tracing works at the page's own size."""
    large, _ = drawn_page([2, 2, 2], width=1980, space=18)
    small = cv2.resize(large, (440, 616), interpolation=cv2.INTER_AREA)
    assert staves(normalise_grey(np.asarray(small, np.uint8))) == [2, 2, 2]


def test_a_bent_page_of_eighteen_pixels_a_space_is_reduced() -> None:
    """MAX_SPACE_PX: at its own size its lines move by more rows a column than a course can."""
    page, _ = drawn_page([2, 2, 2], width=1980, space=18)
    assert staves(bent(rotated(page, 3), 30)) == [2, 2, 2]


def test_pale_lines_are_ink() -> None:
    """MIN_STEP_GREY."""
    page, _ = drawn_page([2, 2], notes=False)
    page[page < 255] = 190
    assert staves(page) == [2, 2]


def test_grey_notes_are_ink() -> None:
    """DARK_GREY: without them the lines that they cover seem broken."""
    page = page_with(100, 250, 400)
    cover(page, (100, 250, 400), every=60, grey=95)
    assert staves(page) == [1, 1, 1]


# Staves


def test_a_staff_that_chords_cover_by_half_is_one() -> None:
    """MIN_MEAN_EVIDENCE; MIN_PART: between two chords two spaces of each line are seen."""
    page = page_with(100, 250, 400)
    cover(page, (100, 250, 400), every=36)
    assert staves(page) == [1, 1, 1]


def test_five_lines_of_twenty_spaces_are_a_staff_and_of_ten_are_not() -> None:
    """MIN_LENGTH, of a course and of a staff."""
    assert staves(with_staff(900, LEFT, LEFT + 20 * SPACE)) == [2, 2, 1]
    assert staves(with_staff(900, LEFT, LEFT + 10 * SPACE)) == [2, 2]


@pytest.mark.parametrize(
    ("x0", "x1", "kept"), [(95, 275, True), (107, 287, False), (300, 600, True), (300, 480, False)]
)
def test_a_short_staff_starts_where_the_others_do(x0: int, x1: int, kept: bool) -> None:
    """MAX_INDENT: 1.7 and 3 spaces to the right. MIN_INDENTED: .35 and .21 of the longest."""
    assert staves(with_staff(900, x0, x1)) == ([2, 2, 1] if kept else [2, 2])


@pytest.mark.parametrize(("right", "below", "kept"), [(250, 990, True), (300, 990, False), (250, 1098, False)])
def test_a_short_staff_with_a_brace_ends_with_the_staff_beside_it(right: int, below: int, kept: bool) -> None:
    """A brace looks like 2.5 spaces of staff; the staff beside it ends there, or 5 spaces later, or is far away."""
    page = with_staff(below, LEFT, right)
    draw_staff(page, 900, LEFT - 23, 250)
    assert sum(staves(page)) == 4 + 1 + kept


def test_staves_start_where_the_long_ones_do_though_more_are_short() -> None:
    """MIN_LONG: a last bar at the left stays, among examples that are indented."""
    page = page_with(100, 250)
    for top in (400, 500, 600, 700):
        draw_staff(page, top, 300, 600)
    draw_staff(page, 900, LEFT, LEFT + 150)
    assert staves(page)[-1] == 1
    assert find_systems(page)[-1].box.y0 == pytest.approx(0.9, abs=0.002)


def test_two_staves_do_not_share_a_line() -> None:
    """MIN_DISTANCE: nine lines are one staff, ten are two."""
    nine, ten = page_with(100, 300, 900, 900 + 4 * SPACE), page_with(100, 300, 900, 900 + 5 * SPACE)
    assert staves(nine) == [1, 1, 1]
    assert len([box for system in find_systems(ten) for box in system.staves]) == 4


def test_broken_lines_are_staff_lines_and_dashes_are_not() -> None:
    """MIN_COVERAGE: a tenth of the lines is missing, then a fifth."""
    lightly, heavily = page_with(100, 250, 400), page_with(100, 250, 400)
    for x in range(60, 940, 40):
        lightly[:, x : x + 4] = 255
        heavily[:, x : x + 8] = 255
    assert staves(lightly) == [1, 1, 1]
    assert staves(heavily) == []


def test_a_run_of_chords_does_not_end_a_staff() -> None:
    """MAX_BREAK: seven spaces without lines; the ten before would be too short for a staff."""
    page = with_staff(900, LEFT, RIGHT)
    page[890:950, 170:230] = 255
    assert find_systems(page)[-1].box.x0 == pytest.approx(0.08, abs=0.005)


@pytest.mark.parametrize(("gap", "systems"), [(20, 1), (27, 2)])
def test_parts_of_a_staff_are_put_together_across_a_limited_gap(gap: int, systems: int) -> None:
    """MAX_GAP: beams over twenty spaces; a coda after twenty-seven."""
    page = page_with(100)
    draw_staff(page, 900, LEFT, 400)
    draw_staff(page, 900, 400 + gap * SPACE, RIGHT)
    assert len(find_systems(page)) == 1 + systems


@pytest.mark.parametrize(("whole", "right", "parts"), [(990, RIGHT, 1), (1098, RIGHT, 2), (990, 600, 2)])
def test_a_staff_beside_a_long_gap_puts_the_parts_together(whole: int, right: int, parts: int) -> None:
    """MAX_BESIDE: beams over thirty spaces, and a staff ten spaces below, or 22, or one that ends within the gap."""
    page = page_with(100)
    draw_staff(page, 900, LEFT, 400)
    draw_staff(page, 900, 400 + 30 * SPACE, RIGHT)
    draw_staff(page, whole, LEFT, right)
    assert len(find_systems(page)) == 2 + parts


@pytest.mark.parametrize(("step", "systems"), [(4, 1), (8, 2)])
def test_parts_of_a_staff_lie_in_one_row(step: int, systems: int) -> None:
    """MAX_STEP: .44 and .89 of a staff space."""
    page = page_with(100)
    draw_staff(page, 900, LEFT, 400)
    draw_staff(page, 900 + step, 500, RIGHT)
    assert len(find_systems(page)) == 1 + systems


# Systems


@pytest.mark.parametrize(("inked", "systems"), [(0.72, [1, 1, 1]), (1.0, [2, 1])])
def test_stems_and_slurs_between_staves_are_no_barlines(inked: float, systems: list[int]) -> None:
    """MIN_BAR_INK: three lines reach over 72 % of the way, or all of it."""
    page = page_with(100, 250, 400)
    for x in (300, 500, 700):
        cv2.line(page, (x, 136), (x, 136 + round(114 * inked)), 0, 1)
    assert staves(page) == systems


@pytest.mark.parametrize(("bars", "systems"), [(1, [1, 1, 1]), (2, [2, 1])])
def test_one_line_between_staves_may_be_a_slur_and_two_are_barlines(bars: int, systems: list[int]) -> None:
    """MAX_APART_BARS; MIN_SURE_BARS is the next test's."""
    page = page_with(100, 250, 400)
    for x in (300, 700)[:bars]:
        line(page, x, 136, 250)
    assert staves(page) == systems


@pytest.mark.parametrize(("bars", "systems"), [(2, [2, 1]), (3, [3])])
def test_two_lines_do_not_join_what_lies_far_apart_and_three_do(bars: int, systems: list[int]) -> None:
    """MIN_SURE_BARS: two leave doubt, in which the distance decides."""
    page = page_with(100, 190, 340)
    line(page, LEFT, 100, 226)
    for x in (300, 500, 700)[:bars]:
        line(page, x, 226, 340)
    assert staves(page) == systems


@pytest.mark.parametrize(("bars", "systems"), [(1, [2, 1, 1, 2]), (2, [2, 2, 2])])
def test_two_staves_that_other_systems_leave_alone_are_a_system_if_two_lines_say_so(
    bars: int, systems: list[int]
) -> None:
    """As far apart as systems are: the distance would keep them apart."""
    page = page_with(100, 190, 340, 490, 640, 730)
    line(page, LEFT, 100, 226)
    line(page, LEFT, 640, 766)
    for x in (300, 500)[:bars]:
        line(page, x, 376, 490)
    assert staves(page) == systems


@pytest.mark.parametrize(("inked", "systems"), [(0.3, [2, 1, 1]), (0.5, [2, 2])])
def test_a_faint_line_at_the_left_joins_staves_as_close_as_others(inked: float, systems: list[int]) -> None:
    """MAX_APART_INK: half of the way and two thirds are seen."""
    page = page_with(100, 190, 340, 430)
    line(page, LEFT, 100, 226)
    line(page, LEFT, 376, 430, inked)
    assert staves(page) == systems


@pytest.mark.parametrize(("distance", "systems"), [(99, [3]), (117, [2, 1])])
def test_a_faint_line_joins_staves_hardly_further_apart_than_others(distance: int, systems: list[int]) -> None:
    """MAX_INNER_DISTANCE: 1.1 and 1.3 times as far, on a page of one system."""
    page = page_with(100, 190, 190 + distance)
    line(page, LEFT, 100, 226)
    line(page, LEFT, 226, 190 + distance, 0.6)
    assert staves(page) == systems


@pytest.mark.parametrize(("offset", "systems"), [(8, [3]), (14, [1, 1, 1])])
def test_the_line_that_opens_a_system_lies_at_the_left_end(offset: int, systems: list[int]) -> None:
    """MAX_END_DISTANCE: .9 and 1.6 staff spaces before the staff lines."""
    page = page_with(100, 220, 340)
    line(page, LEFT - offset, 100, 376)
    assert staves(page) == systems


def test_a_double_line_is_one_barline() -> None:
    page = page_with(100, 220, 340)
    line(page, 500, 136, 220)
    line(page, 505, 136, 220)
    assert explain(page).neighbours[0].gap.bars == 1
    assert staves(page) == [1, 1, 1]


@pytest.mark.parametrize(("end", "systems"), [(630, [2]), (430, [1, 1])])
def test_staves_of_a_system_run_along_each_other(end: int, systems: list[int]) -> None:
    """MIN_OVERLAP: .65 and .41 of the longer."""
    page = page_with(100)
    draw_staff(page, 200, LEFT, end)
    line(page, LEFT, 100, 236)
    assert staves(page) == systems


@pytest.mark.parametrize(("wide", "systems"), [(126, [2, 2, 2]), (104, [1] * 6)])
def test_without_any_barline_every_other_gap_must_be_clearly_narrower(wide: int, systems: list[int]) -> None:
    """MAX_ALTERNATION: 99 px within systems, between them 27 % or 5 % more."""
    tops = 100 + np.cumsum([0, 99, wide, 99, wide, 99])
    assert staves(page_with(*tops.tolist())) == systems


@pytest.mark.parametrize(
    ("space", "length", "kept"), [(6, 200, False), (8, 200, True), (6, 600, True)], ids=["incipit", "last bar", "solo"]
)
def test_a_small_and_short_staff_is_no_system(space: float, length: int, kept: bool) -> None:
    """MIN_RELATIVE_SPACE: .67 and .89 of the usual. MIN_RELATIVE_LENGTH: .24 and .71."""
    assert staves(with_staff(900, LEFT, LEFT + length, space)) == ([2, 2, 1] if kept else [2, 2])
