"""Are the systems of a page found however the page lies: side by side, turned, askew, photographed, broken?

    python -m bench.as_they_lie [--data DIR] [--set NAME] [--pages N] [--plain] [--only VARIANT] [--json FILE]

DIR holds scans with verified systems, as for `bench.systems`. Each page whose systems are all found while it lies
straight is made into images of each variant (`bench/lib/lying.py`), with a fixed seed. A system counts as right if its
middle lies where the page's system went, within half its height, if its length and its number of staves are right, and
if it comes in its turn. `--plain` reads each image as one upright page, for comparison.
"""

import argparse
import json
import time
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from bench.lib import report
from bench.lib.lying import VARIANTS, Lying, Points
from bench.systems import matches, scans
from engine import process
from engine.score import Grey, find_systems, placed_systems
from engine.score.pages import pages_of
from engine.values import Box

LINE = (
    "{variant:14} recall {recall:6.4f}  precision {precision:6.4f}  perfect {perfect:5.3f} of {images:3} images, "
    "{systems:4} systems, {cpu_s:.2f} s an image"
)
MAX_WRONG_LENGTH = 0.2
"""Largest error of a system's length, as a share of the length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a system lies in an image, in px."""

    middle: Points
    """Middle of the system, (1, 2)."""
    length: float
    height: float
    staves: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A page and its systems."""

    image: Grey
    ends: list[Points]
    """Left end and right end of each system's middle line, (2, 2)."""
    heights: list[float]
    staves: list[int]


def originals(folder: Path, pages: int) -> Iterator[Original]:
    """Yields pages of a set, evenly spread, with systems that are all found while the page lies straight."""
    for page in scans(folder, about=pages):
        found = find_systems(page.page)
        if found and len(matches([(s.box.y0, s.box.y1) for s in found], page.systems)) == len(found) == len(
            page.systems
        ):
            yield Original(
                image=page.page,
                ends=[np.stack([s.course.xs, s.course.ys], axis=1)[[0, -1]].astype(np.float64) for s in found],
                heights=[s.course.height for s in found],
                staves=[len(s.staves) for s in found],
            )


def true_spots(shown: list[Original], lying: Lying, scale: float) -> list[Spot]:
    """Returns where the systems of the pages lie in the image, which is read at this scale."""
    spots = []
    for page, move in zip(shown, lying.moves, strict=True):
        for ends, height, staves in zip(page.ends, page.heights, page.staves, strict=True):
            left, right = np.clip(move(ends) * scale, 0, np.array(lying.image.shape[::-1]) * scale)
            stretch = np.linalg.norm(move(ends)[1] - move(ends)[0]) / np.linalg.norm(ends[1] - ends[0]) * scale
            middle = (left + right)[None] / 2
            length = float(np.linalg.norm(right - left))
            spots.append(Spot(middle=middle, length=length, height=height * float(stretch), staves=staves))
    return spots


def found_spots(page: Grey, *, plain: bool) -> list[Spot]:
    """Returns where systems are found on a page as it lies."""
    if plain:
        return [_spot(s.box, len(s.staves), page, 0) for s in find_systems(page)]
    return [_spot(s.box, len(s.staves), page, s.turn) for s in placed_systems(page)]


def _spot(box: Box, staves: int, page: Grey, turn: int) -> Spot:
    """Returns where a box of the page turned by `turn` lies on the page as it lies."""
    height, width = page.shape
    unit = width if turn in (0, 180) else height
    x, y = (box.x0 + box.x1) / 2 * unit, (box.y0 + box.y1) / 2 * unit
    places = {0: (x, y), 90: (y, height - 1 - x), 180: (width - 1 - x, height - 1 - y), 270: (width - 1 - y, x)}
    return Spot(
        middle=np.array([places[turn]]), length=(box.x1 - box.x0) * unit, height=(box.y1 - box.y0) * unit, staves=staves
    )


def right_in_order(found: list[Spot], true: list[Spot]) -> int:
    """Returns the number of found systems that are right: the longest row of them in the true order."""
    numbers = []
    for spot in found:
        for number, other in enumerate(true):
            apart = float(np.linalg.norm(spot.middle - other.middle))
            wrong = abs(spot.length - other.length) / max(other.length, 1)
            if spot.staves == other.staves and apart < other.height / 2 and wrong < MAX_WRONG_LENGTH:
                numbers.append(number)
                break
    tails: list[int] = []
    for number in numbers:
        place = bisect_left(tails, number)
        tails[place : place + 1] = [number]
    return len(tails)


def measure(name: str, pages: list[Original], *, plain: bool, draw: Path | None) -> dict[str, float | str]:
    """Returns recall, precision and seconds an image of one variant."""
    count, variant = VARIANTS[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    true = found = right = images = whole = 0
    seconds = 0.0
    for start in range(0, len(pages) - count + 1, count):
        shown = pages[start : start + count]
        lying = variant([page.image for page in shown], rng)
        page = next(pages_of([lying.image]))
        began = time.process_time()
        spots = found_spots(page, plain=plain)
        seconds += time.process_time() - began
        expected = true_spots(shown, lying, page.shape[1] / lying.image.shape[1])
        hits = right_in_order(spots, expected)
        true, found, right, images = true + len(expected), found + len(spots), right + hits, images + 1
        perfect = hits == len(expected) == len(spots)
        whole += perfect
        if draw is not None and not perfect:
            draw.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(draw / f"{name}-{images:03}-{hits}-of-{len(expected)}.png"), page)
    return {
        "variant": name,
        "recall": round(right / max(true, 1), 4),
        "precision": round(right / max(found, 1), 4),
        "perfect": round(whole / max(images, 1), 3),
        "systems": true,
        "images": images,
        "cpu_s": round(seconds / max(images, 1), 3),
    }


def main() -> None:
    """Measures every variant, and prints a line for each."""
    process.prepare()
    parser = argparse.ArgumentParser(prog="python -m bench.as_they_lie", description="Systems of pages as they lie.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets (default: data)")
    parser.add_argument("--set", default="val_scans_joplin", help="the set of scans (default: val_scans_joplin)")
    parser.add_argument("--pages", type=int, default=40, help="about so many pages of the set (default: 40)")
    parser.add_argument("--plain", action="store_true", help="read each image as one upright page")
    parser.add_argument("--only", action="append", choices=VARIANTS, help="measure this variant; may be repeated")
    parser.add_argument("--draw", type=Path, help="write the images that are not read without fault into this folder")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    print(report.heading(report.environment()))
    pages = list(islice(originals(args.data / args.set, args.pages), args.pages))
    rows = []
    for name in args.only or VARIANTS:
        rows.append(measure(name, pages, plain=args.plain, draw=args.draw))
        print(LINE.format(**rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
