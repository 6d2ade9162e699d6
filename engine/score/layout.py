"""Page image -> its systems, however the page lies: askew, on its side, on its head, beside other pages.

The image is turned until its staff lines are level. Where no staff crosses a gutter, the image shows several pages, and
each is read on its own. Staves with clefs at the right end stand on their heads, and the page is turned.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.clefs import has_clefs, upside_down
from engine.score.detection import Detected, detect
from engine.score.grain import line_direction
from engine.score.levels import Grey
from engine.score.sheets import Rectangle, pages_on_sheet
from engine.score.systems import FoundSystem
from engine.values import Box

Matrix = NDArray[np.float64]
"""A map from pixels to pixels, (2, 3): a turn and a shift."""

MIN_SKEW = 2.5
"""Smallest skew that is undone, in degrees. Courses follow less, and an image that is not turned stays sharper."""
MIN_DOUBTFUL_LENGTH = 30
"""Smallest length of a rejected candidate, in staff spaces, that may be a staff with broken lines."""
MIN_GAIN = 1.5
"""Smallest number of staves for which another way of finding them is preferred, relative to the first way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSystem:
    """One system, in the image in which it is upright and level, and on the page."""

    image: Grey
    """The part of the page that is one upright page, uint8 (h, w)."""
    found: FoundSystem
    """The system in `image`."""
    turn: int
    """Degrees by which the page is turned clockwise so that the system is upright: 0, 90, 180 or 270."""
    box: Box
    """Box round the staff lines, in widths of the page turned by `turn`. A system that runs askew has its height at
    mid-length."""
    staves: tuple[Box, ...]
    """Boxes of the staves, top to bottom, in widths of the page turned by `turn`."""
    staff_space: float
    """Distance of two staff lines, in widths of the page turned by `turn`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a page, as an image."""

    image: Grey
    page: tuple[int, int]
    """Height and width of the page as it lies, in px."""
    to_page: Matrix
    """Where the pixels of `image` lie on the page as it lies."""
    turn: int
    """Degrees by which the page was turned clockwise."""


def placed_systems(page: Grey) -> list[PlacedSystem]:
    """Returns the systems of a page in reading order; a blank, title or text page has none.

    page: uint8 (h, w), white 255, grey levels normalised.
    """
    identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    part = _Part(image=page, page=(page.shape[0], page.shape[1]), to_page=identity, turn=0)
    levelled = _levelled(part)
    systems = list(_systems(levelled, divided=False))
    if not systems and levelled is not part:  # such as a page whose lines are too thick to have a direction
        systems = list(_systems(part, divided=False))
    return systems


def _systems(part: _Part, *, divided: bool) -> Iterator[PlacedSystem]:
    """Yields the systems of a levelled part in reading order. divided: whether the part is known to be one page."""
    detected = _detected(part.image)
    if upside_down(part.image, detected.staves):
        turned = _turned(part, 180)
        again = _detected(turned.image)
        # Music without clefs has nothing to be told by, but a line joins the staves of a system at its left end.
        if _joined(again) >= _joined(detected):
            part, detected = turned, again
    pages = [] if divided else pages_on_sheet(detected.staves, part.image)
    if len(pages) > 1:
        for page in pages:
            yield from _systems(_levelled(_cropped(part, page)), divided=True)
    else:
        for system in detected.systems:
            yield _placed(part, system)


def _joined(detected: Detected) -> int:
    """Returns how many staves are joined to the one above them."""
    return len(detected.staves) - len(detected.systems)


def _detected(image: Grey) -> Detected:
    """Returns the staves and systems of an image, found in the way that finds clearly the most staves.

    With long holes closed, lines of text look like staff lines, but not their ends like clefs.
    """
    best = detect(image)
    doubtful = _doubtful(best, image.shape[1])
    if not best.staves:
        best = detect(image, fine=True)
    if not best.staves or doubtful > len(best.staves):
        other = detect(image, broken=True)
        if len(other.staves) > MIN_GAIN * len(best.staves) and has_clefs(image, other.staves):
            best = other
    return best


