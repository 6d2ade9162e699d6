"""Image file -> its pages in grey, read as far as a damaged file goes."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pi_heif
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from engine.errors import PageError
from engine.score import tiff
from engine.score.leaf import MIN_SIDE_PX, SIDE_PX, Leaf, misshapen, page_scale
from engine.score.levels import Grey, scaled
from engine.score.tiff import DAMAGE

pi_heif.register_heif_opener()  # Pillow itself does not read HEIC

IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "JPEG2000", "HEIF", "AVIF", "BMP", "GIF", "PPM")
"""Pillow's names of the formats that are read, whatever a file's suffix: Pillow would start Ghostscript for an EPS."""

MIN_READ_SHARE = 0.02
"""Smallest share of the rows of a page that a damaged file must still hold."""
MAX_FLAT = 2
"""Largest difference in grey levels within a row, and between rows, that were never decoded."""
MIN_OPAQUE = 128
"""Opacity from which a pixel counts as visible."""
MAX_DARK_SHARE = 0.01
"""Largest share of dark pixels among those of light ink. On paper that is not transparent, more is black."""
_ANIMATED = "only the first image of an animation is read"
_END_OF_JPEG = b"\xff\xd9"
_ON_SIDE = (5, 6, 7, 8)
"""Orientations of Exif by which an image lies on its side."""


def page_indexes(file: Path) -> list[int]:
    """Returns the indexes of the images in a file that are pages, from 0. Only TIFFs have more than one page.

    Previews and other views of a camera are no pages, and reduced images of a page in a TIFF are none either. Nothing
    is decoded. Raises PageError if a TIFF is too damaged to tell what it holds.
    """
    if not tiff.is_tiff(file):
        return [0]
    try:
        with _quiet():
            opened = Image.open(file, formats=IMAGE_FORMATS)
        with opened as image:
            return [index for index in range(_count(file, image)) if not _is_reduced(image, index)]
    except Image.DecompressionBombError:
        return [0]
    except UnidentifiedImageError:
        return list(range(tiff.unusual_count(file)))
    except DAMAGE as exc:
        raise PageError(file, f"damaged image ({exc})") from exc


def image_pages(file: Path, indexes: Iterable[int], max_pixels: int) -> Iterator[Leaf]:
    """Yields images of a file by their indexes, from 0, each when the caller takes it.

    max_pixels: a page with more pixels is not decoded.
    Raises PageError if the file is no image, or too damaged to tell what it holds.
    """
    try:
        with _quiet():
            opened = Image.open(file, formats=IMAGE_FORMATS)
        with opened as image:
            if image.format == "TIFF":
                yield from (_tiff_page(file, image, index, max_pixels) for index in indexes)
            else:
                yield from (_first_image(file, image, max_pixels) for _ in indexes)
    except Image.DecompressionBombError as exc:  # Pillow's own limit, which `engine.process.prepare` removes
        raise PageError(file, f"too large for a page: {exc}") from exc
    except UnidentifiedImageError as exc:
        if not tiff.is_tiff(file):
            formats = ", ".join(IMAGE_FORMATS)
            raise PageError(file, f"not a PDF or an image in a format that is read ({formats})") from exc
        yield from (_unusual_page(file, index, max_pixels) for index in indexes)
    except DAMAGE as exc:
        raise PageError(file, f"damaged image ({exc})") from exc


def image_size(file: Path) -> tuple[int, int] | None:
    """Returns the width and height in px of the first image of a file as it is read; None if it is no page.

    The image is not decoded.
    """
    try:
        with _quiet(), Image.open(file, formats=IMAGE_FORMATS) as image:
            on_side = image.getexif().get(ExifTags.Base.Orientation, 1) in _ON_SIDE
            width, height = reversed(image.size) if on_side else image.size
    except (Image.DecompressionBombError, UnidentifiedImageError, *DAMAGE):
        return None
    return None if _misfit((width, height), width * height) else _reduced_size(width, height)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drops Python's warnings, by which Pillow complains of metadata that no page needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def grey(image: Image.Image) -> Grey:
    """Returns the current frame of an image in grey, uint8 (h, w), its shorter side at most SIDE_PX long.

    Transparent paper is white, or black below light ink.
    """
    frame = ImageOps.exif_transpose(image)
    if frame.mode.startswith(("I", "F")):
        page = scaled(np.asarray(frame))
    elif frame.mode == "LAB":
        page = np.asarray(frame.getchannel("L"))
    elif frame.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in frame.info:
        page = _on_contrasting_ground(frame)
    else:
        page = np.asarray(frame.convert("L"))
    return _reduced(page)


def _reduced(page: Grey) -> Grey:
    """Returns the page at the size that `page_scale` gives, or at its own size if that is smaller."""
    before, size = (page.shape[1], page.shape[0]), _reduced_size(page.shape[1], page.shape[0])
    if size == before:
        return page
    return np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _reduced_size(width: int, height: int) -> tuple[int, int]:
    """Returns the size to which a page is reduced: its own if it is small enough."""
    scale = page_scale(width, height)
    return (width, height) if scale >= 1 else (max(1, round(width * scale)), max(1, round(height * scale)))


def _on_contrasting_ground(frame: Image.Image) -> Grey:
    """Returns an image with transparency on white, or on black if it is light ink on transparent paper."""
    if frame.mode in ("La", "RGBa"):
        frame = frame.convert({"La": "LA", "RGBa": "RGBA"}[frame.mode])
    layers = frame.convert("RGBA")
    visible = np.asarray(layers.getchannel("A")) >= MIN_OPAQUE
    colours = np.asarray(layers.convert("RGB").convert("L"))
    light_ink = 0 < visible.mean() < 0.5 and np.mean(colours[visible] < MIN_OPAQUE) <= MAX_DARK_SHARE
    ground = Image.new("RGBA", layers.size, "black" if light_ink else "white")
    return np.asarray(Image.alpha_composite(ground, layers).convert("L"))


def _first_image(file: Path, image: Image.Image, max_pixels: int) -> Leaf:
    """Returns the first image of a file as a page."""
    if fault := _misfit(image.size, max_pixels):
        return Leaf(fault=fault)
    image.draft("L", (SIDE_PX, SIDE_PX))
    damage = _decoded(image)
    if not damage or image.format not in ("JPEG", "MPO"):
        leaf = _leaf(image, damage)
        animated = image.format != "MPO" and getattr(image, "is_animated", False)
        return replace(leaf, fault=leaf.fault or _ANIMATED) if animated else leaf
    # Pillow's decoder stops where data end. If an end of image is there, libjpeg fills what is missing.
    with Image.open(BytesIO(file.read_bytes() + _END_OF_JPEG), formats=("JPEG",)) as ended:
        ended.draft("L", (SIDE_PX, SIDE_PX))
        _decoded(ended)
        return _leaf(ended, damage)


def _tiff_page(file: Path, image: Image.Image, index: int, max_pixels: int) -> Leaf:
    """Returns an image of a TIFF as a page."""
    try:
        with _quiet():
            image.seek(index)
    except DAMAGE:
        return _unusual_page(file, index, max_pixels)
    fault = _misfit(image.size, max_pixels)
    return Leaf(fault=fault) if fault else _leaf(image, _decoded(image))


def _is_reduced(image: Image.Image, index: int) -> bool:
    """Returns whether an image of a TIFF is a reduced image of a page before it. One that Pillow cannot read is not."""
    try:
        with _quiet():
            image.seek(index)
    except DAMAGE:
        return False
    return index > 0 and tiff.is_reduced(image)


def _count(file: Path, image: Image.Image) -> int:
    """Returns the number of images in a TIFF. Pillow counts only images that it reads."""
    try:
        with _quiet():
            return int(getattr(image, "n_frames", 1))
    except DAMAGE:
        return tiff.unusual_count(file)


def _unusual_page(file: Path, index: int, max_pixels: int) -> Leaf:
    """Returns an image of a TIFF that Pillow does not read."""
    try:
        image = tiff.unusual_image(file, index, lambda size: _misfit(size, max_pixels))
        return Leaf(image=grey(image))
    except PageError as exc:
        return Leaf(fault=exc.cause)


def _leaf(image: Image.Image, damage: str) -> Leaf:
    """Returns the decoded frame of an image as a page. damage: what decoding complained of; empty for nothing."""
    if damage and _is_flat(image):
        return Leaf(fault=damage)
    try:
        page = grey(image)
    except DAMAGE as exc:
        return Leaf(fault=f"damaged image ({exc})")
    if not damage:
        return Leaf(image=page)
    rows = _read_rows(page)
    if rows < MIN_READ_SHARE * len(page):
        return Leaf(fault=damage)
    page = page.copy()
    page[rows:] = np.median(page[:rows])
    missing = f", {1 - rows / len(page):.0%} of the page is missing" if rows < len(page) else ""
    return Leaf(image=page, fault=f"{damage}; read as far as it goes{missing}")


def _is_flat(image: Image.Image) -> bool:
    """Returns whether all pixels are equal. An image of which nothing was decoded is, and is not worth converting."""
    bands = np.reshape(image.getextrema(), (-1, 2))
    return bool((bands[:, 0] == bands[:, 1]).all())


def _read_rows(page: Grey) -> int:
    """Returns the number of rows of a damaged page above those that were never decoded, which are all of one grey."""
    last = int(page[-1, -1])
    off = np.abs(page.astype(np.int16) - last).max(axis=1) > MAX_FLAT
    return int(np.flatnonzero(off)[-1]) + 1 if off.any() else 0


def _misfit(size: tuple[int, int], max_pixels: int) -> str:
    """Returns why an image of this size, in px, is no page; empty if it may be one."""
    width, height = size
    if width * height > max_pixels or misshapen(width, height):
        return f"{width} x {height} px: too large for a page"
    if min(size) < MIN_SIDE_PX:
        return f"expected pages of at least {MIN_SIDE_PX} px a side, got {size}"
    return ""


def _decoded(image: Image.Image) -> str:
    """Decodes the current frame as far as it goes, and returns what is wrong with the frame; empty if nothing is."""
    try:
        with _quiet():
            image.load()
    except DAMAGE as exc:
        if isinstance(image, ImageFile.ImageFile):
            image.tile = []  # the image then keeps the rows that were decoded
        return f"damaged image ({exc})"
    return ""
