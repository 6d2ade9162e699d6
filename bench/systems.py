"""How well, and how fast, are systems found on engraved pages and on real scans? Precision and recall.

    python -m bench.systems [--data DIR] [--quick] [--json FILE] [--draw DIR]
    python -m bench.systems --explain PAGE [--draw DIR]

DIR holds data sets, each a folder with `systems.csv` (piece, page, y_top, y_bottom in page widths) and
`pages/PIECE_pNN.tif`. A system counts as found when its rows overlap the true ones by an IoU of 0.5 or more.
Pieces without a verified row are left out. `engraved` and `engraved_degraded` are pages of the demo's pieces, clean and
made to look like scans; they need no data, and their boxes are known: `box` is the mean IoU of the boxes of the systems
that are found, `worst` the least, `boxes` the share of all true systems that have a box of IoU 0.75 or more. `--draw`
writes every page with its systems boxed.

`--explain` measures nothing: for the page, or pages, of one file, taken for upright pages, it prints the systems, which
neighbouring staves were joined, and each rejected candidate with the threshold that it missed, and draws all of that.
"""

import argparse
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from bench.lib import engraved, pictures, report
from bench.lib.engraved import Known
from bench.lib.printed import MIN_IOU, PageKey, Rows, iou, printed_systems
from engine import process
from engine.score import explain, normalise_grey, numbered_pages, placed_systems, read_pages
from engine.values import Box

SETS = ("val_scans_joplin", "dev_scans_mozart")
QUICK_PAGES = 20
MIN_BOX_IOU = 0.75
"""Intersection over union from which on a box counts as right: with an eighth missing and an eighth too much."""
BOXES = ("box", "worst", "boxes")
"""Columns of what is measured where the true boxes are known."""


@dataclass(slots=True)
class Tally:
    """The counts over the pages of one set."""

    pages: int = 0
    systems: int = 0
    found: int = 0
    right: int = 0
    boxes: list[float] = field(default_factory=list)
    """Intersection over union of each found box with its true one, where the true boxes are known."""
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Returns the table row of the set; without known boxes, it has none of `BOXES`."""
        sure = sum(overlap >= MIN_BOX_IOU for overlap in self.boxes) / max(self.systems, 1)
        measured = (sum(self.boxes) / len(self.boxes), min(self.boxes), sure) if self.boxes else ()
        return {
            "precision": round(self.right / max(self.found, 1), 4),
            "recall": round(self.right / max(self.systems, 1), 4),
            "systems": self.systems,
            "pages": self.pages,
            "seconds_per_page": round(self.seconds / max(self.pages, 1), 3),
        } | {name: round(value, 4) for name, value in zip(BOXES, measured, strict=False)}


def matches(found: Sequence[Rows], true: Sequence[Rows]) -> dict[int, int]:
    """The number of the found system for each true one, for those that overlap by MIN_IOU.

    Above 0.5, no two systems can overlap with the same third one by so much.
    """
    pairs: dict[int, int] = {}
    for number, rows in enumerate(found):
        left = [other for other in range(len(true)) if other not in pairs]
        best = max(left, key=lambda other: iou(rows, true[other]), default=None)
        if best is not None and iou(rows, true[best]) >= MIN_IOU:
            pairs[best] = number
    return pairs


def scans(folder: Path, *, about: int | None) -> Iterator[Known]:
    """The pages of a set of scans with their verified systems. about: roughly so many pages, instead of all."""
    truth = printed_systems(folder)
    pieces = {piece for piece, _ in truth}
    files = [(key, file) for file in sorted((folder / "pages").iterdir()) if (key := _key(file)) and key[0] in pieces]
    for key, file in files[:: max(1, len(files) // about) if about else 1]:
        yield Known(name=file.stem, page=next(read_pages(file)), systems=[system.rows for system in truth.get(key, [])])


def measure(name: str, pages: Iterable[Known], draw: Path | None) -> Tally:
    """Precision, recall and time on one set."""
    tally = Tally()
    for known in pages:
        page = normalise_grey(known.page)
        start = time.perf_counter()
        systems = placed_systems(page)
        tally.seconds += time.perf_counter() - start
        found = [(system.box.y0, system.box.y1) for system in systems]
        pairs = matches(found, known.systems)
        right = len(pairs)
        if known.ends:
            tally.boxes += [overlap(systems[number].box, known, true) for true, number in pairs.items()]
        tally.pages += 1
        tally.systems += len(known.systems)
        tally.found += len(found)
        tally.right += right
        if right < max(len(found), len(known.systems)):
            tally.faults.append(f"{known.name}: {len(known.systems)} true, {len(found)} found, {right} right")
        if draw is not None:
            draw.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(
                str(draw / f"{name}-{known.name}.png"), pictures.drawn(page, [system.found for system in systems])
            )
    return tally


def overlap(box: Box, known: Known, number: int) -> float:
    """Intersection over union of a box with the box of a known system."""
    (left, right), (top, bottom) = known.ends[number], known.systems[number]
    common = max(min(box.x1, right) - max(box.x0, left), 0.0) * max(min(box.y1, bottom) - max(box.y0, top), 0.0)
    union = (box.x1 - box.x0) * (box.y1 - box.y0) + (right - left) * (bottom - top) - common
    return common / union


def _key(file: Path) -> PageKey | None:
    match = re.fullmatch(r"(.+)_p(\d+)\.\w+", file.name)
    return (match[1], int(match[2])) if match else None


def explain_file(file: Path, folder: Path) -> None:
    """Prints why each page of a file has the systems it has, and writes a picture of it into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, page in numbered_pages(file):
        explanation = explain(page)
        picture = folder / f"{file.stem}-{number:02}-explained.png"
        cv2.imwrite(str(picture), pictures.explained(page, explanation))
        print(f"{file}, page {number}: {len(explanation.systems)} systems, drawn in {picture}")
        for line in pictures.described(explanation):
            print(f"  {line}")


