"""Staves -> whether they stand on their heads: clefs are at the left end of staves that stand upright."""

from functools import cache
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.levels import Grey
from engine.score.staves import Staff

PX = 4
"""Pixels a staff space of a staff's end when it is compared with clefs."""
INSIDE, OUTSIDE, ABOVE = 6, 1.5, 4.5
"""Extent of a staff's end, in staff spaces: along the staff from its end, beyond its end, and on both sides of its
middle line."""
CLEFS = "clefs.png"
"""The mean bass clef and the mean treble clef at the left ends of 373 staves of printed rags, side by side: grey
levels, PX a staff space, four staff spaces on both sides of the middle line."""
MIN_LEAD = 0.18
"""Smallest mean lead of the right end, in correlation, with which staves stand on their heads. On 151 scans of the
validation set, turned staves have 0.27 at least. Pages whose left edge is cut off have no clefs at either end, and 0.12
at most: they stay as they lie."""


def upside_down(page: Grey, staves: list[Staff]) -> bool:
    """Returns whether staves stand on their heads, so that their right ends, turned, look more like clefs.

    page: uint8 (h, w), white 255. staves: in pixels of the page.
    """
    return bool(staves) and lead_of_right_ends(page, staves) > MIN_LEAD


def has_clefs(page: Grey, staves: list[Staff]) -> bool:
    """Returns whether one end of the staves looks more like clefs than the other end."""
    return bool(staves) and abs(lead_of_right_ends(page, staves)) > MIN_LEAD


def lead_of_right_ends(page: Grey, staves: list[Staff]) -> float:
    """Returns how much more like clefs the right ends look than the left ends, as a mean difference of correlations."""
    leads = [_clef_likeness(_end(page, staff, -1)) - _clef_likeness(_end(page, staff, 1)) for staff in staves]
    return float(np.mean(leads))


def _end(page: Grey, staff: Staff, way: int) -> Grey:
    """Returns the left end of a staff (`way` 1), or its right end turned by 180 degrees (`way` -1), at PX a space."""
    along = (np.arange(-OUTSIDE * PX, INSIDE * PX) + 0.5) / PX * staff.space * way
    columns = (staff.x0 if way == 1 else staff.x1) + along
    rows = (np.arange(-ABOVE * PX, ABOVE * PX) + 0.5) / PX * staff.space * way
    map_y = staff.rows(columns)[None, :] + rows[:, None]
    x0, x1 = max(0, int(columns.min()) - PX), int(columns.max()) + PX
    y0, y1 = max(0, int(map_y.min()) - PX), int(map_y.max()) + PX
    part = page[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    side = max(1, round(staff.space / PX))
    map_x = np.broadcast_to(columns - x0, map_y.shape).astype(np.float32)
    end = cv2.remap(
        cv2.blur(part, (side, side)),
        map_x,
        (map_y - y0).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=255,
    )
    return np.asarray(end, dtype=np.uint8)


def _clef_likeness(end: Grey) -> float:
    """Returns the largest correlation of a staff's end with a clef.

    The mean of each row and of each column is taken away first. Otherwise the staff lines, which both have, correlate:
    any end would look like a clef at 0.6, where clefs do at 0.8. So it is 0.3 and 0.6.
    """
    clefs = np.stack(_clefs())
    windows = np.lib.stride_tricks.sliding_window_view(end, clefs.shape[1:])
    centred, wanted = (_centred(images).reshape(-1, clefs[0].size) for images in (windows, clefs))
    lengths = np.linalg.norm(centred, axis=1)[:, None] * np.linalg.norm(wanted, axis=1)
    return float((centred @ wanted.T / np.maximum(lengths, 1.0)).max())


def _centred(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns images, (..., rows, columns), without the mean of each row and of each column."""
    values = images.astype(np.float32)
    values -= values.mean(axis=-1, keepdims=True)
    values -= values.mean(axis=-2, keepdims=True)
    return values


@cache
def _clefs() -> tuple[Grey, Grey]:
    """Returns the mean bass clef and the mean treble clef, uint8."""
    data = np.frombuffer(files("engine.score").joinpath(CLEFS).read_bytes(), np.uint8)
    both = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
    bass, treble = np.hsplit(both, 2)
    return np.ascontiguousarray(bass), np.ascontiguousarray(treble)
