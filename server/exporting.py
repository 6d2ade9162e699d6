"""Documents in standard formats for other programs: what `scorefind export` writes, of what a server has in memory.

The pages are not read, so there are no measures: files name the systems that are played.
"""

from engine import alignment
from engine.collection import AnyCollection
from engine.config import Alignment
from engine.errors import ExportError, MediaError
from engine.export import FORMATS, ExportMaterial, exported
from engine.export.material import document_of_kind, kept_sizes, paired
from engine.values import Document
from server.browsing import ExportDocument
from server.errors import RequestError
from server.media import DocumentMedia, MediaPart

MAX_CELLS = 1 << 28
"""Snippets of a recording times snippets of a score, at most: aligning them takes as many bytes, and half a second."""


class Exporter:
    """Writes documents in standard formats. Any thread may call its method."""

    def __init__(self, media: DocumentMedia, settings: Alignment) -> None:
        """media: knows how large pages are. settings: with which a recording is aligned with a score."""
        self._media = media
        self._settings = settings
        self._backend = alignment.choose("cpu", threads=1)

    def file(self, score: Document, wanted: ExportDocument, collection: AnyCollection) -> MediaPart:
        """Returns the file that is asked for. Raises RequestError, DocumentMissing or CollectionError."""
        needs = FORMATS[wanted.format]
        try:
            document_of_kind(collection, score.id, "score")
            pages = self._media.sizes(score, lambda: kept_sizes(collection, score)) if needs.pages else {}
            pair = None
            if wanted.recording:
                heard = document_of_kind(collection, wanted.recording, "recording")
                if score.snippets * heard.snippets > MAX_CELLS:
                    raise RequestError("recording: it and the score are too long for a server; use scorefind export")
                pair = paired(collection, score, heard.id, self._backend, self._settings)
            text = exported(ExportMaterial(score=score, pages=pages, pair=pair, base=wanted.base), wanted.format)
        except (ExportError, MediaError) as exc:
            raise RequestError(str(exc)) from exc
        data = text.encode("utf-8", "backslashreplace")
        return MediaPart(type=needs.type, total=len(data), data=data)
