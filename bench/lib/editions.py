"""Editions of scores in symbols: engraved in a random layout, degraded like scans, with the place of each note."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.synthesis.degrade import degrade_page
from indexer.synthesis.engrave import EngravedPage, Engraver, random_layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """The pages of an edition, and where its notes are."""

    pages: tuple[NDArray[np.uint8], ...]
    """uint8 (height, width), white 255."""
    note_page: NDArray[np.int64]
    """Number of the page of each note, (n,), from 1."""
    notes: NDArray[np.float64]
    """x and y of each note in page widths, and its onset in quarters, (n, 3); y is that of the middle of its system."""


def edition(notation: Path, name: str, number: int) -> Edition:
    """Returns an edition of a score in symbols: always the same for one name and number.

    Raises EngravingError if Verovio cannot read the file (MusicXML, kern, MEI).
    """
    rng = np.random.default_rng([number, *hashlib.sha256(name.encode()).digest()[:8]])
    layout, pages, numbers, notes = random_layout(rng), [], [], []
    for page, engraved in enumerate(Engraver(notation).pages(layout), start=1):
        image, places = _scanned(engraved, layout.staff_space_px, rng)
        pages.append(image)
        notes.append(places)
        numbers.append(np.full(len(places), page))
    return Edition(pages=tuple(pages), note_page=np.concatenate(numbers), notes=np.concatenate(notes))


def _scanned(
    page: EngravedPage, staff_space_px: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Returns a page like a scan, and x, y and onset of each note on it."""
    scan, width = degrade_page(page.image, staff_space_px, rng), page.image.shape[1]
    middles = {system.number: (system.box.y0 + system.box.y1) / 2 for system in page.systems}
    heights = np.array([middles[number] for number in page.note_system.tolist()])
    places = scan.warp(np.stack([page.note_x, heights], axis=1).reshape(-1, 2) * width) / width
    return scan.image, np.column_stack([places, page.note_quarter])
