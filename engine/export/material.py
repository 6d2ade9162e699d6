"""What an export is made of: a score, how large its pages are, and a recording that is aligned with it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from engine import media, symbols
from engine.alignment import Backend
from engine.collection import AnyCollection
from engine.config import GENEROUS, Alignment, MediaLimits
from engine.embedding import documents
from engine.errors import ExportError, MediaError
from engine.measures import PrintedMeasure, printed_measures
from engine.pairing import AlignedPair, EmbeddedDocument, align
from engine.score import Score, facsimile
from engine.symbols.layout import Layout
from engine.values import Document, Kind, System

logger = logging.getLogger(__name__)

PICTURE_TYPE = facsimile.TYPE
"""Media type with which a server sends pictures of pages."""


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
    measures: tuple[PrintedMeasure, ...] = ()
    """The measures of the score; empty if its pages were not read."""

    @property
    def systems(self) -> tuple[System, ...]:
        """Returns the systems of the pages whose size is known."""
        return tuple(system for system in self.score.systems if system.page in self.pages)

    def address(self, document: Document) -> str:
        """Returns the URL of a document of the server."""
        return f"{self.base}/documents/{quoted(document.id)}"

    def picture_address(self, page: int, width: int) -> str:
        """Returns the URL of the picture of a page, of this width in px."""
        return f"{self.address(self.score)}/pages/{page}?width={width}"

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


def quoted(id: str) -> str:
    """Returns an id as it stands in a URL."""
    return quote(id, safe="", errors="replace")


def sound_type(recording: Document) -> str:
    """Returns the media type with which a server sends a recording: the kept sound, or else the file.

    Of a file that no server sends, it is the type of kept sound.
    """
    if recording.media:
        return media.SOUND_TYPE
    return media.SOUND_TYPES.get(Path(recording.source).suffix.lower(), media.SOUND_TYPE)


def material(
    collection: AnyCollection,
    id: str,
    recording: str | None,
    backend: Backend,
    settings: Alignment,
    *,
    sized: bool,
    base: str,
    measured: bool = False,
) -> ExportMaterial:
    """Returns the material of a score in a collection and, if its id is given, of a recording of it.

    measured: whether the measures of a score alone are wanted, for which its pages are read.
    sized: whether the format needs the sizes of the pages, which are read from the score's file or, if that is gone,
        from the pictures that the collection keeps.
    Raises DocumentMissingError if a document is missing, ExportError if it is of the wrong kind, and MediaError if the
    sizes are needed and cannot be read.
    """
    score = document_of_kind(collection, id, "score")
    pages = _sizes(collection, score) if sized else {}
    measures = _measures(score, collection) if measured or recording is not None else ()
    pair = None if recording is None else paired(collection, score, recording, backend, settings, measures)
    return ExportMaterial(score=score, pages=pages, pair=pair, base=base.rstrip("/"), measures=measures)


def document_of_kind(collection: AnyCollection, id: str, kind: Kind) -> Document:
    """Returns a document of a collection. Raises DocumentMissingError, or ExportError if it is of the other kind."""
    document = collection.document(id)
    if document.kind != kind:
        raise ExportError(f"{document.id}: expected a {kind}, got a {document.kind}")
    return document


def paired(
    collection: AnyCollection,
    score: Document,
    recording: str,
    backend: Backend,
    settings: Alignment,
    measures: tuple[PrintedMeasure, ...] = (),
) -> AlignedPair:
    """Returns a score of a collection with a recording of it. recording: the recording's id.

    Raises DocumentMissingError, ExportError if the document is no recording, and MediaError as `align` does.
    """
    heard = document_of_kind(collection, recording, "recording")
    return align(
        EmbeddedDocument(document=score, sequence=collection.sequence(score.id)),
        EmbeddedDocument(document=heard, sequence=collection.sequence(heard.id)),
        backend,
        settings,
        measures,
    )


def page_sizes(path: Path, pages: int, limits: MediaLimits = GENEROUS) -> dict[int, PageSize]:
    """Returns the sizes of the pages of a score by their numbers.

    path: the score's file or folder. pages: how many pages the score has.
    Raises MediaError if the file cannot be read.
    """
    if path.is_file() and symbols.is_symbolic(path):
        layout = Layout()
        height = round(layout.width_px * layout.page_height / layout.page_width)
        return dict.fromkeys(range(1, pages + 1), PageSize(width=layout.width_px, height=height))
    sizes = facsimile.page_sizes(path, limits)
    return {number: PageSize(width=width, height=height) for number, (width, height) in sizes.items()}


def kept_sizes(collection: AnyCollection, score: Document) -> dict[int, PageSize]:
    """Returns the sizes of the pictures of pages that a collection keeps, by the numbers of the pages."""
    kept = ((number, collection.media(score.id, number)) for number in range(1, score.pages + 1))
    sizes = {number: facsimile.picture_size(picture) for number, picture in kept if picture is not None}
    return {number: PageSize(width=width, height=height) for number, (width, height) in sizes.items()}


def _sizes(collection: AnyCollection, score: Document) -> dict[int, PageSize]:
    """Returns the sizes of the pages of a score. Raises MediaError if neither its file nor pictures are there."""
    try:
        return page_sizes(_source(score), score.pages)
    except MediaError as exc:
        if found := kept_sizes(collection, score):
            logger.info("%s; the pictures that the collection keeps are taken", exc)
            return found
        raise


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
