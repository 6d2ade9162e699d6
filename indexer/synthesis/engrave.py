"""Engraves scores in symbols into pages with the place of every note.

Verovio lays the score out and draws it as SVG; resvg turns the SVG into grey pixels. Verovio can crash the process on
odd input, so callers with many files run this module in child processes.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import verovio
from numpy.typing import NDArray

from engine.symbols.layout import VIRTUAL_STAFF_SPACE, Layout
from engine.symbols.verovio_process import png
from engine.values import Box, System

NOTEHEAD_WIDTH = 1.18 * VIRTUAL_STAFF_SPACE
"""Width of a notehead in the units of Verovio's drawings."""

FONTS = ("Leipzig", "Bravura", "Leland", "Gootville", "Petaluma")
"""Music fonts that Verovio carries."""

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"


class EngravingError(Exception):
    """An engraver cannot read or draw a score."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path}: {cause}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreNotes:
    """The sounding notes of a score, by onset; each array is (n,). Quarters count from the start of the piece.

    Repeats are played as written, so a printed note may sound more than once.
    """

    onset_quarter: NDArray[np.float64]
    duration_quarter: NDArray[np.float64]
    pitch: NDArray[np.int64]
    """MIDI pitch of each note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngravedPage:
    """One page: its picture, its systems, and the places of its noteheads."""

    image: NDArray[np.uint8]
    """uint8 (height, width), white = 255."""
    systems: tuple[System, ...]
    note_system: NDArray[np.int64]
    """(n,): `System.number` of each notehead's system."""
    note_x: NDArray[np.float64]
    """(n,): x of each notehead's centre, in page widths."""
    note_quarter: NDArray[np.float64]
    """(n,): onset of each notehead in quarters, the first time that it is played."""


def random_layout(rng: np.random.Generator) -> Layout:
    """A random layout like those of printed editions: five fonts, many page sizes, dense and wide spacing.

    Distances of systems are 8 to 15 staff spaces, half of them 10 to 12, as in scans of three editions.
    """
    page_width = int(rng.integers(1700, 2500))
    return Layout(
        font=str(rng.choice(FONTS, p=(0.25, 0.3, 0.25, 0.15, 0.05))),
        page_width=page_width,
        page_height=int(page_width * rng.uniform(1.25, 1.5)),
        spacing_linear=float(rng.uniform(0.17, 0.34)),
        spacing_system=int(rng.integers(1, 14)),
        spacing_staff=int(rng.integers(7, 16)),
        staff_line_width=float(rng.uniform(0.10, 0.22)),
        staff_space_px=float(rng.uniform(9.0, 12.0)),
    )


class Engraver:
    """A score that is loaded once and can be laid out many times."""

    def __init__(self, path: Path, semitones: int = 0) -> None:
        """Loads the score, raised by `semitones` (lowered by a negative number) into a key with few accidentals.

        Raises EngravingError if Verovio cannot read the file (MusicXML, kern, MEI).
        """
        verovio.enableLog(verovio.LOG_OFF)
        self._path = path
        self._toolkit = verovio.toolkit()
        self._toolkit.setOptions(Layout().options() | ({"transpose": f"{semitones:+d}"} if semitones else {}))
        if not self._toolkit.loadFile(str(path)):
            raise EngravingError(path, "expected MusicXML, kern or MEI that Verovio can read")
        timemap: list[Mapping[str, Any]] = self._toolkit.renderToTimemap({})
        self._onset = {note: float(entry["qstamp"]) for entry in timemap for note in entry.get("on", ())}
        self._release = {note: float(entry["qstamp"]) for entry in timemap for note in entry.get("off", ())}
        if not self._onset:
            raise EngravingError(path, "expected a score with notes, got one without")

    def notes(self) -> ScoreNotes:
        """The notes, by onset."""
        ids = sorted(self._onset, key=self._onset.__getitem__)
        onset = np.array([self._onset[note] for note in ids])
        release = np.array([self._release.get(note, self._onset[note] + 1.0) for note in ids])
        pitch = np.array([self._toolkit.getMIDIValuesForElement(note)["pitch"] for note in ids], np.int64)
        return ScoreNotes(onset_quarter=onset, duration_quarter=np.maximum(release - onset, 0.05), pitch=pitch)

    def pages(self, layout: Layout, limit: int | None = None) -> Iterator[EngravedPage]:
        """Yields the engraved pages in order, at most `limit`."""
        self._toolkit.setOptions(layout.options())
        self._toolkit.redoLayout()
        count = int(self._toolkit.getPageCount())
        systems = 0
        for number in range(1, 1 + (count if limit is None else min(count, limit))):
            page = self._draw(self._toolkit.renderToSVG(number), number, systems, layout)
            systems += len(page.systems)
            yield page

    def _draw(self, svg: str, page: int, systems_before: int, layout: Layout) -> EngravedPage:
        """The page that Verovio drew as `svg`; `systems_before` is the number of systems on earlier pages."""
        root = ET.fromstring(svg)
        drawing = next(element for element in root.iter(f"{_SVG}svg") if element.get("class") == "definition-scale")
        width = float((drawing.get("viewBox") or "").split()[2])
        margin = next(_groups(drawing, "page-margin"))
        left, top = _translation(margin)
        systems: list[System] = []
        notes: list[tuple[int, float, float]] = []
        for group in _groups(margin, "system"):
            staves = _staves(group, left, top, width)
            if not staves:
                continue
            number = systems_before + len(systems) + 1
            systems.append(_system(page, number, staves, width))
            notes += [
                (number, (x + left + NOTEHEAD_WIDTH / 2) / width, self._onset[note])
                for note, x in _noteheads(group)
                if note in self._onset
            ]
        table = np.array(notes, np.float64).reshape(-1, 3)
        return EngravedPage(
            image=rasterise(svg, layout.width_px),
            systems=tuple(systems),
            note_system=table[:, 0].astype(np.int64),
            note_x=table[:, 1],
            note_quarter=table[:, 2],
        )


