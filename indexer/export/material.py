"""What an export is made of: a score, how large its pages are, and a recording that is aligned with it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import symbols
from engine.alignment import Backend
from engine.collection import AnyCollection
from engine.config import Alignment
from engine.embedding import documents
from engine.errors import MediaError
from engine.measures import PrintedMeasure, printed_measures
from engine.pairing import AlignedPair, EmbeddedDocument, align
from engine.score import Score, numbered_pages
from engine.symbols.layout import Layout
from engine.values import Document, System
from indexer.errors import ExportError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSize:
    """The size of a page as it lies in its file, in px."""

    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectangle:
    """A rectangle on a page as it lies in its file, in px."""

    x: int
    y: int
    width: int
    height: int

    @property
    def xywh(self) -> str:
        """Returns the rectangle as a media fragment has it."""
        return f"{self.x},{self.y},{self.width},{self.height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportMaterial:
    """What an export is made of."""

    score: Document
    pages: Mapping[int, PageSize]
    """Size of each page by its number; empty if the format needs none."""
    pair: AlignedPair | None
    """The score with a recording; None if there is none."""
    base: str
    """URL of the server that shows the documents, without a slash at the end."""

    def rectangle(self, system: System, x0: float | None = None, x1: float | None = None) -> Rectangle:
        """Returns the place of a system, or of its part from `x0` to `x1`, in px of the page as it lies in its file.

        x0, x1: in page widths, as those of the system.
        """
        size, box = self.pages[system.page], system.box
        on_side = system.turn in (90, 270)
        unit = size.height if on_side else size.width  # the width of the page that is turned
        left, right = (box.x0 if x0 is None else x0) * unit, (box.x1 if x1 is None else x1) * unit
        top, bottom = box.y0 * unit, box.y1 * unit
        if system.turn == 90:
            left, top, right, bottom = top, size.height - right, bottom, size.height - left
        elif system.turn == 180:
            left, top, right, bottom = size.width - right, size.height - bottom, size.width - left, size.height - top
        elif system.turn == 270:
            left, top, right, bottom = size.width - bottom, left, size.width - top, right
        x, y = max(0, round(left)), max(0, round(top))
        return Rectangle(
            x=x,
            y=y,
            width=max(1, min(round(right), size.width) - x),
            height=max(1, min(round(bottom), size.height) - y),
        )


def material(
    collection: AnyCollection,
    id: str,
    recording: str | None,
    backend: Backend,
    settings: Alignment,
    *,
    sized: bool,
    base: str,
) -> ExportMaterial:
    """Returns the material of a score in a collection and, if its id is given, of a recording of it.

    sized: whether the format needs the sizes of the pages, which are read from the score's file.
    Raises DocumentMissingError if a document is missing, ExportError if it is of the wrong kind, and MediaError if the
    file of the score is needed and cannot be read.
    """
    score = _of_kind(collection.document(id), "score")
    pages = page_sizes(score) if sized else {}
    pair = None
    if recording is not None:
        heard = _of_kind(collection.document(recording), "recording")
        pair = align(
            EmbeddedDocument(document=score, sequence=collection.sequence(score.id)),
            EmbeddedDocument(document=heard, sequence=collection.sequence(heard.id)),
            backend,
            settings,
            _measures(score, collection),
        )
    return ExportMaterial(score=score, pages=pages, pair=pair, base=base.rstrip("/"))


def page_sizes(score: Document) -> dict[int, PageSize]:
    """Returns the sizes of the pages of a score by their numbers. Raises MediaError if its file cannot be read."""
    path = _source(score)
    if path.is_file() and symbols.is_symbolic(path):
        layout = Layout()
        engraved = PageSize(
            width=layout.width_px, height=round(layout.width_px * layout.page_height / layout.page_width)
        )
        return dict.fromkeys(range(1, score.pages + 1), engraved)
    return {number: PageSize(width=page.shape[1], height=page.shape[0]) for number, page in numbered_pages(path)}


def _of_kind(document: Document, kind: str) -> Document:
    if document.kind != kind:
        raise ExportError(f"{document.id}: expected a {kind}, got a {document.kind}")
    return document


def _source(score: Document) -> Path:
    """Returns the file or folder of a score. Raises MediaError if it is gone, or has other pages now."""
    path = Path(score.source)
    if not path.is_absolute() or not path.exists():
        raise MediaError(path, f"the pages of {score.id} are needed, and are not there")
    if documents.content_hash(path) != score.content_hash:
        raise MediaError(path, f"has changed since {score.id} was added: add it again")
    return path


def _measures(score: Document, collection: AnyCollection) -> tuple[PrintedMeasure, ...]:
    """Returns the measures of a score, or none and a warning if its pages cannot be read as they were."""
    try:
        read = documents.read(_source(score), "score", collection.network.front_end)
    except MediaError as exc:
        logger.warning("%s; the time map has no measures", exc)
        return ()
    if not isinstance(read, Score) or len(read.systems) != len(score.systems):
        logger.warning("%s: other systems are found than when it was added; the time map has no measures", score.id)
        return ()
    return printed_measures(read)
