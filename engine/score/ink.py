"""Page image -> ink: black and white, resized so that a staff space is about ten pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.score.levels import Grey
from engine.score.rejection import Reject, Rejection, ignore
from engine.values import Box

WORKING_SPACE_PX = 10.0
"""Staff space of a resized page, in px. The later stages thus do not depend on the page's resolution."""
MIN_SPACE_PX, MAX_SPACE_PX = 7.5, 14.0
"""Smallest and largest staff space with which a page keeps its size, in px: resampling blurs thin lines."""
MIN_WIDTH_PX = 1200
"""Width below which a page is doubled before its staff space is measured: lines of small pages run together."""
MAX_BREADTH = 1.1
"""Largest width of a page, relative to its height. What is broader is two pages, or a page on a screen."""
BREADTH = 0.7
"""Width of a page on such a sheet, relative to the sheet's height."""
DARK_GREY = 110
"""Grey level below which a pixel is ink, whatever its neighbours."""
MIN_STEP_GREY = 40
"""Smallest difference in grey levels between a thin line and the paper on both sides. A thin line with this difference
is ink even if it is paler than DARK_GREY."""
MIN_RUNS = 100
"""Smallest number of black runs down the columns of a page. A page with fewer is blank."""
MIN_LINE_DISTANCE_PX = 4
"""Smallest distance of two staff lines, in px. Closer lines are a printer's screen or noise."""
MIN_PAGE_WIDTH, MAX_PAGE_WIDTH = 12, 250
"""Smallest and largest width of a page, in staff spaces. They limit the distance of two lines that is searched for."""
MIN_LARGEST_DISTANCE_PX = 40
"""Smallest upper limit of that distance, in px, for narrow pages, where a twelfth of the width would be less."""

MAX_SIDE_PX = 32_766
"""Longest side to which a page is enlarged, in px: OpenCV samples no image with a longer side."""
MAX_SPECKLED = 0.01
"""Largest share of ink that is single pixels. A page with more is a photograph in bad light, and is blurred first: its
noise would look like lines that join staves. Scans have 0.003 at most."""
BLUR_PX = 1.2
"""Standard deviation of that blur, in px."""
SOLID_SIZE = 3.0
"""Side of a square, in staff spaces, that is no ink of music if most of it is dark: a table, a cover, a wide shadow."""
MIN_SOLID = 0.9
"""Smallest dark share of such a square. Four beams with the notes between them have 0.7."""
SOLID_MARGIN = 0.5
"""Margin round such squares that is left out too, in staff spaces: their edges are ragged."""
STEP = 3
"""Distance of the columns down which runs of ink are measured, in px."""
COARSE = 4
"""Number of pixels to a side that are taken together where such squares are sought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ink:
    """The ink of a page, as images with 0 for paper and 1 for ink."""

    pixels: Grey
    """Ink at the working size, uint8 (h, w)."""
    sharp: Grey
    """Ink at the page's own size if `pixels` is reduced, because reduced letters run together; otherwise `pixels`."""
    space: float
    """Commonest staff space, in px of `pixels`."""
    scale: float
    """Size of `pixels`, relative to the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Runs of ink down the columns of a page. All arrays are int64 (n,), in px."""

    lengths: NDArray[np.int64]
    to_next: NDArray[np.int64]
    """Distance from the start of a run to that of the next run, which may lie in the next column."""
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


def page_ink(page: Grey, reject: Reject = ignore, *, fine: bool = False) -> Ink | None:
    """Returns the ink of a page at the working size, or None if the page shows no staff space.

    page: uint8 (h, w), white 255, grey levels normalised. fine: whether the page is doubled whatever its width.
    """
    largest = MAX_SIDE_PX / max(page.shape)
    enlarged = min(2.0 if fine or page_width(page) < MIN_WIDTH_PX else 1.0, largest)
    own = binarise(resize(page, enlarged))
    if speckled(own):
        page = np.asarray(cv2.GaussianBlur(page, (0, 0), BLUR_PX), dtype=np.uint8)
        own = binarise(resize(page, enlarged))
    enlarged_space = staff_space(own, reject)
    if enlarged_space is None:
        return None
    space = enlarged_space / enlarged
    scale = min(1.0 if MIN_SPACE_PX <= space <= MAX_SPACE_PX else WORKING_SPACE_PX / space, largest)
    pixels = own if scale == enlarged else binarise(resize(page, scale))
    sharp = own if scale < 1 else pixels
    return Ink(pixels=without_solids(pixels, space * scale), sharp=sharp, space=space * scale, scale=scale)


