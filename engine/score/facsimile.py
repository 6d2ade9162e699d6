"""A page of a score as a picture for people: as it lies in its file, black on white, as large as it is looked at."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from engine.config import GENEROUS, MediaLimits
from engine.errors import PageError
from engine.score import pages, tiff
from engine.score.images import image_pages, image_size, page_indexes
from engine.score.levels import Grey
from engine.score.pdf import pdf_sizes

MAX_SIDE_PX = 16_383
"""Longest side of a WebP."""
QUALITY = 80
"""Quality of the WebP: a scan of 1,200 px takes 60 to 200 kB, and staff lines stay clear."""
TYPE = "image/webp"
_TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
"""Pillow turns counter-clockwise."""


def page_picture(path: Path, number: int, *, turn: int = 0, width: int = 1200, limits: MediaLimits = GENEROUS) -> bytes:
    """Returns a page of a score as a WebP.

    path: a PDF, an image with one or more pages, or a folder of images. number: of the page, from 1, as
        `engine.score.pages.numbered_pages` counts.
    turn: degrees by which the page is turned clockwise. width: of the picture in px, at most.
    Raises PageError, which names file and cause, if there is no such page or it cannot be read.
    """
    return encoded(pages.read_page(path, number, limits), turn=turn, width=width)


def page_sizes(path: Path, limits: MediaLimits = GENEROUS) -> dict[int, tuple[int, int]]:
    """Returns the width and height in px of the pages of a score as they are read, by their numbers.

    Pages are decoded in TIFFs alone. A page that is known not to be readable is left out.
    Raises PageError if the file cannot be read, or has more pages than `limits` allow.
    """
    found: dict[int, tuple[int, int]] = {}
    for number, size in enumerate(_sizes(path, limits), start=1):
        if number > limits.pages:
            raise PageError(path, f"more than {limits.pages} pages, the largest number accepted")
        if size is not None:
            found[number] = size
    return found


def picture_size(picture: bytes) -> tuple[int, int]:
    """Returns the width and height in px of a picture that `encoded` made. Raises PageError if it made none.

    Only the header is read, which no decoder is needed for.
    """
    if picture[:4] != b"RIFF" or picture[8:16] != b"WEBPVP8 " or picture[23:26] != b"\x9d\x01\x2a":
        raise PageError("picture of a page", "expected a lossy WebP")
    width, height = struct.unpack_from("<HH", picture, 26)
    return width & 0x3FFF, height & 0x3FFF


def redrawn(picture: bytes, *, turn: int, width: int) -> bytes:
    """Returns a picture of a page turned and made smaller. Arguments are those of `page_picture`."""
    with Image.open(io.BytesIO(picture), formats=("WEBP",)) as opened:
        return encoded(np.asarray(opened.convert("L")), turn=turn, width=width)


def encoded(page: Grey, *, turn: int = 0, width: int = 1200) -> bytes:
    """Returns a page as a WebP. page: uint8 (h, w). turn, width: those of `page_picture`.

    A picture that would be higher than MAX_SIDE_PX is less wide.
    """
    image = Image.fromarray(page)
    if turn:
        image = image.transpose(_TURNS[turn])
    width = min(width, max(1, MAX_SIDE_PX * image.width // image.height))
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    image.save(written, "WEBP", quality=QUALITY, method=2)
    return written.getvalue()


def _sizes(path: Path, limits: MediaLimits) -> Iterator[tuple[int, int] | None]:
    """Yields the size of each page; None for one that is not readable."""
    for file in pages.page_files(path):
        if pages.is_pdf(file):
            yield from pdf_sizes(file)
        elif not tiff.is_tiff(file):
            yield image_size(file)
        else:
            leaves = image_pages(file, page_indexes(file), limits.pixels)
            yield from (None if leaf.image is None else (leaf.image.shape[1], leaf.image.shape[0]) for leaf in leaves)
