"""Pictures of pages and sound of documents, from the files that the documents were made from, and from no others.

A file is a document's own if it has the content hash that the collection stores. So an edited file is not shown beside
systems that lie elsewhere, and a collection that names other files of this machine does not open them. Pages are drawn
in a process of their own, because decoders of pages die.
"""

import functools
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import media
from engine.config import MediaLimits
from engine.embedding import documents
from engine.errors import MediaError
from engine.export.material import PageSize, page_sizes
from engine.score import facsimile, pages
from engine.values import Document
from engine.workers import Codec, Failure, Worker
from server.browsing import Looks, PlaySound
from server.decoding import limit_memory
from server.errors import DocumentMissing, MediaRefused

CACHE_BYTES = 64 << 20
"""Size of the pictures that are kept in memory."""
DRAWING_S = 20.0
"""Time to draw a page, or to find out how large the pages of a score are."""
MAX_SIZED = 100
"""Scores whose sizes of pages are kept in memory."""
MAX_SIDE_PX = 100_000
"""Longest side that a page may have, beyond what any page has that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPart:
    """A part of a file."""

    type: str
    """Media type of the file."""
    total: int
    """Size of the whole file in bytes."""
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """A page to draw, for the worker."""

    source: Path | bytes
    """The document's file or folder, or the picture that the collection keeps of the page."""
    looks: Looks
    limits: MediaLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizing:
    """A score whose pages are measured, for the worker."""

    source: Path
    pages: int
    limits: MediaLimits


class DocumentMedia:
    """Shows the pages and plays the sound of documents. Any thread may call its methods."""

    def __init__(self, limits: MediaLimits, memory_bytes: int) -> None:
        """Starts with nothing.

        limits: on the pages of a score. memory_bytes: memory that drawing a page may take.
        """
        self._limits = limits
        self._work = functools.partial(_done, memory_bytes)
        self._drawing = threading.Lock()
        self._worker: Worker | None = None
        self._pictures: OrderedDict[tuple[str, Looks], bytes] = OrderedDict()
        self._sizes: OrderedDict[str, Mapping[int, PageSize]] = OrderedDict()
        self._hashing = threading.Lock()
        self._hashes: dict[Path, tuple[object, str]] = {}
        """The state of a source when its hash was taken, and the hash."""

    def start(self) -> None:
        """Starts the process that draws, so that the first page does not wait for it."""
        with self._drawing:
            self._worker = self._worker or Worker(self._work, enter=_ready, codec=_CODEC)

    def has(self, document: Document) -> bool:
        """Returns whether a browser can be shown the document: from what is kept, or its file, which is not read."""
        if document.media:
            return True
        path = _path(document)
        playable = document.kind == "score" or path.suffix.lower() in media.SOUND_TYPES
        return path.is_absolute() and playable and path.exists()

    def page(self, document: Document, wanted: Looks, kept: bytes | None) -> MediaPart:
        """Returns the picture of a page. Raises DocumentMissing or MediaRefused.

        kept: the picture that the collection keeps, which is `engine.media.PICTURE_PX` wide. Where a larger one is
            wanted, the file is drawn, if it is there.
        """
        if document.kind != "score" or wanted.page > document.pages:
            raise DocumentMissing(f"page: expected one of the {document.pages} pages of a score, got {wanted.page}")
        source, key = self._source(document, wanted, kept), (document.content_hash, wanted)
        if isinstance(source, bytes) and wanted.turn == 0 and wanted.width >= media.PICTURE_PX:
            return MediaPart(type=facsimile.TYPE, total=len(source), data=source)
        with self._drawing:
            if key not in self._pictures:
                self._pictures[key] = self._drawn(source, wanted)
            self._pictures.move_to_end(key)
            while sum(map(len, self._pictures.values())) > CACHE_BYTES and len(self._pictures) > 1:
                self._pictures.popitem(last=False)
            data = self._pictures[key]
        return MediaPart(type=facsimile.TYPE, total=len(data), data=data)

    def sound(self, document: Document, wanted: PlaySound, kept: bytes | None) -> MediaPart:
        """Returns a part of the sound of a recording: of the kept one, or else of its file. Raises DocumentMissing."""
        if kept is not None:
            part = kept[wanted.start : wanted.start + wanted.size]
            return MediaPart(type=media.SOUND_TYPE, total=len(kept), data=part)
        type = media.SOUND_TYPES.get(_path(document).suffix.lower())
        if document.kind != "recording" or type is None:
            raise DocumentMissing("expected a recording in a format that browsers play")
        with self._own(document).open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            file.seek(min(wanted.start, total))
            return MediaPart(type=type, total=total, data=file.read(wanted.size))

    def sizes(self, score: Document, kept: Callable[[], Mapping[int, PageSize]]) -> Mapping[int, PageSize]:
        """Returns the sizes of the pages of a score. Raises DocumentMissing or MediaRefused.

        kept: returns the sizes of the pictures that the collection keeps, which count where the file is gone.
        """
        try:
            source = self._own(score)
        except DocumentMissing:
            if found := kept():
                return found
            raise
        with self._drawing:
            if score.content_hash not in self._sizes:
                sizing = _Sizing(source=source, pages=score.pages, limits=self._limits)
                self._sizes[score.content_hash] = _sizes(self._worked(sizing, score.id))
            self._sizes.move_to_end(score.content_hash)
            if len(self._sizes) > MAX_SIZED:
                self._sizes.popitem(last=False)
            return self._sizes[score.content_hash]

    def close(self) -> None:
        """Ends the process that draws."""
        with self._drawing:
            if self._worker is not None:
                self._worker.end()
                self._worker = None

    def _source(self, document: Document, wanted: Looks, kept: bytes | None) -> Path | bytes:
        """Returns what a page is drawn from. Raises DocumentMissing if nothing is left of it."""
        if kept is not None and wanted.width <= media.PICTURE_PX:
            return kept
        try:
            return self._own(document)
        except DocumentMissing:
            if kept is None:
                raise
            return kept

    def _own(self, document: Document) -> Path:
        """Returns the document's file or folder. Raises DocumentMissing unless it has the document's content."""
        path = _path(document)
        if not path.is_absolute():
            raise DocumentMissing("the file of this document was sent, and is not kept")
        try:
            with self._hashing:
                state = _state(path)
                if self._hashes.get(path, (None, ""))[0] != state:
                    self._hashes[path] = state, documents.content_hash(path)
                own = self._hashes[path][1] == document.content_hash
        except (MediaError, OSError) as exc:
            raise DocumentMissing("the file of this document is not there any more") from exc
        if not own:
            raise DocumentMissing("the file of this document has changed since it was added")
        return path

    def _drawn(self, source: Path | bytes, wanted: Looks) -> bytes:
        """Returns a page that the worker draws. Raises MediaRefused."""
        drawing = _Drawing(source=source, looks=wanted, limits=self._limits)
        return self._worked(drawing, f"page {wanted.page}")

    def _worked(self, task: _Drawing | _Sizing, what: str) -> bytes:
        """Returns what the worker makes of a task. what: it is, for the error. Raises MediaRefused."""
        if self._worker is None or not self._worker.alive:
            self._worker = Worker(self._work, enter=_ready, codec=_CODEC)
        self._worker.send(task)
        made: bytes | Failure = self._worker.receive(DRAWING_S)
        if isinstance(made, Failure):
            raise MediaRefused(f"{what}: {made.cause}")
        return made


