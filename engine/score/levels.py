"""Pixels of any kind -> grey levels of a page: numbers scaled to 0..255, dark ink on light paper, full contrast."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
"""Grey image, uint8 (h, w)."""

MIN_CONTRAST = 64
"""Smallest difference in grey levels between paper and ink that is stretched to 255. Fainter marks stay faint."""

USUAL_SHARE = 99.9
"""Percentile of the values of an image above which values count as outliers."""
MAX_OUTLYING = 1.5
"""Largest multiple of that percentile that still counts as white. A hot pixel of a 12-bit scan has 16 times as much."""

TILE_PX = 20
"""Side of the tiles of a page 600 px wide in which the ground of the writing is judged: two or three staff spaces."""
MIN_RANGE = 32
"""Smallest range of grey levels of a page that has writing."""
MIN_TILE_RANGE = 0.4
"""Smallest range of grey levels of a tile with writing, as a share of the range of the page."""
MIN_DARK_GROUND = 0.6
"""Share of the tiles with writing that are mostly dark, from which a page is a negative. Of 480 scanned pages, no
positive reaches 0.1, or 0.5 with a rough black border round it, and no negative of a page with music is below 0.7."""


def scaled(values: NDArray[Any]) -> Grey:
    """Returns the values of an image with one number a pixel in grey: the least is black, the greatest white.

    values: (h, w) of integers or floats. Outliers become white or black. Values that are no numbers become the median,
    which is the paper.
    """
    numbers = np.asarray(values, dtype=np.float32)
    finite = np.isfinite(numbers)
    if not finite.all():
        low, middle, high = np.percentile(numbers[finite], (0, 50, 100)) if finite.any() else (0.0, 0.0, 0.0)
        numbers = np.nan_to_num(numbers, nan=float(middle), posinf=float(high), neginf=float(low))
    black, white = min(0.0, -_extreme(-numbers)), _extreme(numbers)
    levels = (numbers - black) * (255.0 / ((white - black) or 1.0))
    return np.asarray(np.clip(levels, 0, 255), dtype=np.uint8)


def _extreme(numbers: NDArray[np.float32]) -> float:
    """Returns the greatest number, or the usual greatest one if the greatest is an outlier."""
    greatest, usual = float(numbers.max()), float(np.percentile(numbers, USUAL_SHARE))
    return usual if 0 < MAX_OUTLYING * usual < greatest else greatest


def dark_on_light(page: Grey) -> Grey:
    """Returns the page with dark ink on light paper: inverted if it is a negative, else the page itself.

    The ground is judged only where there is writing. Black borders of photocopies and dark tables around a photograph
    therefore do not count, however large they are.
    """
    return np.asarray(255 - page, dtype=np.uint8) if _dark_ground(page) >= MIN_DARK_GROUND else page


def _dark_ground(page: Grey) -> float:
    """Returns the share of the tiles with writing that are mostly dark; 0 if no tile has writing."""
    width = 30 * TILE_PX
    height = max(TILE_PX, round(page.shape[0] * width / page.shape[1]))
    small = cv2.resize(page, (width, height), interpolation=cv2.INTER_AREA)
    rows = height // TILE_PX
    grid = small[: rows * TILE_PX].reshape(rows, TILE_PX, -1, TILE_PX)
    tiles = np.sort(grid.swapaxes(1, 2).reshape(-1, TILE_PX * TILE_PX), axis=1).astype(np.float32)
    last = TILE_PX * TILE_PX - 1
    low, middle, high = (tiles[:, round(share * last)] for share in (0.02, 0.5, 0.98))
    darkest, lightest = float(low.min()), float(high.max())
    if lightest - darkest < MIN_RANGE:
        return 0.0
    written = high - low > MIN_TILE_RANGE * (lightest - darkest)
    return float(np.mean(middle[written] < (low + high)[written] / 2)) if written.any() else 0.0


def normalise_grey(page: Grey) -> Grey:
    """Returns the page with paper at 255, whatever its shade and shadows, and ink at 0.

    page: uint8 (h, w). A page that is black on white already is returned unchanged.
    """
    paper = _paper(page)
    if int(paper.min()) == 255:
        flat = page
    else:
        flat = np.asarray(cv2.divide(page, paper, scale=255), dtype=np.uint8)
    ink = _ink_level(flat)
    if ink <= 2 and flat is page:
        return page
    white = 255 if flat is page else 240
    ink = min(ink, white - MIN_CONTRAST)
    levels = np.clip((np.arange(256) - ink) * (255.0 / (white - ink)), 0, 255)
    return np.asarray(cv2.LUT(flat, levels.astype(np.uint8)), dtype=np.uint8)


def _paper(page: Grey) -> Grey:
    """Returns the brightness of the paper round each pixel: the local maximum at a coarse scale, smoothed."""
    height, width = page.shape
    coarse = max(1, width // 150)
    size = (max(1, width // coarse), max(1, height // coarse))
    small = cv2.resize(page, size, interpolation=cv2.INTER_AREA)
    small = cv2.medianBlur(cv2.dilate(small, np.ones((7, 7), np.uint8)), 9)
    usual = int(np.median(small))
    smooth = cv2.GaussianBlur(np.maximum(small, max(usual // 2, MIN_CONTRAST)), (0, 0), 3)
    return np.asarray(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _ink_level(page: Grey) -> int:
    """Returns the grey level of solid ink: the lower quartile of the pixels that Otsu's threshold calls ink."""
    counts = np.bincount(page[::2, ::2].ravel(), minlength=256)
    threshold, _ = cv2.threshold(page[::2, ::2], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    dark = np.cumsum(counts[: int(threshold) + 1])
    return int(np.searchsorted(dark, dark[-1] * 0.25))
