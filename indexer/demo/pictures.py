"""The report's pictures, as SVG. Pixels are JPEG, so the file stays small; boxes and paths stay sharp."""

import base64
import html
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.values import Box, System

Picture = NDArray[np.uint8]
"""uint8 (height, width) or (height, width, 3) BGR."""

Floats = NDArray[np.floating]

_INK = np.array([(251, 250, 247), (183, 205, 214), (80, 135, 160), (24, 66, 99), (9, 20, 38)], np.float64)
"""Colours (red, green, blue) of values from 0 to 1 in `_coloured`, at even distances."""

JPEG_QUALITY = 72


def spectrogram(bands: Floats, *, width: int = 900, height: int = 150) -> str:
    """A drawing of a spectrogram, float32 (bands, frames), with low notes at the bottom."""
    shown = np.sqrt(bands[::-1] / max(1e-6, float(np.quantile(bands, 0.998))))
    return _drawing(_resized(_coloured(shown), width, height), [])


def span(bands: Floats, start: float, end: float, tone: str, *, width: int = 420, height: int = 96) -> str:
    """A drawing of a spectrogram with a box from `start` to `end`, both as shares of its length."""
    shown = np.sqrt(bands[::-1] / max(1e-6, float(np.quantile(bands, 0.998))))
    box = (start * width, 1.0, max(3.0, (end - start) * width), height - 2.0)
    return _drawing(_resized(_coloured(shown), width, height), [_rectangle(*box, tone)])


def page(image: Picture, systems: Sequence[System], tone: str, *, width: int = 420) -> str:
    """A drawing of a page with a box around each of these systems."""
    height = round(image.shape[0] * width / image.shape[1])
    boxes = [_rectangle(*_place(system.box, width), tone) for system in systems]
    return _drawing(_resized(image, width, height), boxes)


def crop(image: Picture, systems: Sequence[System], *, width: int = 900) -> str:
    """A drawing of the part of a page from the first to the last of these systems, with a margin."""
    scale = image.shape[1]
    room = 4.5 * systems[0].staff_space
    top = max(0.0, min(system.box.y0 for system in systems) - room)
    bottom = max(system.box.y1 for system in systems) + room
    part = image[round(top * scale) : round(bottom * scale)]
    return _drawing(_resized(part, width, round(part.shape[0] * width / scale)), [])


def cost_matrix(costs: Floats, path: NDArray[np.int32], *, width: int = 900, height: int = 230) -> str:
    """A drawing of local costs, dark where query (downwards) and document (to the right) agree, and of a path.

    costs: float32 (N, M). path: int32 (L, 2), query and document index; jumps of the path are dotted.
    """
    low, high = np.quantile(costs, (0.002, 0.7))
    shown = np.clip((high - costs) / max(1e-6, high - low), 0, 1)
    height = min(height, max(110, round(costs.shape[0] * width / costs.shape[1])))
    x = (path[:, 1] + 0.5) * width / costs.shape[1]
    y = (path[:, 0] + 0.5) * height / costs.shape[0]
    cuts = np.flatnonzero((np.diff(path[:, 1]) > 2) | (np.diff(path[:, 1]) < 0)) + 1
    lines: list[str] = []
    for run_x, run_y in zip(np.split(x, cuts), np.split(y, cuts), strict=True):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(run_x, run_y, strict=True))
        lines.append(f'<polyline class="path" points="{points}"/>')
    for cut in cuts:
        ends = f"{x[cut - 1]:.1f},{y[cut - 1]:.1f} {x[cut]:.1f},{y[cut]:.1f}"
        lines.append(f'<polyline class="jump" points="{ends}"/>')
    return _drawing(_resized(_coloured(shown), width, height, cv2.INTER_NEAREST), lines)


def _place(box: Box, width: int) -> tuple[float, float, float, float]:
    """Left, top, width and height in pixels of a box with a margin, on a page `width` pixels wide."""
    room = 0.012
    x, y = (box.x0 - room) * width, (box.y0 - room) * width
    return x, y, (box.x1 - box.x0 + 2 * room) * width, (box.y1 - box.y0 + 2 * room) * width


def _rectangle(x: float, y: float, width: float, height: float, tone: str) -> str:
    """An SVG rectangle; `tone` is its class: right or wrong."""
    return (
        f'<rect class="{html.escape(tone)} box" x="{x:.1f}" y="{y:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" rx="3"/>'
    )


def _drawing(picture: Picture, shapes: Sequence[str]) -> str:
    """An SVG of the picture's size, with the shapes drawn over the picture."""
    height, width = picture.shape[:2]
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    size = f'width="{width}" height="{height}"'
    return f'<svg viewBox="0 0 {width} {height}"><image {size} href="{source}"/>{"".join(shapes)}</svg>'


def _coloured(share: Floats) -> Picture:
    """The values 0 (paper) to 1 (ink) as colours: uint8 (height, width, 3), BGR."""
    levels = np.linspace(0, 1, len(_INK))
    rgb = np.stack([np.interp(np.clip(share, 0, 1), levels, channel) for channel in _INK.T], axis=-1)
    return np.ascontiguousarray(rgb[..., ::-1].astype(np.uint8))


def _resized(picture: Picture, width: int, height: int, enlarge: int = cv2.INTER_LINEAR) -> Picture:
    """The picture in this size; `enlarge` is the interpolation if the picture grows."""
    smaller = width * height < picture.shape[0] * picture.shape[1]
    how = cv2.INTER_AREA if smaller else enlarge
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)
