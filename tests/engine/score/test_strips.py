"""Scores from files: strips, snippets, and where each snippet lies."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from drawn_pages import LEFT, RIGHT, bent, drawn_page, rotated
from engine.config import FrontEnd
from engine.errors import PageError
from engine.score import SystemCourse, cut_strip, find_systems, read_score, snippets, straight_course, windows
from engine.values import SCORE_PLACE, Box, System

FRONT_END = FrontEnd()


def _system(y0: float, y1: float, staff_space: float) -> System:
    box = Box(x0=LEFT, y0=y0, x1=RIGHT, y1=y1)
    return System(page=1, number=1, box=box, staves=(box,), staff_space=staff_space, confidence=1.0)


def _line_rows(strip: np.ndarray) -> np.ndarray:
    """Rows of a strip that hold a line through its whole length."""
    dark = np.flatnonzero(strip.mean(axis=1) < 225)
    return np.array([group.mean() for group in np.split(dark, np.flatnonzero(np.diff(dark) > 2) + 1)])


@pytest.fixture(scope="module")
def score_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("score") / "two.png"
    cv2.imwrite(str(path), drawn_page([2, 2, 2])[0])
    return path


@pytest.mark.parametrize("space", [5.0, 9.0, 17.0])
def test_staff_lines_lie_seven_pixels_apart_and_centred_whatever_the_resolution(space: float) -> None:
    width = round(space * 110)
    page, places = drawn_page([2], width=width, space=space, notes=False)
    course = straight_course(_system(*places[0], space / width), width)
    strip = cut_strip(page, course, FRONT_END)
    assert strip.shape == (160, pytest.approx((RIGHT - LEFT) * width * 7 / space, abs=1))
    rows = _line_rows(strip)
    assert len(rows) == 10
    np.testing.assert_allclose(np.diff(rows)[:4], 7, atol=1.1)
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(79.5, abs=1)


@pytest.mark.parametrize("degrees", [-3.0, 2.0])
def test_a_skewed_system_is_cut_level(degrees: float) -> None:
    page, _ = drawn_page([2, 2], notes=False)
    for found in find_systems(rotated(page, degrees)):
        rows = _line_rows(cut_strip(rotated(page, degrees), found.course, FRONT_END)[:, 10:-10])
        assert len(rows) == 10


def test_a_bent_system_is_cut_straight() -> None:
    page, _ = drawn_page([2], notes=False)
    curved = bent(page, 25)
    strip = cut_strip(curved, find_systems(curved)[0].course, FRONT_END)
    assert len(_line_rows(strip[:, 20:-20])) == 10


def test_a_system_too_tall_for_the_strip_is_scaled_down_to_fit() -> None:
    page, places = drawn_page([4], notes=False)
    strip = cut_strip(page, straight_course(_system(*places[0], 0.009), 1000), FRONT_END)
    rows = _line_rows(strip)
    assert len(strip) == 160
    assert rows[0] == pytest.approx(10.5, abs=1.5)
    assert rows[-1] == pytest.approx(148.5, abs=1.5)


def test_what_lies_outside_the_page_is_white() -> None:
    page = np.zeros((40, 500), np.uint8)
    ends = np.array([0, 500], np.float32)
    course = SystemCourse(xs=ends, ys=np.array([20, 20], np.float32), height=28.0, staff_space=7.0)
    strip = cut_strip(page, course, FRONT_END)
    assert strip[:58].min() == strip[-58:].min() == 255
    assert strip[65:95, 5:-5].max() == 0


def test_a_score_is_its_systems_side_by_side(score_file: Path) -> None:
    score = read_score(score_file)
    assert score.pages == 1
    assert [system.number for system in score.systems] == [1, 2, 3]
    assert score.strip.dtype == np.uint8
    assert score.strip.shape[0] == 160
    assert score.strip.shape[1] == pytest.approx(3 * (RIGHT - LEFT) * 1000 * 7 / 9, rel=0.02)
    assert score.starts_px[0] == 0
    assert len(score.starts_px) == 3


def test_snippets_are_windows_at_every_hop(score_file: Path) -> None:
    score = read_score(score_file)
    windows, places = snippets(score)
    assert windows.shape == ((score.strip.shape[1] - 200) // 50 + 1, 160, 200)
    assert places.dtype == SCORE_PLACE
    np.testing.assert_array_equal(windows[3], score.strip[:, 150:350])


def test_snippets_in_blocks_are_those_of_the_whole_strip(score_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = read_score(score_file)
    whole, _ = snippets(score)
    for size in (1, 7, 16, len(whole) - 1, len(whole), len(whole) + 1):
        monkeypatch.setattr("engine.score.strips.BLOCK", size)
        blocks = list(windows(score))
        assert all(len(block) == size for block in blocks[:-1])
        assert 0 < len(blocks[-1]) <= size
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_strips_that_wait_are_small(score_file: Path) -> None:
    """A volume of a thousand pages would take 2 GB otherwise."""
    score = read_score(score_file)
    assert sum(len(strip.data) for strip in score.strips) < score.strip.size / 5


def test_a_page_whose_systems_are_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = drawn_page([1, 1, 1])[0]
    examples = page.copy()
    examples[:, 400:] = 255
    for name, image in [("1.png", page), ("2.png", page), ("3.png", examples)]:
        cv2.imwrite(str(tmp_path / name), image)
    read_score(tmp_path)
    assert "page 3 left out: most of the systems are short" in caplog.text


def test_systems_keep_the_numbers_of_their_pages_if_a_page_is_passed_over(tmp_path: Path) -> None:
    for number in (1, 3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), drawn_page([2])[0])
    (tmp_path / "2.png").write_bytes(b"no image")
    score = read_score(tmp_path)
    assert (score.pages, [system.page for system in score.systems]) == (3, [1, 3])


def test_a_snippet_knows_where_on_the_page_it_starts_and_ends(score_file: Path) -> None:
    score = read_score(score_file)
    _, places = snippets(score)
    assert places[0]["system"] == 1
    assert places[0]["x"] == pytest.approx(LEFT, abs=0.01)
    assert places[0]["end_x"] == pytest.approx(LEFT + 200 * 9 / 7 / 1000, abs=0.01)
    straddling = places[(places["system"] == 1) & (places["end_system"] == 2)]
    assert len(straddling) > 0
    assert np.all(straddling["end_x"] < straddling["x"])
    assert places[-1]["end_system"] == 3


def test_pages_are_counted_and_those_without_systems_passed_over(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((1400, 1000), 255, np.uint8))
    cv2.imwrite(str(tmp_path / "2.png"), drawn_page([2, 2])[0])
    score = read_score(tmp_path)
    assert score.pages == 2
    assert [system.page for system in score.systems] == [2, 2]


def test_a_score_shorter_than_a_snippet_is_filled_up_with_white(tmp_path: Path) -> None:
    page = drawn_page([2])[0]
    page[:, 300:] = 255
    cv2.imwrite(str(tmp_path / "short.png"), page)
    score = read_score(tmp_path / "short.png")
    windows, places = snippets(score)
    width = score.strip.shape[1]
    assert width < 200
    assert windows.shape == (1, 160, 200)
    assert windows[0, :, width:].min() == 255
    assert places[0]["end_x"] == pytest.approx(0.3, abs=0.01)


def test_a_file_without_systems_is_refused_by_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((1400, 1000), 255, np.uint8))
    with pytest.raises(PageError, match=r"blank\.png: expected staves of music, found none on 1 page"):
        read_score(tmp_path / "blank.png")


def test_pages_of_short_examples_are_left_out(tmp_path: Path) -> None:
    page = drawn_page([1, 1, 1])[0]
    examples = page.copy()
    examples[:, 400:] = 255
    for name, image in [("1.png", page), ("2.png", page), ("3.png", examples)]:
        cv2.imwrite(str(tmp_path / name), image)
    score = read_score(tmp_path)
    assert score.pages == 3
    assert [system.page for system in score.systems] == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("systems", [[2], [2, 2]])
def test_a_last_page_of_one_or_two_short_systems_stays(tmp_path: Path, systems: list[int]) -> None:
    """The last system of a piece is often not stretched; without such pages the end of the piece was not found."""
    cv2.imwrite(str(tmp_path / "1.png"), drawn_page([2, 2])[0])
    end = drawn_page(systems)[0]
    end[:, 400:] = 255
    cv2.imwrite(str(tmp_path / "2.png"), end)
    assert [system.page for system in read_score(tmp_path).systems] == [1, 1] + [2] * len(systems)


def test_a_last_page_that_ends_with_a_short_system_stays(tmp_path: Path) -> None:
    page, places = drawn_page([2, 2])
    cv2.imwrite(str(tmp_path / "1.png"), page)
    page[round(places[1][0] * 1000) - 30 :, 400:] = 255
    cv2.imwrite(str(tmp_path / "2.png"), page)
    assert [system.page for system in read_score(tmp_path).systems] == [1, 1, 2, 2]