def main() -> None:
    """Measures every set that exists, and prints a line for each."""
    process.prepare()
    parser = argparse.ArgumentParser(prog="python -m bench.systems", description="Precision and recall of systems.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets (default: data)")
    parser.add_argument("--quick", action="store_true", help=f"about {QUICK_PAGES} pages of each set")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--draw", type=Path, help="write each page with its systems boxed into this folder")
    parser.add_argument("--explain", type=Path, metavar="PAGE", help="explain the detection on this page")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.explain is not None:
        explain_file(args.explain, args.draw or Path())
        return
    every = 6 if args.quick else 1
    sets: dict[str, Iterable[Known]] = {
        "engraved": engraved.pages(degraded=False, every=every),
        "engraved_degraded": engraved.pages(degraded=True, every=every),
    }
    for name in SETS:
        if (args.data / name / "systems.csv").exists():
            sets[name] = scans(args.data / name, about=QUICK_PAGES if args.quick else None)
        else:
            print(f"{name} is not in {args.data}: unpack it there, or name its folder with --data")
    print(report.heading(report.environment()))
    results: dict[str, dict[str, float]] = {}
    heads = f"{'set':22} {'precision':>9} {'recall':>7} {'systems':>8} {'pages':>6} {'s/page':>7}"
    print(heads, *(f"{name:>6}" for name in BOXES))
    for name, pages in sets.items():
        tally = measure(name, pages, args.draw)
        results[name] = row = tally.summary()
        print(
            f"{name:22} {row['precision']:9.4f} {row['recall']:7.4f} {row['systems']:8.0f} "
            f"{row['pages']:6.0f} {row['seconds_per_page']:7.3f} "
            + " ".join(f"{row[name]:6.3f}" if name in row else f"{'-':>6}" for name in BOXES)
        )
        for fault in tally.faults:
            print(f"  {fault}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
