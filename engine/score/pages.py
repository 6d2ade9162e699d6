"""PDF, image file or folder of images -> page images in grey, one at a time."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.config import GENEROUS, MediaLimits
from engine.errors import PageError
from engine.score import pictures
from engine.score.images import grey, image_pages
from engine.score.leaf import MIN_SIDE_PX, Leaf
from engine.score.levels import Grey, dark_on_light, normalise_grey
from engine.score.pdf import pdf_pages

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    (
        ".png .jpg .jpeg .jpe .jfif .tif .tiff .webp .jp2 .j2k .jpf .jpx .jpm .heic .heif .hif .avif .bmp .gif .pbm"
        " .pgm .ppm .pnm"
    ).split()
)
"""Suffixes of image files."""
SUFFIXES = IMAGE_SUFFIXES | {".pdf"}
"""Suffixes of score files. A folder of image files is a score too."""

Progress = Callable[[int, int], None]
"""A function that receives the number of pages that are finished, and the number of all pages of the document."""


def read_pages(path: Path | str, limits: MediaLimits = GENEROUS) -> Iterator[Grey]:
    """Yields the pages of a score in order, each uint8 (h, w), white 255, grey levels normalised.

    Arguments, order and errors are those of `numbered_pages`.
    """
    return (page for _, page in numbered_pages(path, limits))


def numbered_pages(
    path: Path | str, limits: MediaLimits = GENEROUS, progress: Progress | None = None
) -> Iterator[tuple[int, Grey]]:
    """Yields the number of each page of a score, from 1, and the page, uint8 (h, w), white 255, levels normalised.

    Each page is read when the caller takes it. A page that cannot be read, or is no page, is passed over with a
    warning; the other pages keep their numbers.

    path: a PDF, an image with one or more pages, or a folder of images, read in natural order.
    progress: is called when the caller has finished with a page.
    Raises PageError, which names file and cause, if no page can be read, or there are more pages than `limits` allow.
    """
    fault: PageError | None = None
    readable = 0
    for number, total, file, leaf in _numbered(Path(path), limits):
        if leaf.image is None:
            fault = fault or PageError(file, leaf.fault)
            if total > 1:  # otherwise the error below says it
                logger.warning("%s: page %d is passed over: %s", file, number, leaf.fault)
            continue
        if leaf.fault:
            logger.warning("%s: page %d: %s", file, number, leaf.fault)
        readable += 1
        yield number, levelled(leaf.image)
        if progress is not None:
            progress(number, total)
    if not readable:
        raise fault or PageError(path, "has no pages")


def pages_of(images: Iterable[NDArray[np.uint8]]) -> Iterator[Grey]:
    """Yields the pages of a score in memory, each uint8 (h, w), white 255, grey levels normalised.

    images: uint8 (height, width), or (height, width, 3) in RGB.
    Raises PageError if an array is no page.
    """
    for image in images:
        is_page = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
        if image.dtype != np.uint8 or not is_page or min(image.shape[:2]) < MIN_SIDE_PX:
            expected = f"uint8 (height, width) or (height, width, 3) of at least {MIN_SIDE_PX} px a side"
            raise PageError("page image", f"expected {expected}, got {image.dtype} {image.shape}")
        yield levelled(grey(Image.fromarray(image)))


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Returns a sorting key by which page2 comes before page10."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def levelled(page: Grey) -> Grey:
    """Returns a page with dark ink on white paper."""
    return normalise_grey(dark_on_light(page))


def _numbered(path: Path, limits: MediaLimits) -> Iterator[tuple[int, int, Path, Leaf]]:
    """Yields the number of each page of a score, the number of all its pages, the page's file, and the page.

    Raises PageError if the score has more pages than `limits` allow, or its only file cannot be read.
    """
    if not path.exists():
        raise PageError(path, "no such file or folder")
    number = 0
    for total, file, leaf in _leaves(path, limits.pixels):
        if not leaf.is_page:
            logger.info("%s: passed over: %s", file, leaf.fault)
            continue
        if number == limits.pages:
            raise PageError(path, f"more than {limits.pages} pages, the largest number accepted")
        number += 1
        yield number, total, file, leaf


def _leaves(path: Path, max_pixels: int) -> Iterator[tuple[int, Path, Leaf]]:
    """Yields the number of pages of a score, and each leaf with its file.

    Raises PageError if the only file cannot be read. A file of a folder that cannot be read is a leaf without image.
    """
    files = page_files(path)
    for file in files:
        try:
            for total, leaf in pdf_pages(file) if is_pdf(file) else image_pages(file, max_pixels):
                yield max(total, len(files)), file, leaf
        except PageError as exc:
            if len(files) == 1:
                raise
            yield len(files), file, Leaf(fault=exc.cause)


def page_files(path: Path) -> list[Path]:
    """Returns the file `path`, or the image files of the folder `path` in natural order."""
    if not path.is_dir():
        return [path]
    visible = [f for f in path.iterdir() if f.is_file() and not f.name.startswith(".")]
    images = {f for f in visible if f.suffix.lower() in IMAGE_SUFFIXES}
    files = images - pictures.among(images)
    if not files:
        raise PageError(path, f"expected page images ({' '.join(sorted(IMAGE_SUFFIXES))}) in this folder, found none")
    return sorted(files, key=natural_order)


def is_pdf(file: Path) -> bool:
    """Returns whether a file is a PDF, judged by its content. Raises PageError if the file is empty or unreadable."""
    try:
        with file.open("rb") as stream:
            start = stream.read(1024)
    except OSError as exc:
        raise PageError(file, f"cannot be opened: {exc.strerror}") from exc
    if not start:
        raise PageError(file, "empty file")
    return b"%PDF-" in start
