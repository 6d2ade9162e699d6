"""Is it the same document? The rule by which a collection judges what is added to it.

A document is known by its id. Of a document that is added under an id that the collection holds:

- The same content (kind and content hash) is the same document. Nothing is embedded again.
- Other content of the same kind and from the same absolute path is the same document too: its file was edited.
- Any other content is another document. It is refused, unless it is said to replace the one that is held.

The same document keeps its title, composer and work where the addition says nothing of them. An upload has a bare file
name for its source: that is not a path, and it does not replace one.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from engine.collection.store import Entry
from engine.values import Document

Status = Literal["added", "changed", "unchanged"]
"""What became of a document that was added. `changed`: its content, or only what is said of it."""


def same_content(held: Document | Entry, new: Document) -> bool:
    """Whether two documents of one id were made from the same bytes, as the same kind; an empty hash equals none."""
    return (held.kind, held.content_hash) == (new.kind, new.content_hash) and new.content_hash != ""


def same_document(held: Document, new: Document) -> bool:
    """Whether `new`, added under the id of `held`, is the same document, older or newer."""
    same_file = Path(new.source).is_absolute() and (held.kind, held.source) == (new.kind, new.source)
    return same_file or same_content(held, new)


def conflict(held: Document, new: Document) -> str:
    """Why `new` is refused under the id of `held`; names both."""
    old, other = (document.source or "(no file)" for document in (held, new))
    return f"{new.id!r} is the {held.kind} made from {old}; the {new.kind} {other} is another document"


def described(new: Document, held: Document | None, default_title: str) -> Document:
    """`new` as the collection should keep it, completed from `held` if that is the same document."""
    if held is None or not same_document(held, new):
        return replace(new, title=new.title or default_title)
    return replace(
        new,
        title=new.title or held.title,
        composer=new.composer or held.composer,
        work=new.work or held.work,
        source=new.source if Path(new.source).is_absolute() else held.source,
    )
