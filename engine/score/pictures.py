"""Which image files are no pages: covers, by their names, and icons and thumbnails, by their sizes."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

ICON_PX = 64
"""Longest side, in px, below which an image is an icon."""
THUMBNAIL_PX = 400
"""Longest side, in px, below which an image may be a thumbnail. A page of A4 would have a staff space of 2.4 px."""
THUMBNAIL_RATIO = 3
"""Smallest ratio of the longest image of the folder to a thumbnail."""

_WHAT = r"cover|cover[ _-]?art|folder|album[ _-]?art|artwork|thumb|thumbnail|favicon|icon|logo|poster|fanart|backdrop"
_VARIANT = r"(?:[ _.-]*(?:small|medium|large|front|back|art|\d++(?:x\d++)?|\(\d+\)|\{[^}]*\}))*"
"""What follows such a word. Digits are matched as a whole: where they may be split, time doubles with each digit."""
_COVER = re.compile(
    rf"(?:{_WHAT}){_VARIANT}|.*[ _.-](?:cover|thumb|thumbnail|tn)|tn_.*|apple-touch-icon.*", re.IGNORECASE
)
"""Stems of the pictures that music players, cameras and web sites put beside music and scans."""


def among(images: Iterable[Path]) -> set[Path]:
    """Returns those of the image files of one folder that are no pages.

    An image whose size cannot be read counts as a page: its error is reported when it is read.
    """
    images = list(images)
    covers = {path for path in images if _COVER.fullmatch(path.stem)}
    sides = {path: side for path in images if path not in covers and (side := _longest_side(path))}
    largest = max(sides.values(), default=0)
    small = {path for path, side in sides.items() if side < THUMBNAIL_PX and side * THUMBNAIL_RATIO < largest}
    return covers | small | {path for path, side in sides.items() if side < ICON_PX}


def _longest_side(path: Path) -> int:
    """Returns the longest side of an image in px, from its header; 0 if the header cannot be read."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            return max(image.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0
