"""Engraves LilyPond sources into pages with the place of every note: the second engraver, beside engrave.py.

LilyPond runs as a child process in its own folder. lilypond.ily makes LilyPond report what sounds, and put PDF links on
noteheads and staves; this module reads both. A source is a program: LilyPond has no safe mode any more, so engrave only
sources that you would run on this machine.
"""

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium

from engine.symbols.layout import Layout
from engine.values import Box, System
from indexer.synthesis.engrave import EngravedPage, EngravingError, ScoreNotes

SUFFIXES = (".ly", ".ily")

TIMEOUT_S = 400.0
"""Time limit of one run of LilyPond. A page takes about 1.5 s on one core."""

GRACE_SHARE = 0.25
"""Share of its written length that a grace note lasts; it ends on the beat."""

_REPORTER = Path(__file__).with_suffix(".ily")
_STAFF_SPACE_MM = 5 * 25.4 / 72.27
"""LilyPond's staff space at its usual staff size, 20 points."""
_LAYOUT_UNITS = 18.0
"""Staff space in the units of `Layout`."""
_INCLUDE = re.compile(rb'\\include\s*"([^"]+)"')


@dataclass(slots=True, kw_only=True)
class _Head:
    """A notehead as LilyPond reports it."""

    onset: float
    """Quarters from the start of the file's first score."""
    length: float
    """Quarters that the note sounds, with the notes tied to it."""
    pitch: int
    """MIDI pitch."""
    printed: bool
    """Whether the place of the head belongs to its onset: false for grace notes and for the later notes of a tie."""
    sounds: bool = True
    """False for the later notes of a tie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """A PDF link that lilypond.ily put on a notehead or a staff."""

    kind: str
    """`note` or `staff`."""
    index: int
    """Number of the notehead in the report; 0 for a staff."""
    system: int
    """Number of the system, in the order in which LilyPond prints links."""
    box: Box
    """Place on the page, in page widths."""


class LilyPondEngraver:
    """A LilyPond source that can be laid out many times; has the methods of `engrave.Engraver`.

    A repeat sounds once, and several scores in one file sound one after the other.
    """

    def __init__(self, path: Path) -> None:
        """Raises EngravingError if the file or LilyPond is missing. A file without music fails when LilyPond runs."""
        for program in ("lilypond", "convert-ly"):
            if shutil.which(program) is None:
                raise EngravingError(
                    path, f"needs `{program}` on PATH: install LilyPond 2.24, or leave out such scores"
                )
        if not path.is_file():
            raise EngravingError(path, "no such file")
        self._path = path
        self._heads: dict[int, _Head] = {}

    def notes(self) -> ScoreNotes:
        """The notes, by onset. Raises EngravingError if there are none."""
        if not self._heads:
            self._run(Layout(), "-dno-print-pages")
        sounding = sorted((head for head in self._heads.values() if head.sounds), key=lambda head: head.onset)
        return ScoreNotes(
            onset_quarter=np.array([head.onset for head in sounding]),
            duration_quarter=np.array([max(head.length, 0.05) for head in sounding]),
            pitch=np.array([head.pitch for head in sounding], np.int64),
        )

    def pages(self, layout: Layout, limit: int | None = None) -> Iterator[EngravedPage]:
        """Yields the engraved pages in order, at most `limit`; ignores `layout.font`.

        Raises EngravingError if LilyPond fails, or if the systems do not have two staves.
        """
        documents = [pypdfium2.PdfDocument(content) for content in self._run(layout)]
        pages = [(document, page) for document in documents for page in document]
        links = [_links(document, page) for document, page in pages]
        self._require_two_staves(links)
        systems = 0
        for number, ((_, page), on_page) in enumerate(list(zip(pages, links, strict=True))[:limit], start=1):
            engraved = _engraved(page, on_page, number, systems, self._heads, layout)
            systems += len(engraved.systems)
            yield engraved

    def _require_two_staves(self, links: list[list[_Link]]) -> None:
        """Raises EngravingError if the median system does not have two staves."""
        counts = [len(staves) for on_page in links for staves in _staves(on_page).values()]
        if not counts or np.median(counts) != 2:
            actual = f"{np.median(counts):g}" if counts else "no systems"
            raise EngravingError(self._path, f"expected systems of two staves, got {actual}")

    def _run(self, layout: Layout, *options: str) -> list[bytes]:
        """The PDF files that LilyPond makes; sets `_heads` to the noteheads that it reports."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            files = _copied(self._path, folder / "source")
            self._call("convert-ly", "-e", *map(str, files))
            with files[0].open("a") as source:
                source.write(_paper(layout))
            settings = folder / "settings.ily"
            settings.write_text(_REPORTER.read_text() + _contexts(layout))
            report = self._call(
                "lilypond",
                "-dno-point-and-click",
                f"-dinclude-settings={settings}",
                *options,
                f"--output={folder / 'piece'}",
                str(files[0]),
            )
            self._heads = _heads(report.splitlines())
            if not self._heads:
                raise EngravingError(
                    self._path, "expected a LilyPond score, got a file in which LilyPond finds no notes"
                )
            made = sorted(folder.glob("piece*.pdf"), key=lambda path: (len(path.name), path.name))
            return [path.read_bytes() for path in made]

    def _call(self, *command: str) -> str:
        """The standard output of a program. The exit code is ignored: LilyPond prints sources with small errors."""
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise EngravingError(self._path, f"{command[0]} took longer than {TIMEOUT_S:g} s") from None
        return done.stdout.decode(errors="replace")


