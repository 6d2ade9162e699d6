"""Additions and removals while the server runs: changes that wait together become one generation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.collection import AnyWriter, Storage, storage_of
from engine.embedding import documents
from engine.embedding.documents import Encoder, Medium
from engine.errors import DocumentExistsError
from engine.values import Document
from server.errors import DocumentExists, DocumentMissing, ServerError
from server.fields import quoted
from server.messages import Add, Remove
from server.shelf import Shelf


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A document to add, which is read but not yet embedded."""

    wanted: Add
    medium: Medium
    kept: Mapping[int, bytes] = field(default_factory=dict)
    """Pictures of the pages by their numbers, or the sound under 0, that the collection is to keep."""


Change = Addition | Remove
Outcome = dict[str, Any] | ServerError
"""The reply to a change."""


def make(place: Path | Storage, changes: list[Change], encoder: Encoder, shelf: Shelf, threads: int) -> list[Outcome]:
    """Makes the changes in order, as one generation on disk, and lets the shelf open that generation.

    A change that cannot be made is left out, and its outcome is the error.
    Raises CollectionError; then none of the changes is made.
    """
    outcomes: list[Outcome] = []
    with storage_of(place).writer(encoder.identity, threads) as writer:
        for change in changes:
            try:
                if isinstance(change, Addition):
                    outcomes.append(_add(writer, change, encoder))
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


def _add(writer: AnyWriter, addition: Addition, encoder: Encoder) -> dict[str, Any]:
    """Adds a document, which is embedded unless its content is there already."""
    add = addition.wanted
    document, sequence = _document(add), None
    try:
        if writer.needs_embedding(document, replace=add.replace, media=bool(addition.kept)):
            (sequence,) = documents.sequences([addition.medium], encoder)
            document = documents.described(document, addition.medium, sequence)
        title = Path(document.source).stem
        status = writer.put(document, sequence, replace=add.replace, default_title=title, media=addition.kept)
    except DocumentExistsError as exc:
        raise DocumentExists(f"{exc.cause}; say replace, or another id") from exc
    held = writer.document(add.id)
    assert held is not None
    return {"document": held.id, "status": status, "snippets": held.snippets}


def _document(add: Add) -> Document:
    """What is known of a document before it is embedded."""
    return Document(
        id=add.id,
        kind=add.media.kind,
        title=add.title,
        composer=add.composer,
        work=add.work,
        source=Path(add.media.files[0].name).name,
        content_hash=documents.hash_of(file.data for file in add.media.files),
    )


def _remove(writer: AnyWriter, remove: Remove) -> dict[str, Any]:
    missing = [id for id in remove.ids if not writer.holds(id)]
    if missing:
        raise DocumentMissing(f"no document {quoted(missing[0])}; nothing is removed")
    for id in remove.ids:
        writer.remove(id)
    return {"removed": len(remove.ids)}
