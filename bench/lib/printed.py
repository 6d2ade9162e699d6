"""The verified systems of scans, with their rows and measures, and a comparison of rows."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

MIN_IOU = 0.5
"""Intersection over union from which on two systems count as the same."""

Rows = tuple[float, float]
"""Rows of a system: its first and last line, in page widths."""
PageKey = tuple[str, int]
"""A page: name of the piece, and number of the page from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedSystem:
    """A verified system of a scan, and the measures it holds."""

    rows: Rows
    first_measure: int
    last_measure: int


def printed_systems(folder: Path) -> dict[PageKey, list[PrintedSystem]]:
    """The verified systems of each page of a set, top to bottom; pieces without any are absent."""
    truth: dict[PageKey, list[PrintedSystem]] = defaultdict(list)
    with (folder / "systems.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            if row["y_top"] and row["y_bottom"]:
                rows = (float(row["y_top"]), float(row["y_bottom"]))
                first, last = int(row["first_measure"]), int(row["last_measure"])
                system = PrintedSystem(rows=rows, first_measure=first, last_measure=last)
                truth[row["piece"], int(row["page"])].append(system)
    return truth


def iou(a: Rows, b: Rows) -> float:
    """Intersection over union of two ranges of rows."""
    common = min(a[1], b[1]) - max(a[0], b[0])
    return max(common, 0.0) / (max(a[1], b[1]) - min(a[0], b[0]))