def _copied(path: Path, folder: Path) -> list[Path]:
    """Copies of a source and of the files that it includes, with the same relative paths; the source is the first."""
    files = [path.resolve()]
    for file in files:  # the loop appends to the list
        for name in _INCLUDE.findall(file.read_bytes()):
            # As LilyPond does, search beside the including file, then beside the source.
            places = [(parent / os.fsdecode(name)).resolve() for parent in (file.parent, files[0].parent)]
            included = next((place for place in places if place.is_file()), None)
            if included is not None and included not in files:
                files.append(included)
    root = Path(os.path.commonpath([file.parent for file in files]))
    copies = [folder / file.relative_to(root) for file in files]
    for file, copy in zip(files, copies, strict=True):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return copies


def _contexts(layout: Layout) -> str:
    """Settings before the source, which may override them; they make distances of staves like Verovio's."""
    staves = 5 + layout.spacing_staff / 2
    grouper = (
        f"\\override StaffGrouper.staff-staff-spacing ="
        f" #'((basic-distance . {staves}) (minimum-distance . {staves - 2}) (padding . 0.6) (stretchability . 5))"
    )
    return f"""
\\layout {{
  \\context {{
    \\Score
    \\override SpacingSpanner.spacing-increment = #{4.8 * layout.spacing_linear}
    \\override StaffSymbol.thickness = #{6 * layout.staff_line_width}
  }}
  \\context {{ \\PianoStaff {grouper} }}
  \\context {{ \\GrandStaff {grouper} }}
}}
"""


def _paper(layout: Layout) -> str:
    """Settings after the source, which override its own: paper size and distances of systems like Verovio's."""
    width, height = (side / _LAYOUT_UNITS * _STAFF_SPACE_MM for side in (layout.page_width, layout.page_height))
    margin = 0.03 * width
    systems = layout.spacing_system
    return f"""
#(set-global-staff-size 20)
\\paper {{
  paper-width = {width}\\mm
  paper-height = {height}\\mm
  line-width = {width - 2 * margin}\\mm
  left-margin = {margin}\\mm
  right-margin = {margin}\\mm
  ragged-bottom = ##t
  page-breaking = #ly:minimal-breaking
  system-system-spacing = #'(
    (basic-distance . {8 + 0.7 * systems:.1f}) (minimum-distance . 5)
    (padding . {0.3 + systems / 6:.2f}) (stretchability . 10))
}}
"""


