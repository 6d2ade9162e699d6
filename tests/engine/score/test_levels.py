"""Grey levels: numbers of any range, negatives, and contrast."""

import cv2
import numpy as np
import pytest

from drawn_pages import Grey, drawn_page, shaded
from engine.score.levels import dark_on_light, normalise_grey, scaled


def test_black_on_white_is_left_as_it_is() -> None:
    page, _ = drawn_page([2])
    assert normalise_grey(page) is page


def test_grey_paper_becomes_white_and_grey_ink_black() -> None:
    page, _ = drawn_page([2, 2])
    levelled = normalise_grey(shaded(page))
    assert np.percentile(levelled[page == 255], 5) == 255
    assert np.median(levelled[page == 0]) < 40


@pytest.mark.parametrize("shade", [0, 60, 128, 255])
def test_an_empty_page_stays_without_ink(shade: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(-3, 4, (400, 300))
    levelled = normalise_grey(np.clip(shade + noise, 0, 255).astype(np.uint8))
    assert levelled.std() < 30


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_sixteen_bits_are_scaled_by_their_greatest_value() -> None:
    page = drawn_page([2])[0]
    np.testing.assert_array_equal(scaled(page.astype(np.uint16) * 257), page)


@pytest.mark.parametrize("pixels", [1, 50])
def test_hot_pixels_do_not_darken_a_page_of_twelve_bits(pixels: int) -> None:
    page = drawn_page([2])[0]
    values = page.astype(np.uint16) * 16
    values.flat[np.random.default_rng(0).choice(values.size, pixels, replace=False)] = 65535
    levels = scaled(values)
    assert np.median(levels) == 255
    assert np.count_nonzero(levels != page) <= pixels


def test_what_is_no_number_becomes_paper() -> None:
    page = drawn_page([2])[0]
    values = page.astype(np.float32) / 255
    values[:20, :10], values[20, 20], values[30, 30] = np.nan, np.inf, -np.inf
    levels = scaled(values)
    np.testing.assert_array_equal(np.delete(levels.ravel(), 30 * 1000 + 30), np.delete(page.ravel(), 30 * 1000 + 30))
    assert levels[30, 30] == 0


def test_numbers_below_zero_are_darker_than_zero() -> None:
    np.testing.assert_array_equal(scaled(np.array([[-1.0, 0.0, 1.0]])), [[0, 127, 255]])


def test_an_image_without_numbers_or_differences_is_flat() -> None:
    assert scaled(np.full((20, 20), np.nan)).std() == 0
    assert scaled(np.zeros((20, 20))).std() == 0


# --- negatives --------------------------------------------------------------------------------------------------------


def on_table(page: Grey, table: int, roughness: float) -> Grey:
    """A page on a table of this grey with light spots, which takes three quarters of the picture."""
    height, width = page.shape
    field = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(2 * height, 2 * width)), (0, 0), 12)
    picture = np.clip(table + roughness * (field / field.std()) ** 2, 0, 255).astype(np.uint8)
    picture[height // 2 : height // 2 + height, width // 2 : width // 2 + width] = page
    return picture


@pytest.mark.parametrize("systems", [[1], [2, 2], [2] * 6])
def test_a_negative_is_inverted_and_a_page_is_left_alone(systems: list[int]) -> None:
    page = drawn_page(systems)[0]
    assert dark_on_light(page) is page
    np.testing.assert_array_equal(dark_on_light(255 - page), page)


@pytest.mark.parametrize(("table", "roughness"), [(0, 0), (20, 4), (60, 8)])
def test_a_dark_table_or_border_makes_no_negative(table: int, roughness: float) -> None:
    picture = on_table(drawn_page([2] * 4)[0], table, roughness)
    assert np.median(picture[::7, ::7]) < 128
    assert dark_on_light(picture) is picture


def test_a_negative_between_light_borders_is_one() -> None:
    picture = on_table(255 - drawn_page([2] * 4)[0], 255, 0)
    assert np.median(picture) == 255
    assert dark_on_light(picture) is not picture


@pytest.mark.parametrize("shade", [0, 40, 128, 255])
def test_a_page_without_writing_is_left_alone(shade: int) -> None:
    page = np.clip(np.random.default_rng(0).normal(shade, 4, (300, 200)), 0, 255).astype(np.uint8)
    assert dark_on_light(page) is page
