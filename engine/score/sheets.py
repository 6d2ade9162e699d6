"""Staves of a sheet -> the pages that lie on it, side by side or in rows: no staff crosses the gutter between them."""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.courses import BETWEEN, LINES
from engine.score.ink import bar
from engine.score.levels import Grey
from engine.score.lines import Floats
from engine.score.staves import Staff

Rectangle = tuple[int, int, int, int]
"""A rectangle of pixels: left, top, right, bottom."""
Span = tuple[float, float]
"""Start and stop of a stretch of columns or rows, in px."""

MIN_STEP_GREY = 40
"""Smallest difference in grey levels between a line and the paper beside it. In the shadow between two pages, all is
dark."""
MIN_LINES = 2
"""Smallest number of the five lines that are seen in a column where a staff runs."""
MAX_CROSSING = 0.1
"""Largest share of staves that cross a gutter: a line of a picture, or two lines of text, may look like a staff."""
MIN_GUTTER = 1.5
"""Smallest width of a gutter, in staff spaces: two pages without margins, side by side."""
MIN_LENGTH = 45
"""Smallest length of the longest staff of a page, in staff spaces. Lists of themes and critical notes have shorter
staves, often in columns."""
MIN_HEIGHT = 1.9
"""Height, relative to its width, from which a column of a sheet holds pages above each other."""
MIDDLE = (0.3, 0.7)
"""The stretch of a sheet's height in which the gutter between two rows of pages lies."""


def pages_on_sheet(staves: list[Staff], sheet: Grey) -> list[Rectangle]:
    """Returns the pages on a sheet in reading order: row by row, each from left to right.

    staves: in px of the sheet. sheet: uint8 (h, w), white 255.
    """
    height, width = sheet.shape
    columns = _columns(staves, sheet)
    if len(columns) < 2:
        return [(0, 0, width, height)]
    rows = _rows(staves, height) if height >= MIN_HEIGHT * width / len(columns) else [(0, height)]
    return [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]


def _columns(staves: list[Staff], sheet: Grey) -> list[tuple[int, int]]:
    """Returns the columns of pages on a sheet, left to right, in px. They fill the width."""
    width = sheet.shape[1]
    spans = [span for staff in staves for span in _spans(staff, sheet)]
    if not spans:
        return [(0, width)]
    space = float(np.median([staff.space for staff in staves]))
    crossing = _covering(spans, width)
    empty = crossing <= MAX_CROSSING * len(staves)
    cuts = [0]
    for start, stop in _stretches(empty):
        inside = start > 0 and stop < width
        if inside and stop - start >= MIN_GUTTER * space and _is_page(spans, (cuts[-1], start), space):
            cuts.append((start + stop) // 2)
    if len(cuts) > 1 and not _is_page(spans, (cuts[-1], width), space):
        cuts.pop()
    return list(pairwise([*cuts, width]))


def _rows(staves: list[Staff], height: int) -> list[tuple[int, int]]:
    """Returns the two rows of pages on a high sheet, parted where the most room is without staves."""
    reach = [(staff.y - 2 * staff.space, staff.y + 2 * staff.space) for staff in staves]
    empty = _covering(reach, height) == 0
    gaps = [(start, stop) for start, stop in _stretches(empty) if start > 0 and stop < height]
    near = [gap for gap in gaps if MIDDLE[0] * height < sum(gap) / 2 < MIDDLE[1] * height]
    if not near:
        return [(0, height)]
    start, stop = max(near, key=lambda gap: gap[1] - gap[0])
    return [(0, (start + stop) // 2), ((start + stop) // 2, height)]


def _spans(staff: Staff, sheet: Grey) -> list[Span]:
    """Returns the stretches of columns in which a staff's lines are seen, with no gutter between.

    Detection takes the staves of two pages at the same height for one staff, so the page image tells.
    """
    columns = np.arange(staff.x0, staff.x1, dtype=np.float32)
    top, bottom = int(staff.ys.min() - 3 * staff.space), int(staff.ys.max() + 3 * staff.space) + 1
    top, bottom = max(top, 0), min(bottom, sheet.shape[0])
    if len(columns) == 0 or top >= bottom:
        return []
    middle, band = staff.rows(columns) - np.float32(top), sheet[top:bottom]

    def sample(image: Grey, places: Floats) -> NDArray[np.int16]:
        map_y = middle + places[:, None] * np.float32(staff.space)
        map_x = np.ascontiguousarray(np.broadcast_to(columns, map_y.shape))
        values = cv2.remap(image, map_x, map_y.astype(np.float32), cv2.INTER_NEAREST, borderValue=255)
        return np.asarray(values, dtype=np.int16)

    lines = sample(np.asarray(cv2.erode(band, bar(1, 3)), np.uint8), LINES)
    paper = sample(np.asarray(cv2.dilate(band, bar(1, 3)), np.uint8), BETWEEN)
    steps = np.maximum(paper[[0, 0, 1, 2, 3]], paper[[0, 1, 2, 3, 3]]) - lines
    seen = np.flatnonzero((steps >= MIN_STEP_GREY).sum(axis=0) >= MIN_LINES)
    parts = np.split(seen, np.flatnonzero(np.diff(seen) >= MIN_GUTTER * staff.space) + 1)
    return [(float(columns[part[0]]), float(columns[part[-1]])) for part in parts if len(part)]


def _covering(spans: list[Span], length: int) -> NDArray[np.int64]:
    """Returns how many spans cover each pixel, int64 (length,)."""
    change = np.zeros(length + 1, np.int64)
    for start, stop in spans:
        change[int(np.clip(start, 0, length))] += 1
        change[int(np.clip(stop + 1, 0, length))] -= 1
    return np.cumsum(change)[:-1]


def _stretches(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Returns start and stop of each stretch of set flags."""
    edges = np.flatnonzero(np.diff(np.pad(flags.astype(np.int8), 1)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _is_page(spans: list[Span], column: Span, space: float) -> bool:
    """Returns whether a column has staves as long as those of a page of music."""
    lengths = [stop - start for start, stop in spans if column[0] <= (start + stop) / 2 <= column[1]]
    return len(lengths) > 1 and max(lengths) >= MIN_LENGTH * space
