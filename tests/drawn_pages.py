"""Pages drawn by hand for the tests of the score front end."""

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]

LEFT, RIGHT = 0.08, 0.93
"""Ends of the staff lines, in page widths."""


def drawn_page(
    systems: list[int], *, width: int = 1000, space: float = 9.0, notes: bool = True, opened: bool = True
) -> tuple[Grey, list[tuple[float, float]]]:
    """A page with systems of so many staves each, and the first and last line of each system in page widths.

    `opened`: with the line at the left end that joins the staves of a system; barlines join them in any case, where
    a system has more than one staff.
    """
    rng = np.random.default_rng(0)
    page = np.full((round(width * 1.4), width), 255, np.uint8)
    x0, x1 = round(LEFT * width), round(RIGHT * width)
    thick = max(1, round(space / 8))
    y, places = 8 * space, []
    for staves in systems:
        tops = [y + 9 * space * number for number in range(staves)]
        for top in tops:
            draw_staff(page, top, x0, x1, space)
            if notes:
                _notes(page, rng, top, space, (x0, x1))
        first, last = round(tops[0]), round(tops[-1] + 4 * space)
        for bar in range(0 if opened else 1, 5):
            x = round(x0 + (x1 - x0) * bar / 4)
            cv2.line(page, (x, first), (x, last), 0, thick)
        places.append((first / width, last / width))
        y = last + 9 * space
    return page, places


def draw_staff(page: Grey, top: float, x0: int, x1: int, space: float = 9.0) -> None:
    """Draws five lines from column to column, the first at row `top`."""
    for line in range(5):
        row = round(top + line * space)
        cv2.line(page, (x0, row), (x1, row), 0, max(1, round(space / 8)))


def _notes(page: Grey, rng: np.random.Generator, top: float, space: float, ends: tuple[int, int]) -> None:
    for x in np.arange(ends[0] + 4 * space, ends[1] - 2 * space, 3 * space):
        row = top + rng.integers(-2, 11) * space / 2
        cv2.ellipse(page, (round(x), round(row)), (round(0.6 * space), round(0.45 * space)), -20, 0, 360, 0, -1)
        stem = round(x + 0.55 * space)
        cv2.line(page, (stem, round(row)), (stem, round(row - 3.2 * space)), 0, max(1, round(space / 8)))


def rotated(page: Grey, degrees: float) -> Grey:
    """The page turned about its middle, white where nothing was."""
    height, width = page.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    turned = cv2.warpAffine(page, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=255)
    return np.asarray(turned, dtype=np.uint8)


def bent(page: Grey, depth_px: float) -> Grey:
    """The page with its middle `depth_px` lower than its sides, as in an open book."""
    height, width = page.shape
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    ys -= np.float32(depth_px) * np.sin(xs / width * np.pi)
    return np.asarray(cv2.remap(page, xs, ys, cv2.INTER_LINEAR, borderValue=255), dtype=np.uint8)


def shaded(page: Grey) -> Grey:
    """The page on grey paper in bad light: ink 90, paper 200 at the left and 120 at the right."""
    paper = np.linspace(200, 120, page.shape[1])
    return np.asarray(90 + (paper - 90) * (page / 255.0), dtype=np.uint8)