def _heads(report: Iterable[str]) -> dict[int, _Head]:
    """The noteheads that LilyPond reports, by number. Each score of a file starts at the end of the score before."""
    heads: dict[int, _Head] = {}
    score, start, end = "", 0.0, 0.0
    ending: dict[int, _Head] = {}
    for words in map(str.split, report):
        if words[:1] == ["scorefind-note"]:
            if words[2] != score:
                score, start = words[2], end
            onset, grace, length = (4 * float(word) for word in words[3:6])
            heads[int(words[1])] = _Head(
                onset=max(0.0, start + onset + GRACE_SHARE * grace),
                length=length * (GRACE_SHARE if grace else 1.0),
                pitch=round(float(words[6])),
                printed=not grace,
            )
            end = max(end, start + onset + length)
        elif words[:1] == ["scorefind-tied"]:
            heads[int(words[1])].sounds = heads[int(words[1])].printed = False
    for head in heads.values():  # by onset within each score
        if not head.sounds and (before := ending.get(head.pitch)) is not None:
            before.length = max(before.length, head.onset + head.length - before.onset)
        else:
            ending[head.pitch] = head
    return heads


def _links(document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage) -> list[_Link]:
    """The links on a page that lilypond.ily put there."""
    width, height = page.get_size()
    position, link, area = ctypes.c_int(0), pdfium.FPDF_LINK(), pdfium.FS_RECTF()
    links: list[_Link] = []
    while pdfium.FPDFLink_Enumerate(page, position, link):
        words = _address(document, link).split(":")
        if words[0] in ("scorefind-note", "scorefind-staff") and pdfium.FPDFLink_GetAnnotRect(link, area):
            sides = Box(
                x0=area.left / width,
                y0=(height - area.top) / width,
                x1=area.right / width,
                y1=(height - area.bottom) / width,
            )
            links.append(_Link(kind=words[0][10:], index=int(words[1]), system=int(words[2]), box=sides))
    return links


def _address(document: pypdfium2.PdfDocument, link: object) -> str:
    """The address that a link leads to."""
    action = pdfium.FPDFLink_GetAction(link)
    size = pdfium.FPDFAction_GetURIPath(document, action, None, 0)
    text = ctypes.create_string_buffer(max(1, size))
    pdfium.FPDFAction_GetURIPath(document, action, text, size)
    return text.value.decode(errors="replace")


def _staves(links: list[_Link]) -> dict[int, list[Box]]:
    """The staves of each system, top to bottom; boxes that overlap vertically are parts of one staff."""
    systems: dict[int, list[Box]] = defaultdict(list)
    for link in sorted((link for link in links if link.kind == "staff"), key=lambda link: link.box.y0):
        staves, box = systems[link.system], link.box
        if staves and box.y0 < staves[-1].y1:
            last = staves.pop()
            box = Box(x0=min(last.x0, box.x0), y0=last.y0, x1=max(last.x1, box.x1), y1=last.y1)
        staves.append(box)
    return systems


def _engraved(
    page: pypdfium2.PdfPage,
    links: list[_Link],
    number: int,
    systems_before: int,
    heads: dict[int, _Head],
    layout: Layout,
) -> EngravedPage:
    """The picture of a page with its systems and noteheads; `systems_before` is the number on earlier pages."""
    by_height = sorted(_staves(links).items(), key=lambda item: item[1][0].y0)
    systems = {
        name: _system(number, systems_before + place, staves) for place, (name, staves) in enumerate(by_height, start=1)
    }
    space = float(np.median([system.staff_space for system in systems.values()])) if systems else 1 / 100
    scale = layout.staff_space_px / (space * page.get_size()[0])
    image = page.render(scale=scale, grayscale=True, draw_annots=False).to_numpy()
    notes = [
        (systems[link.system].number, (link.box.x0 + link.box.x1) / 2, heads[link.index].onset)
        for link in links
        if link.kind == "note" and link.system in systems and heads[link.index].printed
    ]
    columns = np.array(notes, np.float64).reshape(-1, 3)
    return EngravedPage(
        image=np.ascontiguousarray(image.reshape(image.shape[:2]), dtype=np.uint8),
        systems=tuple(systems.values()),
        note_system=columns[:, 0].astype(np.int64),
        note_x=columns[:, 1],
        note_quarter=columns[:, 2],
    )


def _system(page: int, number: int, staves: list[Box]) -> System:
    """The system that has these staves."""
    box = Box(
        x0=min(staff.x0 for staff in staves), y0=staves[0].y0, x1=max(staff.x1 for staff in staves), y1=staves[-1].y1
    )
    space = float(np.median([(staff.y1 - staff.y0) / 4 for staff in staves]))
    return System(page=page, number=number, box=box, staves=tuple(staves), staff_space=space, confidence=1.0)
