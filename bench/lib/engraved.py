"""Engraved pages whose systems are known: pieces of the demo, clean, and degraded like prints and scans."""

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.workers import Failure, each
from indexer.demo.pieces import PIECES, DemoPiece, corpus
from indexer.demo.two_staves import two_staves
from indexer.synthesis.degrade import degrade_page
from indexer.synthesis.engrave import EngravedPage, Engraver, EngravingError, random_layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A page and the rows of its systems, first and last staff line in page widths."""

    name: str
    page: NDArray[np.uint8]
    systems: list[tuple[float, float]]


def pages(*, degraded: bool, every: int = 1, jobs: int = 2) -> Iterator[Known]:
    """The pages of every `every`-th piece of the demo, in layouts with a fixed seed; pieces that fail are left out."""
    work = partial(_pages, folder=corpus(), degraded=degraded)
    for _, made in each(work, PIECES[::every], jobs=jobs, expected=(EngravingError,)):
        if not isinstance(made, Failure):
            yield from made


def _pages(piece: DemoPiece, *, folder: Path, degraded: bool) -> list[Known]:
    """The pages of one piece. Runs in a worker process, because Verovio may crash."""
    rng = np.random.default_rng(zlib.crc32(piece.id.encode()))
    mei = two_staves(folder / piece.file, piece.staves, piece.bars, title=piece.title, composer=piece.composer)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "piece.mei"
        path.write_text(mei, encoding="utf-8")
        engraver = Engraver(path)
    layout = random_layout(rng)
    return [
        known(f"{piece.id}_p{number:02}", page, layout.staff_space_px, rng if degraded else None)
        for number, page in enumerate(engraver.pages(layout), start=1)
    ]


def known(name: str, page: EngravedPage, staff_space_px: float, rng: np.random.Generator | None) -> Known:
    """An engraved page and its systems, as they lie on the page degraded by `rng` unless that is None."""
    rows = [(system.box.y0, system.box.y1) for system in page.systems]
    if rng is None:
        return Known(name=name, page=page.image, systems=rows)
    scan = degrade_page(page.image, staff_space_px, rng)
    width = page.image.shape[1]
    # Skew and bend move a system up or down as a whole. Its height at the middle of its length does not change.
    middles = np.array([[(s.box.x0 + s.box.x1) / 2 * width, (s.box.y0 + s.box.y1) / 2 * width] for s in page.systems])
    moved = (scan.warp(middles.reshape(-1, 2))[:, 1] - middles.reshape(-1, 2)[:, 1]) / width
    return Known(
        name=name, page=scan.image, systems=[(a + m, b + m) for (a, b), m in zip(rows, moved.tolist(), strict=True)]
    )
