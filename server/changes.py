"""Additions and removals while the server runs: changes that wait together become one generation."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import documents
from engine.collection import CollectionWriter
from engine.documents import Encoder, Medium
from engine.values import Document, SnippetSequence
from server.errors import DocumentExists, DocumentMissing, ServerError
from server.messages import Add, Media, Remove
from server.shelf import Shelf


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A document to add, which is read but not yet embedded."""

    wanted: Add
    medium: Medium


Change = Addition | Remove
Outcome = dict[str, Any] | ServerError
"""The reply to a change."""


def make(path: Path, changes: list[Change], encoder: Encoder, shelf: Shelf, threads: int) -> list[Outcome]:
    """Makes the changes in order, as one generation on disk, and lets the shelf open that generation.

    A change that cannot be made is left out, and its outcome is the error.
    Raises CollectionError; then none of the changes is made.
    """
    additions = [change for change in changes if isinstance(change, Addition)]
    embedded = iter(documents.sequences([addition.medium for addition in additions], encoder))
    outcomes: list[Outcome] = []
    with CollectionWriter(path, encoder.identity, threads=threads) as writer:
        for change in changes:
            try:
                if isinstance(change, Addition):
                    outcomes.append(_add(writer, change, next(embedded)))
                else:
                    outcomes.append(_remove(writer, change))
            except ServerError as error:
                outcomes.append(error)
        generation = writer.commit()
    shelf.reload()
    for outcome in outcomes:
        if isinstance(outcome, dict):
            outcome["generation"] = generation
    return outcomes


def content_hash(media: Media) -> str:
    """As `documents.content_hash` of the same files."""
    digest = hashlib.sha256()
    for file in media.files:
        digest.update(file.data)
    return digest.hexdigest()


def _add(writer: CollectionWriter, addition: Addition, sequence: SnippetSequence) -> dict[str, Any]:
    add = addition.wanted
    name = add.media.files[0].name
    document = Document(
        id=add.id,
        kind=add.media.kind,
        title=add.title or Path(name).stem,
        composer=add.composer,
        work=add.work,
        source=name,
        content_hash=content_hash(add.media),
    )
    document = documents.described(document, addition.medium, sequence)
    known = writer.known(add.id) if writer.holds(add.id) else None  # what was never committed does not count
    same = known is not None and (known.kind, known.content_hash) == (document.kind, document.content_hash)
    if known is not None and not same and not add.replace:
        raise DocumentExists(f"{add.id!r} is another {known.kind}, {known.title!r}; say replace, or another id")
    words = [(one.title, one.composer, one.work) for one in (known, document) if one is not None]
    if same and len(set(words)) == 1 and writer.staged(add.id, document.content_hash):
        status = "unchanged"
    else:
        writer.stage(document, sequence)
        status = "added" if known is None else "changed"
    return {"document": add.id, "status": status, "snippets": len(sequence)}


def _remove(writer: CollectionWriter, remove: Remove) -> dict[str, Any]:
    missing = [id for id in remove.ids if not writer.holds(id)]
    if missing:
        raise DocumentMissing(f"no document {missing[0]!r}; nothing is removed")
    for id in remove.ids:
        writer.remove(id)
    return {"removed": len(remove.ids)}