def _doubtful(detected: Detected, width: int) -> int:
    """Returns the number of rejected candidates that may be staves with broken lines."""
    shortest = MIN_DOUBTFUL_LENGTH * detected.space / width
    return sum(
        rejection.stage in ("course", "staff") and rejection.box.x1 - rejection.box.x0 >= shortest
        for rejection in detected.rejections
    )


def _levelled(part: _Part) -> _Part:
    """Returns a part with level staff lines: turned by a quarter if they run down, and by their skew if it is large."""
    direction = line_direction(part.image)
    if abs(direction) > 45:
        part = _turned(part, 90)
        direction -= np.copysign(90, direction)
    return part if abs(direction) < MIN_SKEW else _straightened(part, direction)


def _turned(part: _Part, degrees: int) -> _Part:
    """Returns a part turned clockwise by a number of quarter turns."""
    image = np.ascontiguousarray(np.rot90(part.image, -degrees // 90))
    turn = (part.turn + degrees) % 360
    return _Part(
        image=image, page=part.page, to_page=_after(part.to_page, _inverse(_turn(part.image.shape, degrees))), turn=turn
    )


def _straightened(part: _Part, direction: float) -> _Part:
    """Returns a part turned so that lines of this direction, in degrees, are level. What lies outside is white."""
    height, width = part.image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), direction, 1.0)
    cosine, sine = np.abs(matrix[0, :2])
    size = (int(width * cosine + height * sine), int(width * sine + height * cosine))
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    image = cv2.warpAffine(part.image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=255)
    return _Part(
        image=np.asarray(image, np.uint8),
        page=part.page,
        to_page=_after(part.to_page, _inverse(np.asarray(matrix))),
        turn=part.turn,
    )


def _cropped(part: _Part, rectangle: Rectangle) -> _Part:
    """Returns the part of a part within a rectangle of pixels."""
    x0, y0, x1, y1 = rectangle
    shift = np.array([[1.0, 0.0, x0], [0.0, 1.0, y0]])
    image = np.ascontiguousarray(part.image[y0:y1, x0:x1])
    return _Part(image=image, page=part.page, to_page=_after(part.to_page, shift), turn=part.turn)


def _placed(part: _Part, system: FoundSystem) -> PlacedSystem:
    """Returns a system of a part with its place on the page."""
    on_page = _after(_turn(part.page, part.turn), part.to_page)
    width = part.page[1] if part.turn in (0, 180) else part.page[0]
    scale = part.image.shape[1] / width
    staves = tuple(_moved(staff, on_page, part.image.shape[1], width) for staff in system.staves)
    box = _moved(system.box, on_page, part.image.shape[1], width)
    return PlacedSystem(
        image=part.image,
        found=system,
        turn=part.turn,
        box=box,
        staves=staves,
        staff_space=system.staff_space * scale,
    )


def _moved(box: Box, matrix: Matrix, from_width: int, to_width: int) -> Box:
    """Returns a box of an image, moved by a map of pixels: its ends by the map, its height kept, at mid-length."""
    middle, reach = (box.y0 + box.y1) / 2, (box.y1 - box.y0) / 2 * from_width
    ends = np.array([[box.x0, middle, 1 / from_width], [box.x1, middle, 1 / from_width]]) * from_width @ matrix.T
    row = float(ends[:, 1].mean())
    return Box(
        x0=float(ends[0, 0]) / to_width,
        y0=(row - reach) / to_width,
        x1=float(ends[1, 0]) / to_width,
        y1=(row + reach) / to_width,
    )


def _turn(shape: tuple[int, ...], degrees: int) -> Matrix:
    """Returns the map from the pixels of an image (h, w) to those of the image turned clockwise by `degrees`."""
    height, width = shape
    maps = {
        0: [[1, 0, 0], [0, 1, 0]],
        90: [[0, -1, height - 1], [1, 0, 0]],
        180: [[-1, 0, width - 1], [0, -1, height - 1]],
        270: [[0, 1, 0], [-1, 0, width - 1]],
    }
    return np.array(maps[degrees], np.float64)


def _after(second: Matrix, first: Matrix) -> Matrix:
    """Returns the map that does what `first` does, then what `second` does."""
    return np.asarray(second @ np.vstack([first, [0.0, 0.0, 1.0]]))


def _inverse(matrix: Matrix) -> Matrix:
    """Returns the map that undoes another."""
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)
