"""Pages as people have them: side by side, turned, askew, photographed; with where each point of a page went."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from engine.score import Grey

Points = NDArray[np.float64]
"""Points (n, 2): column and row in px."""
Move = Callable[[Points], Points]
"""A map from the points of a page to those of the image it lies in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying:
    """An image that shows one or more pages."""

    image: Grey
    moves: tuple[Move, ...]
    """Where the points of each page lie in the image, page by page in reading order."""


Variant = Callable[[list[Grey], Generator], Lying]
"""A function that makes an image of pages."""


def straight(pages: list[Grey], rng: Generator) -> Lying:
    """The first page as it is."""
    return Lying(image=pages[0], moves=(_same,))


def spread(pages: list[Grey], rng: Generator) -> Lying:
    """Two pages side by side, with a gutter of 0 to 60 px that may lie in shadow."""
    height = max(page.shape[0] for page in pages[:2])
    gutter = int(rng.integers(0, 60))
    left, right = (_framed(page, (height, page.shape[1])) for page in pages[:2])
    image = np.hstack([left, np.full((height, gutter), 255, np.uint8), right])
    if rng.random() < 0.5:
        middle, reach = left.shape[1] + gutter / 2, 0.05 * left.shape[1]
        depth = np.exp(-(((np.arange(image.shape[1]) - middle) / reach) ** 2))
        image = (image * (1 - 0.7 * depth)).astype(np.uint8)
    return Lying(image=image, moves=(_same, _shift(left.shape[1] + gutter, 0)))


def four_up(pages: list[Grey], rng: Generator) -> Lying:
    """Four pages on a sheet, in two rows."""
    height, width = max(page.shape[0] for page in pages[:4]), max(page.shape[1] for page in pages[:4])
    first, second, third, fourth = (_framed(page, (height, width)) for page in pages[:4])
    image = np.vstack([np.hstack([first, second]), np.hstack([third, fourth])])
    return Lying(image=image, moves=(_same, _shift(width, 0), _shift(0, height), _shift(width, height)))


def sideways(pages: list[Grey], rng: Generator) -> Lying:
    """A page turned by a quarter, either way."""
    return turned(pages[0], int(rng.choice([90, 270])))


def upside_down(pages: list[Grey], rng: Generator) -> Lying:
    """A page on its head."""
    return turned(pages[0], 180)


def askew(pages: list[Grey], rng: Generator) -> Lying:
    """A page turned by 4 to 15 degrees, either way."""
    degrees = float(rng.uniform(4, 15) * rng.choice([-1, 1]))
    height, width = pages[0].shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (int(width * cosine + height * sine), int(width * sine + height * cosine))
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    image = cv2.warpAffine(pages[0], matrix, size, borderValue=255)
    return Lying(image=np.asarray(image, np.uint8), moves=(lambda points: points @ matrix[:, :2].T + matrix[:, 2],))


def on_larger_bed(pages: list[Grey], rng: Generator) -> Lying:
    """A page on a white canvas 2.2 times as wide."""
    height, width = pages[0].shape
    image = np.full((round(1.2 * height), round(2.2 * width)), 255, np.uint8)
    x, y = round(rng.uniform(0, 1.2) * width), round(rng.uniform(0, 0.2) * height)
    image[y : y + height, x : x + width] = pages[0]
    return Lying(image=image, moves=(_shift(x, y),))


def screenshot(pages: list[Grey], rng: Generator) -> Lying:
    """A page 1,500 px high on a dark screen of 2560 x 1600."""
    height, width = pages[0].shape
    scale = 1500 / height
    small = cv2.resize(pages[0], (round(width * scale), 1500), interpolation=cv2.INTER_AREA)
    image = np.full((1600, 2560), 40, np.uint8)
    x = (2560 - small.shape[1]) // 2
    image[50:1550, x : x + small.shape[1]] = small
    return Lying(image=image, moves=(lambda points: points * scale + np.array([x, 50]),))


def without_left_edge(pages: list[Grey], rng: Generator) -> Lying:
    """A page whose left part, 15 to 40 % of it, is cut off."""
    x = round(rng.uniform(0.15, 0.4) * pages[0].shape[1])
    return Lying(image=np.ascontiguousarray(pages[0][:, x:]), moves=(_shift(-x, 0),))


