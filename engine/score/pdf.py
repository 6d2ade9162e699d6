"""PDF file -> its pages in grey."""

import math
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import PageError
from engine.score.leaf import MAX_RATIO, Leaf, misshapen, page_scale
from engine.score.levels import Grey

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

MAX_DEPTH = 4
"""Largest nesting of the forms of a page in which damaged images are looked for."""


def pdf_count(file: Path) -> int:
    """Returns the number of pages of a PDF. Raises PageError if the file is no readable PDF."""
    with closing(_opened(file)) as document:
        return len(document)


def pdf_pages(file: Path, indexes: Iterable[int]) -> Iterator[Leaf]:
    """Yields pages of a PDF by their indexes, from 0, each rendered in grey when the caller takes it.

    Raises PageError if the file is no readable PDF.
    """
    with closing(_opened(file)) as document:
        for index in indexes:
            yield _leaf(document, index)


def pdf_sizes(file: Path) -> Iterator[tuple[int, int] | None]:
    """Yields the width and height in px with which each page of a PDF is rendered; None for a page that is not.

    Raises PageError if the file is no readable PDF.
    """
    import pypdfium2

    with closing(_opened(file)) as document:
        for index in range(len(document)):
            try:
                with closing(document[index]) as page:
                    width, height = page.get_size()
            except pypdfium2.PdfiumError:
                width, height = 0, 0
            if misshapen(width, height):
                yield None
                continue
            scale = page_scale(width, height)
            yield math.ceil(width * scale), math.ceil(height * scale)


def _opened(file: Path) -> "PdfDocument":
    """Returns an open PDF. Raises PageError if the file is no readable PDF."""
    import pypdfium2

    try:
        return pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as exc:
        cause = "protected by a password" if "password" in str(exc).lower() else f"not a readable PDF ({exc})"
        raise PageError(file, cause) from exc


def _leaf(document: "PdfDocument", index: int) -> Leaf:
    """Returns one page."""
    import pypdfium2

    try:
        with closing(document[index]) as page:
            width, height = page.get_size()
            if misshapen(width, height):
                return Leaf(
                    fault=f"expected pages at most {MAX_RATIO} times as high as wide, got {width:g} x {height:g}"
                )
            rendered = page.render(scale=page_scale(width, height), grayscale=True).to_numpy()
            image = np.ascontiguousarray(rendered.reshape(rendered.shape[:2]))
            return Leaf(image=image, fault="shows nothing: its image is damaged" if _is_lost(page, image) else "")
    except pypdfium2.PdfiumError as exc:
        return Leaf(fault=f"damaged page ({exc})")


def _is_lost(page: "PdfPage", image: Grey) -> bool:
    """Returns whether a page shows nothing because an image on it cannot be decoded."""
    import pypdfium2
    from pypdfium2 import raw

    if image.min() != image.max():
        return False
    for item in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=MAX_DEPTH):
        try:
            item.get_bitmap()
        except pypdfium2.PdfiumError:
            return True
    return False
