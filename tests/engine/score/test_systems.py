"""Systems on drawn pages: how many, how many staves, and where."""

import cv2
import numpy as np
import pytest

from drawn_pages import LEFT, RIGHT, Grey, bent, drawn_page, rotated, shaded
from engine.score import compile_kernels, find_systems, kernels, normalise_grey


def _places(page: Grey) -> list[tuple[float, float]]:
    return [(system.box.y0, system.box.y1) for system in find_systems(page)]


def test_a_piano_page_has_systems_of_two_staves_where_they_were_drawn() -> None:
    page, true = drawn_page([2, 2, 2, 2])
    systems = find_systems(page)
    assert [len(system.staves) for system in systems] == [2, 2, 2, 2]
    np.testing.assert_allclose(_places(page), true, atol=0.002)
    for system in systems:
        assert system.box.x0 == pytest.approx(LEFT, abs=0.01)
        assert system.box.x1 == pytest.approx(RIGHT, abs=0.01)
        assert system.staff_space == pytest.approx(0.009, rel=0.03)
        assert system.confidence > 0.8


@pytest.mark.parametrize("systems", [[1, 1, 1, 1, 1], [3, 3], [2, 3, 2], [4, 4], [2]])
def test_any_number_of_staves_makes_a_system(systems: list[int]) -> None:
    page, true = drawn_page(systems)
    assert [len(system.staves) for system in find_systems(page)] == systems
    np.testing.assert_allclose(_places(page), true, atol=0.002)


def test_barlines_join_staves_whose_left_end_was_cut_off() -> None:
    page, _ = drawn_page([2, 2, 2], opened=False)
    page[:, : round((LEFT + 0.02) * page.shape[1])] = 255
    assert [len(system.staves) for system in find_systems(page)] == [2, 2, 2]


@pytest.mark.parametrize("degrees", [-3.0, -1.0, 1.0, 3.0])
def test_a_skewed_page_has_the_same_systems(degrees: float) -> None:
    page, true = drawn_page([2, 2, 2, 2])
    places = _places(rotated(page, degrees))
    assert len(places) == len(true)
    np.testing.assert_allclose(np.mean(places, axis=0), np.mean(true, axis=0), atol=0.01)


def test_a_bent_page_has_the_same_systems_and_their_courses_follow_the_bend() -> None:
    page, true = drawn_page([2, 2, 2])
    systems = find_systems(bent(page, 20))
    assert [len(system.staves) for system in systems] == [2, 2, 2]
    for system, rows in zip(systems, true, strict=True):
        course = system.course
        expected = np.mean(rows) * page.shape[1] + 20 * np.sin(course.xs / page.shape[1] * np.pi)
        np.testing.assert_allclose(course.ys, expected, atol=2)


@pytest.mark.parametrize("space", [5.0, 7.0, 18.0, 30.0])
def test_the_resolution_of_a_page_does_not_matter(space: float) -> None:
    page, true = drawn_page([2, 2, 2], width=round(space * 110), space=space)
    np.testing.assert_allclose(_places(page), true, atol=0.003)


@pytest.mark.parametrize("degrees", [-1.5, -0.8, 0.0, 0.8, 1.5])
def test_a_coarse_bilevel_scan_shown_large_has_the_same_systems(degrees: float) -> None:
    page, _ = drawn_page([2, 2, 2, 2])
    coarse = np.where(bent(rotated(page, degrees), 6) > 128, 255, 0).astype(np.uint8)
    large = cv2.resize(coarse, None, fx=1.9, fy=1.9, interpolation=cv2.INTER_LINEAR)
    assert [len(system.staves) for system in find_systems(np.asarray(large, np.uint8))] == [2, 2, 2, 2]


def test_a_smaller_staff_above_a_piano_part_belongs_to_its_system() -> None:
    page, _ = drawn_page([2], notes=False)
    for line in range(5):
        cv2.line(page, (80, 5 + 7 * line), (930, 5 + 7 * line), 0, 1)
    page[5:80, 79:81] = 0
    systems = find_systems(page)
    assert [len(system.staves) for system in systems] == [3]


def test_grey_paper_and_shadows_do_not_matter() -> None:
    page, true = drawn_page([2, 2, 2])
    np.testing.assert_allclose(_places(normalise_grey(shaded(page))), true, atol=0.003)


def test_speckles_and_broken_lines_do_not_matter() -> None:
    page, true = drawn_page([2, 2, 2])
    rng = np.random.default_rng(0)
    page[rng.random(page.shape) < 0.01] = 0
    page[rng.random(page.shape) < 0.1] = 255
    np.testing.assert_allclose(_places(page), true, atol=0.003)


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_blank_page_has_no_systems(shade: int) -> None:
    assert find_systems(np.full((1400, 1000), shade, np.uint8)) == []


def test_a_page_of_text_has_no_systems() -> None:
    page = np.full((1400, 1000), 255, np.uint8)
    for row in range(60, 1350, 24):
        cv2.putText(page, "It is evident that, by giving each note its proper", (60, row), 3, 0.9, 0, 2)
    assert find_systems(page) == []


def test_noise_has_no_systems() -> None:
    assert find_systems(np.random.default_rng(0).integers(0, 256, (1400, 1000), dtype=np.uint8)) == []


def test_a_short_staff_beside_long_ones_is_no_system() -> None:
    page, true = drawn_page([2, 2])
    for line in range(5):
        cv2.line(page, (700, 1000 + 6 * line), (800, 1000 + 6 * line), 0, 1)
    np.testing.assert_allclose(_places(page), true, atol=0.002)


def test_a_staff_that_beams_break_up_is_one() -> None:
    page, true = drawn_page([2, 2], notes=False)
    top = round(true[0][0] * 1000)
    page[top - 15 : top + 60, 300:450] = 0
    systems = find_systems(page)
    assert [len(system.staves) for system in systems] == [2, 2]
    assert systems[0].staves[0].x1 == pytest.approx(RIGHT, abs=0.01)


def test_a_last_system_of_one_bar_is_found() -> None:
    page, true = drawn_page([2, 2, 2])
    page[round(true[2][0] * 1000) - 30 :, 80 + 150 :] = 255
    np.testing.assert_allclose(_places(page), true, atol=0.002)


def test_compiling_the_kernels_compiles_them_all() -> None:
    """A decoder that may not write beside the code finds each of them on disk."""
    compile_kernels()
    compiled = [value for value in vars(kernels).values() if hasattr(value, "signatures")]
    assert len(compiled) >= 2
    assert all(kernel.signatures for kernel in compiled)