def broken_lines(pages: list[Grey], rng: Generator) -> Lying:
    """A scan in black and white whose threshold takes half of the thin lines away, in pieces."""
    page = pages[0]
    grain = cv2.GaussianBlur(rng.standard_normal(page.shape).astype(np.float32), (0, 0), 2.0)
    grey = cv2.GaussianBlur(page, (0, 0), 1.2).astype(np.float32) / 255 + 0.13 * grain / grain.std()
    ink = float(np.mean(page < 128))
    return Lying(image=np.where(grey < np.quantile(grey, 0.72 * ink), 0, 255).astype(np.uint8), moves=(_same,))


def photograph(pages: list[Grey], rng: Generator) -> Lying:
    """A page on a dark table with grain: tilted, bent, in half a shadow, held by two fingers."""
    page = pages[0]
    height, width = page.shape
    bend, phase = rng.uniform(0.005, 0.03) * width, rng.uniform(0, np.pi)

    def bent(points: Points) -> Points:
        lower = bend * np.sin(points[:, 0] / width * np.pi + phase)
        return np.stack([points[:, 0], points[:, 1] + lower], axis=1)

    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    rows -= np.float32(bend) * np.sin(columns / width * np.pi + phase).astype(np.float32)
    paper = cv2.remap(page, columns, rows, cv2.INTER_LINEAR, borderValue=255)
    size = (round(1.5 * width), round(1.35 * height))
    tilt = rng.uniform(-0.06, 0.06, (4, 2)) * width
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    placed = corners + np.array([0.25 * width, 0.15 * height]) + tilt
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), placed.astype(np.float32))
    table = np.clip(55 + 12 * np.sin(np.arange(size[0]) / 29) + rng.normal(0, 8, (size[1], size[0])), 0, 255)
    mask = cv2.warpPerspective(np.full_like(page, 255), matrix, size) > 127
    sheet = cv2.warpPerspective(paper, matrix, size, borderValue=255).astype(np.float32)
    lit = 60 + sheet * (150 / 255) + rng.normal(0, 5, sheet.shape)
    image = np.where(mask, lit, table)
    shade = 1 / (1 + np.exp((np.arange(size[0]) - rng.uniform(0.3, 0.8) * size[0]) / (0.03 * size[0])))
    image = image * (0.55 + 0.45 * shade)
    for x, y in (placed[0] + placed[3]) / 2, (placed[1] + placed[2]) / 2:
        axes = (round(0.05 * width), round(0.03 * width))
        cv2.ellipse(image, (round(x), round(y)), axes, 0, 0, 360, 140.0, -1)

    def move(points: Points) -> Points:
        return np.asarray(cv2.perspectiveTransform(bent(points)[None], matrix)[0])

    return Lying(image=np.clip(image, 0, 255).astype(np.uint8), moves=(move,))


VARIANTS: dict[str, tuple[int, Variant]] = {
    "straight": (1, straight),
    "spread": (2, spread),
    "four_up": (4, four_up),
    "sideways": (1, sideways),
    "upside_down": (1, upside_down),
    "askew": (1, askew),
    "photograph": (1, photograph),
    "screenshot": (1, screenshot),
    "larger_bed": (1, on_larger_bed),
    "no_left_edge": (1, without_left_edge),
    "broken_lines": (1, broken_lines),
}
"""The variants by name, each with the number of pages it shows."""


def turned(page: Grey, degrees: int) -> Lying:
    """A page turned clockwise by quarters."""
    height, width = page.shape
    moves: dict[int, Move] = {
        90: lambda points: np.stack([height - 1 - points[:, 1], points[:, 0]], axis=1),
        180: lambda points: np.array([width - 1, height - 1]) - points,
        270: lambda points: np.stack([points[:, 1], width - 1 - points[:, 0]], axis=1),
    }
    return Lying(image=np.ascontiguousarray(np.rot90(page, -degrees // 90)), moves=(moves[degrees],))


def _framed(page: Grey, shape: tuple[int, int]) -> Grey:
    """The page at the top left of a white page of this shape."""
    framed = np.full(shape, 255, np.uint8)
    framed[: page.shape[0], : page.shape[1]] = page
    return framed


def _same(points: Points) -> Points:
    return points


def _shift(x: float, y: float) -> Move:
    return lambda points: points + np.array([x, y])
