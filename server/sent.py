"""Files that clients send with their requests: a recording, a PDF, or images of pages."""

import re
from dataclasses import dataclass
from pathlib import PurePath

from engine.embedding import folders
from engine.score import pages
from engine.values import Kind
from server.errors import RequestError
from server.fields import Fields, quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that a client sends: a recording, a PDF, or an image of pages."""

    name: str
    """The client's name for the file. Its suffix decides the kind, and error messages contain the name."""
    data: bytes

    @property
    def suffix(self) -> str:
        """The suffix of the name, in lower case; empty if it is not made of one to eight letters and digits."""
        suffix = PurePath(self.name).suffix.lower()
        return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A recording in one file, or a score in one file or in several images."""

    kind: Kind
    files: tuple[File, ...]


def sent_media(fields: Fields, among: Kind | None = None) -> Media:
    """Parses the files of a query or an addition. among: the kind of document that a query names, if it does."""
    given = fields.take("media", list)
    files = tuple(_file(Fields(part if isinstance(part, dict) else {}, f"media.{i}.")) for i, part in enumerate(given))
    if not files:
        raise RequestError("media: expected at least one file, got none")
    kind = fields.kind("kind", lambda: _kind_of(files[0], among))
    if len(files) > 1 and (kind == "recording" or any(file.suffix not in pages.IMAGE_SUFFIXES for file in files)):
        raise RequestError("media: expected one file, or several images of pages by their names")
    return Media(kind=kind, files=files)


def _file(fields: Fields) -> File:
    """Parses one file."""
    file = File(name=fields.text("name"), data=fields.take("data", bytes))
    fields.none_left()
    return file


def _kind_of(file: File, among: Kind | None) -> Kind:
    """Returns the kind that the file's suffix tells. Raises RequestError if it tells none."""
    kind = folders.kind_by_suffix(file.suffix, among)
    if kind is None:
        raise RequestError(
            f"kind: expected score or recording, because the name {quoted(file.name)} does not tell the kind"
        )
    return kind
