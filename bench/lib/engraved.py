"""Engraved pages whose systems are known: pieces of the demo, clean, and degraded like prints and scans."""

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
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
    """A page and the places of its systems, in page widths."""

    name: str
    page: NDArray[np.uint8]
    systems: list[tuple[float, float]]
    """First and last staff line of each system."""
    ends: list[tuple[float, float]] = field(default_factory=list)
    """Left and right end of each system; none if they are not known."""


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
    boxes = np.array([(s.box.x0, s.box.x1, s.box.y0, s.box.y1) for s in page.systems]).reshape(-1, 4)
    image, width = page.image, page.image.shape[1]
    if rng is not None:
        scan = degrade_page(image, staff_space_px, rng)
        image, left, right = scan.image, boxes[:, 0], boxes[:, 1]
        height = (boxes[:, 2] + boxes[:, 3]) / 2
        (left, _), (_, y), (right, _) = (
            (scan.warp(np.stack([x, height], axis=1) * width) / width).T for x in (left, (left + right) / 2, right)
        )
        # Skew and bend move a system up or down as a whole. Its height at the middle of its length does not change.
        boxes = np.stack([left, right, boxes[:, 2] + y - height, boxes[:, 3] + y - height], axis=1)
    return Known(
        name=name,
        page=image,
        systems=[(top, bottom) for _, _, top, bottom in boxes.tolist()],
        ends=[(left, right) for left, right, _, _ in boxes.tolist()],
    )
