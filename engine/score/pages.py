"""PDF, image file or folder of images -> page images in grey, one at a time."""

import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pi_heif
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.config import GENEROUS, MediaLimits
from engine.errors import PageError
from engine.score import pictures

pi_heif.register_heif_opener()  # Pillow itself does not read HEIC

Grey = NDArray[np.uint8]
"""Grey image, uint8 (h, w)."""

IMAGE_SUFFIXES = frozenset(
    (
        ".png .jpg .jpeg .jpe .jfif .tif .tiff .webp .jp2 .j2k .jpf .jpx .jpm .heic .heif .hif .avif .bmp .gif .pbm"
        " .pgm .ppm .pnm"
    ).split()
)
"""Suffixes of image files."""
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "JPEG2000", "HEIF", "AVIF", "BMP", "GIF", "PPM")
"""Pillow's names of the formats that are read, whatever a file's suffix: Pillow would start Ghostscript for an EPS."""
SUFFIXES = IMAGE_SUFFIXES | {".pdf"}
"""Suffixes of score files. A folder of image files is a score too."""

MAX_WIDTH_PX = 1800
"""Width at which PDF pages are rendered, and above which images are reduced. Staff lines stay 2 px thick."""
MIN_SIDE_PX = 16
"""Shortest side of a page, in px: a smaller image is a thumbnail or damaged."""
MAX_RATIO = 20
"""Largest height of a page, as a multiple of its width."""
MIN_CONTRAST = 64
"""Smallest difference in grey levels between paper and ink that is stretched to 255. Fainter marks stay faint."""


def read_pages(path: Path | str, limits: MediaLimits = GENEROUS) -> Iterator[Grey]:
    """Yields the pages of a score in order, each uint8 (h, w), white 255, grey levels normalised.

    Each page is read when the caller takes it.

    path: a PDF, an image of one of IMAGE_FORMATS with one or more pages, or a folder of images, read in natural order.
    Raises PageError, which names file and cause, if a page cannot be read or is over a limit. An error of a later page
    is raised when that page is read.
    """
    path = Path(path)
    if not path.exists():
        raise PageError(path, "no such file or folder")
    pages = 0
    for file in _files(path):
        for page in _pdf_pages(file) if _is_pdf(file) else _image_pages(file, limits.pixels):
            if pages == limits.pages:
                raise PageError(path, f"more than {limits.pages} pages, the largest number accepted")
            if min(page.shape) < MIN_SIDE_PX:
                raise PageError(file, f"expected pages of at least {MIN_SIDE_PX} px a side, got {page.shape}")
            pages += 1
            yield normalise_grey(page)
    if not pages:
        raise PageError(path, "has no pages")


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
        yield normalise_grey(_grey(Image.fromarray(image)))


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Returns a sorting key by which page2 comes before page10."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


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


def _files(path: Path) -> list[Path]:
    """Returns the file `path`, or the image files of the folder `path` in natural order."""
    if not path.is_dir():
        return [path]
    visible = [f for f in path.iterdir() if f.is_file() and not f.name.startswith(".")]
    images = {f for f in visible if f.suffix.lower() in IMAGE_SUFFIXES}
    files = images - pictures.among(images)
    if not files:
        raise PageError(path, f"expected page images ({' '.join(sorted(IMAGE_SUFFIXES))}) in this folder, found none")
    return sorted(files, key=natural_order)


def _is_pdf(file: Path) -> bool:
    """Returns whether a file is a PDF, judged by its content. Raises PageError if the file is empty or unreadable."""
    try:
        with file.open("rb") as stream:
            start = stream.read(1024)
    except OSError as exc:
        raise PageError(file, f"cannot be opened: {exc.strerror}") from exc
    if not start:
        raise PageError(file, "empty file")
    return b"%PDF-" in start


def _pdf_pages(file: Path) -> Iterator[Grey]:
    """Yields the pages of a PDF, rendered in grey."""
    import pypdfium2

    try:
        with closing(pypdfium2.PdfDocument(file)) as document:
            for number in range(len(document)):
                with closing(document[number]) as page:
                    image = page.render(scale=_pdf_scale(file, page.get_size()), grayscale=True).to_numpy()
                yield np.ascontiguousarray(image.reshape(image.shape[:2]))
    except pypdfium2.PdfiumError as exc:
        cause = "protected by a password" if "password" in str(exc).lower() else f"not a readable PDF ({exc})"
        raise PageError(file, cause) from exc


def _pdf_scale(file: Path, size: tuple[float, float]) -> float:
    """Returns the scale at which a PDF page is MAX_WIDTH_PX wide. Raises PageError if the page is too high."""
    width, height = size
    if not (width > 0 and 0 < height <= MAX_RATIO * width):
        raise PageError(file, f"expected pages at most {MAX_RATIO} times as high as wide, got {width:g} x {height:g}")
    return MAX_WIDTH_PX / width


def _image_pages(file: Path, max_pixels: int) -> Iterator[Grey]:
    """Yields the pages of an image file in grey."""
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as image:
            for frame in range(getattr(image, "n_frames", 1)):
                image.seek(frame)
                if image.width * image.height > max_pixels or image.height > MAX_RATIO * image.width:
                    raise PageError(file, f"{image.width} x {image.height} px: too large for a page")
                yield _grey(image)
    except Image.DecompressionBombError as exc:  # Pillow's own limit, which `engine.process.prepare` removes
        raise PageError(file, f"too large for a page: {exc}") from exc
    except UnidentifiedImageError as exc:
        raise PageError(file, "not a PDF, PNG, JPEG or TIFF file") from exc
    except (OSError, SyntaxError, ValueError, EOFError) as exc:
        raise PageError(file, f"damaged image ({exc})") from exc


def _grey(image: Image.Image) -> Grey:
    """Returns the current frame of an image in grey, uint8 (h, w), at most MAX_WIDTH_PX wide, transparency on white."""
    image.draft("L", (MAX_WIDTH_PX, MAX_WIDTH_PX))
    frame = ImageOps.exif_transpose(image)
    if frame.mode.startswith(("I", "F")):
        values = np.asarray(frame, dtype=np.float32)
        page = (values * (255.0 / max(float(values.max()), 1.0))).astype(np.uint8)
    elif frame.mode in ("RGBA", "LA", "PA") or "transparency" in frame.info:
        layers = frame.convert("RGBA")
        white = Image.new("RGBA", layers.size, "white")
        page = np.asarray(Image.alpha_composite(white, layers).convert("L"))
    else:
        page = np.asarray(frame.convert("L"))
    if page.shape[1] > MAX_WIDTH_PX:
        size = (MAX_WIDTH_PX, max(1, round(page.shape[0] * MAX_WIDTH_PX / page.shape[1])))
        page = np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return page