def _ready() -> None:
    """Does nothing in the process that draws. The time that the process takes to start is no time of its first page."""


def _encoded(drawn: bytes | Failure) -> list[bytes]:
    """Returns the result of the worker as bytes that tell a picture from a failure."""
    return [b"-" + drawn.cause.encode("utf-8", "replace") if isinstance(drawn, Failure) else b"+" + drawn]


def _decoded(parts: Iterator[bytes]) -> bytes | Failure:
    """Returns the result that the worker has sent."""
    data = next(parts)
    return data[1:] if data[:1] == b"+" else Failure(cause=data[1:].decode("utf-8", "replace"))


_CODEC = Codec(encode=_encoded, decode=_decoded)
"""What the worker sends and gets. It has read a file that may be hostile, so what it sends is not unpickled."""


def _path(document: Document) -> Path:
    """Returns the path that a document was made from; not absolute for an upload."""
    return Path(document.source)


def _state(path: Path) -> object:
    """Returns what tells a changed source from the same one: the sizes and times of its files."""
    files = pages.page_files(path)
    return tuple((file.name, status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()])


def _sizes(data: bytes) -> Mapping[int, PageSize]:
    """Returns the sizes that the worker has sent, which may be anything. Raises MediaRefused."""
    try:
        sizes = {
            int(number): PageSize(width=int(width), height=int(height)) for number, width, height in json.loads(data)
        }
    except (ValueError, TypeError) as exc:
        raise MediaRefused("the sizes of the pages cannot be read") from exc
    if not all(0 < side <= MAX_SIDE_PX for size in sizes.values() for side in (size.width, size.height)):
        raise MediaRefused("the sizes of the pages cannot be read")
    return sizes


def _done(memory_bytes: int, task: _Drawing | _Sizing) -> bytes | Failure:
    """Draws a page, or measures the pages of a score; runs in the worker."""
    limit_memory(memory_bytes)
    try:
        if isinstance(task, _Sizing):
            sizes = page_sizes(task.source, task.pages, task.limits)
            return json.dumps([(number, size.width, size.height) for number, size in sizes.items()]).encode()
        looks = task.looks
        if isinstance(task.source, bytes):
            return facsimile.redrawn(task.source, turn=looks.turn, width=looks.width)
        return media.page_picture(task.source, looks.page, turn=looks.turn, width=looks.width, limits=task.limits)
    except MediaError as exc:
        return Failure(cause=exc.cause)
    except MemoryError:
        return Failure(cause=f"takes more than the {memory_bytes >> 20} MiB that are allowed")