def rasterise(svg: str, width_px: int) -> NDArray[np.uint8]:
    """The drawing as grey levels, uint8 (height, width_px), white = 255."""
    return np.asarray(cv2.imdecode(np.frombuffer(png(svg, width_px), np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def _groups(element: ET.Element, name: str) -> Iterator[ET.Element]:
    """The groups below `element` with this class; Verovio gives some groups several classes."""
    return (group for group in element.iter(f"{_SVG}g") if name in (group.get("class") or "").split())


def _translation(element: ET.Element) -> tuple[float, float]:
    """The x and y of the element's translation; 0 if it has none."""
    inside = (element.get("transform") or "translate(0, 0)").split("(")[1].split(")")[0]
    x, y = inside.split(",")
    return float(x), float(y)


def _staves(system: ET.Element, left: float, top: float, width: float) -> list[Box]:
    """The boxes of a system's staves, top to bottom; each is put together from the lines drawn in every measure."""
    by_position: dict[int, Box] = {}
    for measure in _groups(system, "measure"):
        for position, staff in enumerate(_groups(measure, "staff")):
            lines = [_line(path.get("d") or "") for path in staff.findall(f"{_SVG}path")[:5]]
            if len(lines) < 5:
                continue
            part = Box(
                x0=(lines[0][0] + left) / width,
                y0=(lines[0][1] + top) / width,
                x1=(lines[0][2] + left) / width,
                y1=(lines[4][1] + top) / width,
            )
            before = by_position.get(position, part)
            by_position[position] = Box(x0=min(before.x0, part.x0), y0=part.y0, x1=max(before.x1, part.x1), y1=part.y1)
    return sorted(by_position.values(), key=lambda box: box.y0)


def _line(path: str) -> tuple[float, float, float, float]:
    """The end points (x0, y0, x1, y1) of a path such as `M2276 1595 L6488 1595`."""
    start, end = path.removeprefix("M").split(" L")
    x0, y0 = start.split()
    x1, y1 = end.split()
    return float(x0), float(y0), float(x1), float(y1)


def _system(page: int, number: int, staves: list[Box], width: float) -> System:
    """The system that has these staves."""
    return System(
        page=page,
        number=number,
        box=Box(
            x0=min(staff.x0 for staff in staves),
            y0=staves[0].y0,
            x1=max(staff.x1 for staff in staves),
            y1=staves[-1].y1,
        ),
        staves=tuple(staves),
        staff_space=VIRTUAL_STAFF_SPACE / width,
        confidence=1.0,
    )


def _noteheads(system: ET.Element) -> Iterator[tuple[str, float]]:
    """Yields the id of each note and the left edge of its head."""
    for note in _groups(system, "note"):
        head = next(_groups(note, "notehead"), None)
        use = head.find(f"{_SVG}use") if head is not None else None
        if use is not None and use.get(_XLINK_HREF):
            yield note.get("id") or "", _translation(use)[0]
