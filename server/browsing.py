"""Requests that browse the collection: which documents there are, what is known of one, its pages and its sound."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from engine.values import ExportFormat, Kind
from server.errors import RequestError
from server.fields import Fields

MAX_LISTED = 1000
"""Documents in one reply to `documents`."""
MAX_PAGE = 1_000_000
MAX_WIDTH_PX = 2400
MAX_PART_BYTES = 1 << 20
"""Bytes of a file of sound in one reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDocuments:
    """Asks which documents have some words in their id, title, composer or work."""

    search: str
    """The words; empty: every document has them."""
    kind: Kind | None
    skip: int
    """Number of documents that the reply leaves out at the beginning."""
    most: int
    """Most documents in the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowDocument:
    """Asks for the facts about a document."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Says which picture of a score is wanted."""

    page: int
    turn: int
    """Degrees by which the page is turned clockwise: 0, 90, 180 or 270."""
    width: int
    """Width of the picture in px, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowPage:
    """Asks for a picture of a page of a score."""

    id: str
    looks: Looks


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaySound:
    """Asks for a part of the file of a recording."""

    id: str
    start: int
    """First byte of the part."""
    size: int
    """Bytes of the part, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportDocument:
    """Asks for a score, or a score and its recording, as a file that other programs read."""

    id: str
    """The score's id."""
    recording: str
    """The recording's id; empty: none."""
    format: ExportFormat
    base: str
    """URL under which the client reaches the server, for the addresses in the file; no slash at the end."""


Browsing = ListDocuments | ShowDocument | ShowPage | PlaySound | ExportDocument


def _list_documents(fields: Fields) -> ListDocuments:
    """Parses the body of `documents`."""
    return ListDocuments(
        search=fields.text("search", ""),
        kind=fields.kind("kind", lambda: None),
        skip=fields.whole("skip", 0, minimum=0, maximum=1 << 31),
        most=fields.whole("most", MAX_LISTED, maximum=MAX_LISTED),
    )


def looks(fields: Fields) -> Looks:
    """Takes the fields that say which picture of a score is wanted."""
    turn = fields.take("turn", int, 0)
    if turn not in (0, 90, 180, 270):
        raise RequestError(f"turn: expected 0, 90, 180 or 270, got {turn}")
    return Looks(
        page=fields.whole("page", maximum=MAX_PAGE), turn=turn, width=fields.whole("width", 1200, maximum=MAX_WIDTH_PX)
    )


def _play_sound(fields: Fields) -> PlaySound:
    """Parses the body of `sound`."""
    return PlaySound(
        id=fields.text("document"),
        start=fields.whole("start", 0, minimum=0, maximum=1 << 62),
        size=fields.whole("size", MAX_PART_BYTES, maximum=MAX_PART_BYTES),
    )


def _export(fields: Fields) -> ExportDocument:
    """Parses the body of `export`."""
    format: Any = fields.choice("format", get_args(ExportFormat))
    base = fields.text("base")
    if not base.startswith(("http://", "https://")):
        raise RequestError("base: expected the URL of the server, http or https")
    return ExportDocument(
        id=fields.text("document"), recording=fields.text("recording", ""), format=format, base=base.rstrip("/")
    )


BODIES: dict[str, Callable[[Fields], Browsing]] = {
    "documents": _list_documents,
    "document": lambda fields: ShowDocument(id=fields.text("document")),
    "page": lambda fields: ShowPage(id=fields.text("document"), looks=looks(fields)),
    "sound": _play_sound,
    "export": _export,
}
"""The parser of each operation's fields, by its name."""
