"""Answers requests that browse: the documents of the generation in force, their pages and their sound."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from engine.media import SOUND
from server import catalogue
from server.answering import KnownDocument, Reply
from server.browsing import Browsing, ExportDocument, ListDocuments, PlaySound, ShowDocument, ShowPage
from server.config import Limits
from server.errors import RequestError
from server.exporting import Exporter
from server.media import DocumentMedia
from server.messages import StoredQuery
from server.shelf import Generation, Shelf

Result = TypeVar("Result")

THREADS = 4
"""Threads that read documents and their files."""


class Library:
    """Shows the documents of a shelf. Its work runs in threads of its own, so that queries do not wait for disks."""

    def __init__(self, shelf: Shelf, limits: Limits) -> None:
        self._shelf = shelf
        self._media = DocumentMedia(limits.add_media, limits.decode_bytes)
        self._exporter = Exporter(self._media, shelf.alignment)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="library")

    async def answer(self, body: Browsing) -> Reply:
        """Returns the reply to a request. Raises ServerError or CollectionError."""
        return await self._run(functools.partial(self._answer, body))

    async def known(self, asked: StoredQuery) -> KnownDocument:
        """Returns a document as a query. Raises RequestError if it is of another kind, or DocumentMissingError."""
        return await self._run(functools.partial(self._known, asked))

    async def prepare(self) -> None:
        """Starts what shows pages."""
        await self._run(self._media.start)

    async def close(self) -> None:
        """Ends the threads and the process that draws."""
        await asyncio.to_thread(self._media.close)
        self._threads.shutdown()

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _answer(self, body: Browsing) -> Reply:
        with self._shelf.taken() as generation:
            return Reply(generation=generation.number, result=self._result(body, generation))

    def _result(self, body: Browsing, generation: Generation) -> dict[str, Any]:
        if isinstance(body, ListDocuments):
            return generation.catalogue.listed(body)
        document = generation.collection.document(body.id)
        match body:
            case ShowDocument():
                known = {"systems": catalogue.systems(document), "media": self._media.has(document)}
                return catalogue.facts(document) | known
            case ShowPage():
                kept = generation.collection.media(document.id, body.looks.page)
                part = self._media.page(document, body.looks, kept)
            case PlaySound():
                part = self._media.sound(document, body, generation.collection.media(document.id, SOUND))
            case ExportDocument():
                part = self._exporter.file(document, body, generation.collection)
        return {"type": part.type, "total": part.total, "data": part.data}

    def _known(self, asked: StoredQuery) -> KnownDocument:
        with self._shelf.taken() as generation:
            document = generation.collection.document(asked.document)
            if document.kind != asked.kind:
                raise RequestError(f"kind: expected {document.kind}, which the document is, got {asked.kind}")
            return KnownDocument(sequence=generation.collection.sequence(document.id), systems=document.systems)
