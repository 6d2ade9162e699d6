"""Systems on engraved pages that were made to look like scans: how many are found, and how much of what is found."""

from pathlib import Path

import numpy as np

from bench.lib.engraved import Known, known
from bench.lib.printed import iou
from engine.score import find_systems, normalise_grey
from indexer.synthesis.engrave import Engraver, random_layout
from small_scores import write_piano

SEEDS = (0, 2, 4, 7, 10, 11, 12, 16, 20, 22, 25, 29)
"""Pages with stems and slurs that reach far into the gaps between systems; 11 is among the worst of all."""
MIN_IOU = 0.8
MIN_RECALL, MIN_PRECISION = 0.95, 0.95


def degraded_page(seed: int, folder: Path) -> Known:
    """The first page of a piece for piano."""
    rng = np.random.default_rng(seed)
    layout = random_layout(rng)
    page = next(Engraver(write_piano(folder / f"{seed}.krn", seed)).pages(layout, limit=1))
    return known(str(seed), page, layout.staff_space_px, rng)


def test_nearly_all_systems_of_degraded_pages_are_found_whole(tmp_path: Path) -> None:
    printed = found = right = 0
    for page in (degraded_page(seed, tmp_path) for seed in SEEDS):
        systems = find_systems(normalise_grey(page.page))
        whole = [(system.box.y0, system.box.y1) for system in systems if len(system.staves) == 2]
        printed += len(page.systems)
        found += len(systems)
        right += sum(any(iou(rows, other) >= MIN_IOU for other in whole) for rows in page.systems)
    assert printed > 55
    assert right / printed >= MIN_RECALL
    assert right / found >= MIN_PRECISION
