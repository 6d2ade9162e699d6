"""Leaves: pages as they were read, each with its image or the reason why it has none."""

from dataclasses import dataclass

from engine.score.levels import Grey

MIN_SIDE_PX = 16
"""Shortest side of a page, in px: a smaller image is a thumbnail or damaged."""
MAX_RATIO = 20
"""Largest height of a page as a multiple of its width, and largest width as a multiple of its height."""

SIDE_PX = 1800
"""Length of the shorter side to which pages are reduced or rendered. Staff lines are 2 px thick, on a spread too."""
MAX_WIDTH_PX = 3600
"""Largest width to which pages are reduced or rendered."""
MAX_HEIGHT_PX = 16_383
"""Largest height to which pages are reduced or rendered: that of a WebP. OpenCV samples images of up to 32,766 px a
side, so a page of this height can be doubled. Such a page is 819 px wide at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A page as it was read."""

    image: Grey | None = None
    """Image of the page; None if the page could not be read."""
    fault: str = ""
    """What is wrong with the page; empty if nothing is."""


def misshapen(width: float, height: float) -> bool:
    """Returns whether a page of this size is too narrow or too low for music."""
    return not (0 < height <= MAX_RATIO * width and 0 < width <= MAX_RATIO * height)


def page_scale(width: float, height: float) -> float:
    """Returns the scale at which a page of this size has the resolution that detection needs."""
    highest = MAX_HEIGHT_PX - 0.25  # heights are rounded, those of a PDF up
    return min(SIDE_PX / min(width, height), MAX_WIDTH_PX / width, highest / height)
