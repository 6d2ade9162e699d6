"""PDF, image file or folder of images -> page images in grey, one at a time."""

import itertools
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.config import GENEROUS, MediaLimits
from engine.errors import PageError
from engine.score import pictures
from engine.score.images import grey, image_pages, page_indexes
from engine.score.leaf import MIN_SIDE_PX, Leaf
from engine.score.levels import Grey, dark_on_light, normalise_grey
from engine.score.pdf import pdf_count, pdf_pages

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

NaturalOrder = tuple[list[tuple[int, int, str]], str]
"""A sorting key: the numbers and words of a name, and the name."""

Progress = Callable[[int, int], None]
"""A function that receives the number of pages that are finished, and the number of all pages of the document."""


@dataclass(frozen=True, slots=True)
class PageAddress:
    """Where a page lies."""

    file: Path
    index: int
    """Index of the page among the pages of a PDF or the images of an image file, from 0."""


def read_pages(path: Path | str, limits: MediaLimits = GENEROUS) -> Iterator[Grey]:
    """Yields the pages of a score in order, each uint8 (h, w), white 255, grey levels normalised.

    Arguments, order and errors are those of `numbered_pages`.
    """
    return (page for _, page in numbered_pages(path, limits))


def page_addresses(path: Path | str, limits: MediaLimits = GENEROUS) -> list[PageAddress]:
    """Returns where the pages of a score lie, in order, without decoding them.

    path: a PDF, an image with one or more pages, or a folder of images, read in natural order. A file that cannot be
    read is one page.
    Raises PageError if there is nothing at the path, or there are more pages than `limits` allow.
    """
    path = Path(path)
    if not path.exists():
        raise PageError(path, "no such file or folder")
    found: list[PageAddress] = []
    for file in page_files(path):
        found += [PageAddress(file, index) for index in _indexes(file)]
        if len(found) > limits.pages:
            raise PageError(path, f"more than {limits.pages} pages, the largest number accepted")
    return found


def numbered_pages(
    path: Path | str, limits: MediaLimits = GENEROUS, progress: Progress | None = None
) -> Iterator[tuple[int, Grey]]:
    """Yields the number of each page of a score, from 1, and the page, uint8 (h, w), white 255, levels normalised.

    Each page is read when the caller takes it. A page that cannot be read, or is no page, is passed over with a
    warning; the other pages keep their numbers.

    path: that of `page_addresses`.
    progress: is called when the caller has finished with a page.
    Raises PageError, which names file and cause, if no page can be read, or there are more pages than `limits` allow.
    """
    addresses = page_addresses(path, limits)
    fault: PageError | None = None
    readable = 0
    total = len(addresses)
    for number, (address, leaf) in enumerate(_leaves(addresses, limits.pixels), start=1):
        if leaf.image is None and fault is None:
            fault = PageError(address.file, leaf.fault)
        if total > 1 or leaf.image is not None:  # otherwise the error below says it
            _warn(number, address, leaf)
        if leaf.image is not None:
            readable += 1
            yield number, levelled(leaf.image)
            if progress is not None:
                progress(number, total)
    if not readable:
        raise fault or PageError(path, "has no pages")


def pages_at(
    addresses: Iterable[PageAddress], first: int, limits: MediaLimits = GENEROUS
) -> Iterator[tuple[int, Grey]]:
    """Yields the number and the image of each of these neighbouring pages of a score that can be read.

    The others are passed over with a warning. first: number of the first of them.
    """
    for number, (address, leaf) in enumerate(_leaves(addresses, limits.pixels), start=first):
        _warn(number, address, leaf)
        if leaf.image is not None:
            yield number, levelled(leaf.image)


def read_page(path: Path, number: int, limits: MediaLimits = GENEROUS) -> Grey:
    """Returns one page of a score by its number, as `numbered_pages` counts. Raises PageError if it cannot be read."""
    addresses = page_addresses(path, limits)
    if not 0 < number <= len(addresses):
        raise PageError(path, f"has {len(addresses)} pages, and no page {number}")
    ((address, leaf),) = _leaves(addresses[number - 1 : number], limits.pixels)
    if leaf.image is None:
        raise PageError(address.file, leaf.fault)
    return levelled(leaf.image)


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


def natural_order(path: Path) -> NaturalOrder:
    """Returns a sorting key by which page2 comes before page10.

    Names that differ in case or leading zeros alone, such as page1 and Page01, are ordered as texts. Without that, the
    order of the set that is sorted would decide, and with it the content hash of a folder.
    """
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name


def levelled(page: Grey) -> Grey:
    """Returns a page with dark ink on white paper."""
    return normalise_grey(dark_on_light(page))


def _warn(number: int, address: PageAddress, leaf: Leaf) -> None:
    """Logs what is wrong with a page, if anything is."""
    if leaf.image is None:
        logger.warning("%s: page %d is passed over: %s", address.file, number, leaf.fault)
    elif leaf.fault:
        logger.warning("%s: page %d: %s", address.file, number, leaf.fault)


def _leaves(addresses: Iterable[PageAddress], max_pixels: int) -> Iterator[tuple[PageAddress, Leaf]]:
    """Yields each page. A page of a file that cannot be read is a leaf without image."""
    for file, group in itertools.groupby(addresses, key=lambda address: address.file):
        of_file = list(group)
        indexes, done = [address.index for address in of_file], 0
        try:
            for leaf in pdf_pages(file, indexes) if is_pdf(file) else image_pages(file, indexes, max_pixels):
                yield of_file[done], leaf
                done += 1
        except PageError as exc:
            yield from ((address, Leaf(fault=exc.cause)) for address in of_file[done:])


def _indexes(file: Path) -> list[int]:
    """Returns the indexes of the pages in a file; one if the file cannot be read, which reading the page then tells."""
    try:
        return list(range(pdf_count(file))) if is_pdf(file) else page_indexes(file)
    except PageError:
        return [0]


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
