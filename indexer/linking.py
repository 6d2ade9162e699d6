"""Proposed works as a list that a librarian edits, and what becomes of the list: each document gets its work."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.collection import open_collection, open_writer
from engine.errors import DocumentMissingError
from engine.search.linking import ProposedWork
from indexer.errors import LinkListError

COLUMNS = ("work", "id", "kind", "title", "composer", "confidence", "linked", "now")
"""Columns of the list: the work that is proposed, the document, how sure its link to the document `linked` is, and the
work that it has now."""


def as_csv(works: Sequence[ProposedWork]) -> str:
    """Returns proposed works as a list in CSV, a line for each document."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for work in works:
        for member in work.members:
            one = member.document
            about = (one.id, one.kind, one.title, one.composer, f"{member.confidence:.3f}", member.linked, one.work)
            writer.writerow((work.name, *about))
    return text.getvalue()


def confirmed(path: Path) -> dict[str, str]:
    """Returns the works of a list by the ids of the documents. Only the columns `work` and `id` are needed.

    Lines without a work are left out. Raises LinkListError, which names the file and the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, strict=True)
            if not {"work", "id"} <= {*(rows.fieldnames or ())}:
                raise LinkListError(path, f"expected the columns work and id, got {rows.fieldnames}")
            works: dict[str, str] = {}
            for row in rows:
                id, work = (row["id"] or "").strip(), (row["work"] or "").strip()
                if not id or works.get(id, work) != work:
                    cause = "expected an id" if not id else f"{id} has another work in a line before"
                    raise LinkListError(path, f"line {rows.line_num}: {cause}")
                if work:
                    works[id] = work
            return works
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise LinkListError(path, f"cannot be read as CSV in UTF-8: {exc}") from exc


def apply(collection: Path, works: dict[str, str]) -> int:
    """Gives documents of a collection their works, and returns how many changed: all or none if one is missing.

    collection: plain or in shards. works: by the ids of the documents.
    Raises DocumentMissingError if the collection lacks a document, and the errors of `CollectionWriter`.
    """
    changed = 0
    with open_writer(collection) as writer, open_collection(collection) as held:
        for id, work in works.items():
            document = writer.document(id)
            if document is None:
                raise DocumentMissingError(collection, f"no document {id!r}; no document was changed")
            if document.work != work:
                writer.put(replace(document, work=work), held.sequence(document.id), replace=True)
                changed += 1
        if changed:
            writer.commit()
    return changed
