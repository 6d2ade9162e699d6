"""Pages as people have them: several on a sheet, turned, askew, photographed, broken."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.as_they_lie import Original, found_spots, right_in_order, true_spots
from bench.lib import lying
from drawn_pages import draw_staff, drawn_page, rotated
from engine.config import FrontEnd
from engine.score import clefs, cut_strip, find_systems, placed_systems, read_score
from engine.score.clefs import lead_of_right_ends
from engine.score.detection import detect
from engine.score.grain import line_direction
from engine.score.pages import pages_of
from indexer.synthesis.engrave import Engraver, random_layout
from small_scores import write_piano

SEEDS = (0, 2, 4, 7)


def engraved(seed: int, folder: Path) -> Original:
    """The first page of a piece for piano, 1000 px wide, with its systems."""
    rng = np.random.default_rng(seed)
    page = next(Engraver(write_piano(folder / f"{seed}.krn", seed)).pages(random_layout(rng), limit=1))
    found = find_systems(page.image)
    assert len(found) == len(page.systems)
    return Original(
        image=page.image,
        ends=[np.stack([s.course.xs, s.course.ys], axis=1)[[0, -1]].astype(np.float64) for s in found],
        heights=[s.course.height for s in found],
        staves=[len(s.staves) for s in found],
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Original]:
    folder = tmp_path_factory.mktemp("engraved")
    return [engraved(seed, folder) for seed in SEEDS]


@pytest.mark.parametrize("name", [name for name in lying.VARIANTS if name != "broken_lines"])
def test_the_systems_of_a_page_are_found_in_order_however_it_lies(name: str, pages: list[Original]) -> None:
    count, variant = lying.VARIANTS[name]
    shown = pages[:count]
    image = variant([page.image for page in shown], np.random.default_rng(1))
    page = next(pages_of([image.image]))
    spots = found_spots(page, plain=False)
    expected = true_spots(shown, image, page.shape[1] / image.image.shape[1])
    assert right_in_order(spots, expected) == len(expected) == len(spots)


def test_staves_with_broken_lines_are_found(pages: list[Original]) -> None:
    page = pages[0].image
    thin = cv2.dilate(page, np.ones((7, 1), np.uint8)) > 128
    gaps = np.random.default_rng(0).random((page.shape[0], page.shape[1] // 13 + 1)) < 0.4
    worn = np.where(thin & np.repeat(gaps, 13, axis=1)[:, : page.shape[1]], 255, page).astype(np.uint8)
    assert find_systems(worn) == []
    assert [len(system.staves) for system in placed_systems(worn)] == pages[0].staves


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_the_turn_of_a_page_is_told_and_its_strips_are_those_of_the_page_upright(
    degrees: int, pages: list[Original]
) -> None:
    upright = placed_systems(pages[0].image)
    turned = placed_systems(lying.turned(pages[0].image, degrees).image)
    assert {system.turn for system in turned} == {-degrees % 360}
    for one, other in zip(upright, turned, strict=True):
        assert other.box.x0 == pytest.approx(one.box.x0, abs=0.005)
        assert other.box.y0 == pytest.approx(one.box.y0, abs=0.005)
        assert other.staff_space == pytest.approx(one.staff_space, rel=0.02)
        strips = [cut_strip(system.image, system.found.course, FrontEnd()) for system in (one, other)]
        width = min(strip.shape[1] for strip in strips)
        assert np.corrcoef(*(strip[:, :width].ravel() for strip in strips))[0, 1] > 0.5


def test_the_right_ends_of_upright_staves_look_less_like_clefs(pages: list[Original]) -> None:
    for page in pages:
        assert lead_of_right_ends(page.image, detect(page.image).staves) < -0.2


@pytest.mark.parametrize("share", [0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
def test_ends_of_staves_without_their_left_edge_look_equally_unlike_clefs(share: float, pages: list[Original]) -> None:
    for page in pages:
        cut = np.ascontiguousarray(page.image[:, round(share * page.image.shape[1]) :])
        assert abs(lead_of_right_ends(cut, detect(cut).staves)) < 0.15
        assert {system.turn for system in placed_systems(cut)} == {0}


def test_staff_lines_alone_are_no_likeness_to_a_clef() -> None:
    lines = np.full((36, 30), 255, np.uint8)
    lines[10:30:4] = 80  # four pixels are a staff space
    assert clefs._clef_likeness(lines) < 0.1
    with_clef = lines.copy()
    with_clef[2:34, 4:16] = clefs._clefs()[1]
    assert clefs._clef_likeness(with_clef) > 0.95


def test_a_page_without_clefs_is_not_turned() -> None:
    page, _ = drawn_page([2, 2, 2])
    assert {system.turn for system in placed_systems(page)} == {0}


def test_a_page_so_large_that_its_lines_have_no_direction_is_read_as_it_lies() -> None:
    page, _ = drawn_page([2], width=1100, space=60, notes=False)
    assert [len(system.staves) for system in placed_systems(page)] == [len(s.staves) for s in find_systems(page)] == [2]


@pytest.mark.parametrize("degrees", [-14.0, -3.0, 0.0, 8.0])
def test_the_direction_of_lines_is_measured(degrees: float) -> None:
    page, _ = drawn_page([2, 2, 2])
    assert line_direction(rotated(page, -degrees)) == pytest.approx(degrees, abs=0.75)


def test_boxes_of_a_spread_are_places_on_the_sheet() -> None:
    page, true = drawn_page([2, 2, 2])
    systems = placed_systems(np.hstack([page, page]))
    assert [round(system.box.x0, 1) for system in systems] == [0.0] * 3 + [0.5] * 3
    assert [len(system.staves) for system in systems] == [2] * 6
    np.testing.assert_allclose([s.box.y0 * 2 for s in systems], [row[0] for row in true * 2], atol=0.003)


def test_staves_with_a_break_at_one_place_are_no_two_pages() -> None:
    page, _ = drawn_page([2, 2, 2], notes=False)
    top = round(find_systems(page)[2].box.y0 * 1000)
    page[top - 20 :, 600:660] = 255
    assert len(placed_systems(page)) == len(find_systems(page))


def test_two_columns_of_short_examples_are_no_two_pages() -> None:
    page = np.full((1400, 1000), 255, np.uint8)
    for top in range(100, 1300, 120):
        for x0 in (100, 550):
            draw_staff(page, top, x0, x0 + 200)
    assert {round(system.image.shape[1]) for system in placed_systems(page)} == {1000}


def test_a_page_on_a_larger_sheet_is_no_page_of_examples(tmp_path: Path) -> None:
    page, _ = drawn_page([2, 2, 2], width=1500, space=13)  # as many systems as a page of examples has
    bed = np.full((page.shape[0], 3200), 255, np.uint8)
    bed[:, :1500] = page
    for name, image in [("1.png", page), ("2.png", page), ("3.png", bed)]:
        cv2.imwrite(str(tmp_path / name), image)
    assert [system.page for system in read_score(tmp_path).systems] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_dark_surrounding_joins_no_systems() -> None:
    page, _ = drawn_page([2, 2, 2], notes=False)
    page[:, :76] = page[:, 940:] = 0  # as near as the line that opens a system
    assert [len(system.staves) for system in placed_systems(page)] == [2, 2, 2]


def test_noise_in_a_shadow_joins_no_systems() -> None:
    page, _ = drawn_page([2, 2, 2], width=1600, space=14, notes=False)
    noisy = page.copy()
    noisy[:, :300][np.random.default_rng(0).random((len(page), 300)) < 0.3] = 60
    assert [len(system.staves) for system in placed_systems(noisy)] == [2, 2, 2]


def test_text_on_its_side_has_no_systems() -> None:
    page = np.full((1400, 1000), 255, np.uint8)
    words = "It is evident that, by giving each note its proper length, the player who hurries loses all grace".split()
    for line, row in enumerate(range(60, 1350, 24)):
        first = 7 * line % len(words)
        cv2.putText(page, " ".join([*words[first:], *words][:9]), (60, row), 3, 0.9, 0, 2)
    for image in (page, lying.turned(page, 90).image):
        assert placed_systems(image) == []
