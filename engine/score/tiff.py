"""What Pillow does not tell or read of TIFF files: reduced images, and kinds of pixels such as CMYK with alpha."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import PageError
from engine.score.levels import Grey, scaled

if TYPE_CHECKING:
    from tifffile import TiffPage

DAMAGE = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error)
"""Errors that Pillow and tifffile raise at damaged files."""

_SUBFILE_TYPE = 254
"""Tag whose bit 0 marks a reduced image of another image in the file."""
_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601), as in Pillow."""


def is_tiff(file: Path) -> bool:
    """Returns whether a file starts as a TIFF does."""
    with file.open("rb") as stream:
        return stream.read(4) in _STARTS


def is_reduced(image: Image.Image) -> bool:
    """Returns whether the current frame of a TIFF is a reduced image of another, as in pyramids."""
    kind = getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0)
    return isinstance(kind, int) and bool(kind & 1)


def unusual_count(file: Path) -> int:
    """Returns the number of images in a TIFF. Raises PageError if the file is damaged."""
    import tifffile

    try:
        with tifffile.TiffFile(file) as opened:
            return len(opened.pages)
    except (tifffile.TiffFileError, *DAMAGE) as exc:
        raise PageError(file, f"damaged image ({exc})") from exc


def unusual_image(file: Path, index: int, misfit: Callable[[tuple[int, int]], str]) -> Image.Image:
    """Returns an image of a TIFF that Pillow does not read, in mode L or LA.

    misfit: returns why an image of this size must not be decoded; empty if it may be.
    Raises PageError with the reason if the image cannot be read.
    """
    import tifffile

    kind = ""
    try:
        with tifffile.TiffFile(file) as opened:
            page = opened.pages[index].aspage()
            if fault := misfit((page.imagewidth, page.imagelength)):
                raise PageError(file, fault)
            kind = f"{_name(page.photometric)}, {page.samplesperpixel} x {page.dtype}, {_name(page.compression)}"
            return _from_samples(page, page.asarray(maxworkers=1))
    except (tifffile.TiffFileError, *DAMAGE) as exc:
        cause = f"a TIFF of a kind that is not read ({kind})" if kind else "damaged image"
        raise PageError(file, f"{cause}: {exc}") from exc


def _name(code: int) -> str:
    """Returns the name of a code of TIFF, such as RGB for 2; the number if the code has no name."""
    return getattr(code, "name", str(code))


def _from_samples(page: "TiffPage", values: NDArray[Any]) -> Image.Image:
    """Returns an image in mode L, or LA if one of the samples is opacity.

    values: (h, w), (h, w, samples), or (samples, h, w) if each sample has a plane of its own.
    """
    size = (page.imagelength, page.imagewidth)
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    samples = np.moveaxis(values, 0, -1) if planar else values.reshape(*size, -1)
    if samples.shape != (*size, page.samplesperpixel):
        raise ValueError(f"no plain image: {values.shape}")
    image = Image.fromarray(_lightness(page, samples))
    opacities = [number for number, kind in enumerate(page.extrasamples, -len(page.extrasamples)) if kind in (1, 2)]
    if opacities:
        opacity = samples[..., opacities[0]]
        image.putalpha(Image.fromarray(scaled(opacity) if opacity.any() else np.zeros(opacity.shape, np.uint8)))
    return image


def _lightness(page: "TiffPage", samples: NDArray[Any]) -> Grey:
    """Returns the lightness of samples (h, w, samples) by the meaning that the file gives them."""
    meaning = _name(page.photometric)
    if meaning == "RGB":
        return scaled(samples[..., :3].astype(np.float32) @ _LUMA)
    if meaning == "SEPARATED":
        inks = samples[..., :4].astype(np.float32) / (np.iinfo(samples.dtype).max if samples.dtype.kind in "iu" else 1)
        return scaled(((1 - inks[..., :3]) @ _LUMA) * (1 - inks[..., 3]))
    if meaning in ("MINISWHITE", "MINISBLACK", "CIELAB"):
        lightness = scaled(samples[..., 0])
        return np.asarray(255 - lightness, np.uint8) if meaning == "MINISWHITE" else lightness
    raise ValueError(f"{meaning} is not read")
