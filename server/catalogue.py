"""The catalogue of a generation: its documents in order, those that a search finds, and the facts about each."""

import unicodedata
from typing import Any

from engine.collection import AnyCollection
from engine.values import Document
from server.browsing import ListDocuments


class Catalogue:
    """All documents of a collection by composer, work and title, with the words by which they are found."""

    def __init__(self, collection: AnyCollection) -> None:
        """Reads all documents without their systems: two seconds for a hundred thousand."""
        documents = sorted(collection.summaries(), key=_order)
        self._documents = [(_folded(" ".join(_texts(document))), document) for document in documents]

    def listed(self, wanted: ListDocuments) -> dict[str, Any]:
        """Returns the reply to `documents`: how many there are, and the part of them that is asked for."""
        words = _folded(wanted.search).split()
        found = [
            document
            for text, document in self._documents
            if wanted.kind in (None, document.kind) and all(word in text for word in words)
        ]
        part = found[wanted.skip : wanted.skip + wanted.most]
        return {"total": len(found), "documents": [facts(document) for document in part]}


def facts(document: Document) -> dict[str, Any]:
    """Returns the facts about a document that its owner wants known: no path, no hash."""
    return {
        "id": document.id,
        "kind": document.kind,
        "title": document.title,
        "composer": document.composer,
        "work": document.work,
        "snippets": document.snippets,
        "pages": document.pages,
        "duration_s": document.duration_s,
    }


def systems(document: Document) -> list[dict[str, Any]]:
    """Returns the systems of a score, as docs/protocol.md describes the boxes of a match."""
    return [
        {
            "page": system.page,
            "system": system.number,
            "x0": system.box.x0,
            "y0": system.box.y0,
            "x1": system.box.x1,
            "y1": system.box.y1,
            "turn": system.turn,
        }
        for system in document.systems
    ]


def _texts(document: Document) -> tuple[str, ...]:
    return document.composer, document.work, document.title, document.id


def _order(document: Document) -> tuple[str, ...]:
    return tuple(_folded(text) for text in _texts(document))


def _folded(text: str) -> str:
    """Returns a text in lower case without accents, so that dvorak finds Dvořák."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in plain if not unicodedata.combining(character))