def speckled(pixels: Grey) -> bool:
    """Returns whether much of the ink is single pixels, without ink above, below, left or right."""
    inside = pixels[1:-1, 1:-1]
    beside = pixels[:-2, 1:-1] | pixels[2:, 1:-1] | pixels[1:-1, :-2] | pixels[1:-1, 2:]
    single = np.count_nonzero(inside > beside)
    return bool(single > MAX_SPECKLED * np.count_nonzero(inside))


def without_solids(pixels: Grey, space: float) -> Grey:
    """Returns the ink without large dark areas, which would look like lines that join staves.

    space: staff space in px.
    """
    height, width = pixels.shape
    coarse = (max(1, width // COARSE), max(1, height // COARSE))
    shares = cv2.resize(pixels * 255, coarse, interpolation=cv2.INTER_AREA)
    side = SOLID_SIZE * space / COARSE
    dark = cv2.blur(shares, (round(side), round(side))) >= MIN_SOLID * 255
    if not dark.any():
        return pixels
    reach = side + 2 * SOLID_MARGIN * space / COARSE
    solid = cv2.dilate(dark.astype(np.uint8), bar(reach, reach))
    return np.where(cv2.resize(solid, (width, height), interpolation=cv2.INTER_NEAREST) > 0, 0, pixels)


def page_width(page: Grey) -> float:
    """Returns the width of a page in px, without what lies beside the page on a broad sheet."""
    height, width = page.shape
    return float(width if width <= MAX_BREADTH * height else BREADTH * height)


def resize(page: Grey, scale: float) -> Grey:
    """Returns the page at another size, averaged if smaller, interpolated if larger."""
    if scale == 1:
        return page
    size = (max(1, round(page.shape[1] * scale)), max(1, round(page.shape[0] * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(page, size, interpolation=interpolation), dtype=np.uint8)


def binarise(page: Grey) -> Grey:
    """Returns a page as ink (1) and paper (0).

    Ink is dark, or thin and darker than both sides, like the lines of small images.
    """
    thin = cv2.morphologyEx(page, cv2.MORPH_BLACKHAT, bar(5, 5))
    return ((page < DARK_GREY) | (thin > MIN_STEP_GREY)).astype(np.uint8)


def staff_space(pixels: Grey, reject: Reject = ignore) -> float | None:
    """Returns the commonest distance of two lines, in px; None if there is too little ink.

    The distance is the mode of the length of a black run and the next white run together, down the columns.

    Source: Cardoso & Rebelo, Robust staffline thickness and distance estimation (ICPR 2010).
    """
    height, width = pixels.shape
    page = Box(x0=0.0, y0=0.0, x1=1.0, y1=height / width)
    black_runs = runs(pixels)
    if len(black_runs.lengths) < MIN_RUNS:
        reject(_rejection("black runs below MIN_RUNS", len(black_runs.lengths), MIN_RUNS, page))
        return None
    black, pair = black_runs.lengths, black_runs.to_next
    smallest = max(MIN_LINE_DISTANCE_PX, round(page_width(pixels) / MAX_PAGE_WIDTH))
    largest = max(MIN_LARGEST_DISTANCE_PX, width // MIN_PAGE_WIDTH)
    counts = np.bincount(pair[(2 * black < pair) & (pair < largest)], minlength=largest).astype(float)
    counts[:smallest] = 0
    smooth = np.convolve(counts, [0.5, 1.0, 0.5], "same")
    mode = int(np.argmax(smooth))
    if not smooth[mode]:
        reject(_rejection("pairs of runs as far apart as lines", 0, 1, page))
        return None
    near = slice(max(mode - 1, 0), mode + 2)
    return float(np.average(np.arange(largest)[near], weights=counts[near] + 1e-9))


def runs(pixels: Grey) -> Runs:
    """Returns the runs of ink down every third column of a page, but for the last run."""
    columns = np.pad(pixels[:, ::STEP].T, ((0, 0), (1, 1)))
    edges = np.flatnonzero(np.diff(columns.ravel().view(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    return Runs(
        lengths=(ends - starts)[:-1],
        to_next=np.diff(starts),
        rows=starts[:-1] % columns.shape[1],
        columns=starts[:-1] // columns.shape[1] * STEP,
    )


def bar(width: float, height: float) -> NDArray[np.uint8]:
    """Returns a rectangular kernel with the nearest odd sizes: a kernel of even size makes OpenCV shift the image."""
    return np.ones((2 * round((height - 1) / 2) + 1, 2 * round((width - 1) / 2) + 1), np.uint8)


def _rejection(reason: str, measured: int, threshold: int, page: Box) -> Rejection:
    """Returns the rejection of a whole page."""
    return Rejection(stage="ink", reason=reason, measured=measured, threshold=threshold, box=page)
