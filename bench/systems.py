"""How well, and how fast, are systems found on engraved pages and on real scans? Precision and recall.

    python -m bench.systems [--data DIR] [--quick] [--json FILE] [--draw DIR]
    python -m bench.systems --explain PAGE [--draw DIR]

DIR holds data sets, each a folder with `systems.csv` (piece, page, y_top, y_bottom in page widths) and
`pages/PIECE_pNN.tif`. A system counts as found when its rows overlap the true ones by an IoU of 0.5 or more.
Pieces without a verified row are left out. `engraved` and `engraved_degraded` are pages of the demo's pieces, clean and
made to look like scans; they need no data. `--draw` writes every page with its systems boxed.

`--explain` measures nothing: for the page, or pages, of one file, taken for upright pages, it prints the systems, which
neighbouring staves were joined, and each rejected candidate with the threshold that it missed, and draws all of that.
"""

import argparse
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from bench.lib import engraved, pictures, report
from bench.lib.engraved import Known
from bench.lib.printed import MIN_IOU, PageKey, Rows, iou, printed_systems
from engine import process
from engine.score import explain, normalise_grey, numbered_pages, placed_systems, read_pages

SETS = ("val_scans_joplin", "dev_scans_mozart", "dev_scans_bach_haydn")
QUICK_PAGES = 20


@dataclass(slots=True)
class Tally:
    """The counts over the pages of one set."""

    pages: int = 0
    systems: int = 0
    found: int = 0
    right: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        return {
            "precision": round(self.right / max(self.found, 1), 4),
            "recall": round(self.right / max(self.systems, 1), 4),
            "systems": self.systems,
            "pages": self.pages,
            "seconds_per_page": round(self.seconds / max(self.pages, 1), 3),
        }


def matches(found: list[Rows], true: list[Rows]) -> int:
    """The number of pairs of found and true systems that overlap by MIN_IOU.

    Above 0.5, no two systems can overlap with the same third one by so much.
    """
    left = list(true)
    for rows in found:
        best = max(left, key=lambda other: iou(rows, other), default=None)
        if best is not None and iou(rows, best) >= MIN_IOU:
            left.remove(best)
    return len(true) - len(left)


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
        right = matches(found, known.systems)
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
    print(f"{'set':22} {'precision':>9} {'recall':>7} {'systems':>8} {'pages':>6} {'s/page':>7}")
    for name, pages in sets.items():
        tally = measure(name, pages, args.draw)
        results[name] = row = tally.summary()
        print(
            f"{name:22} {row['precision']:9.4f} {row['recall']:7.4f} {row['systems']:8.0f} "
            f"{row['pages']:6.0f} {row['seconds_per_page']:7.3f}"
        )
        for fault in tally.faults:
            print(f"  {fault}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
