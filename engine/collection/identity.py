"""The rule that decides whether an added document is the same document as one in the collection.

The id names a document. If the collection already has a document with the id of an added document:

- The same content (kind and content hash) is the same document. Nothing is embedded again.
- Other content of the same kind from the same absolute path is the same document too: its file was edited.
- Any other content is another document. The collection refuses the addition, unless the caller asks to replace the
  stored document.

The same document keeps its title, composer and work where the added document leaves these fields empty. The source of
an upload is a bare file name. A bare name does not identify a file, and does not replace a stored path.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from engine.collection.store import Entry
from engine.values import Document

Status = Literal["added", "changed", "unchanged"]
"""Result of adding a document. `changed`: its content changed, or only a field such as its title."""


def same_content(stored: Document | Entry, new: Document) -> bool:
    """Returns whether two documents have the same kind and the same content hash. An empty hash equals no other."""
    return (stored.kind, stored.content_hash) == (new.kind, new.content_hash) and new.content_hash != ""


def same_document(stored: Document, new: Document) -> bool:
    """Returns whether `new`, added with the id of `stored`, is the same document, perhaps with edited content."""
    same_file = Path(new.source).is_absolute() and (stored.kind, stored.source) == (new.kind, new.source)
    return same_file or same_content(stored, new)


def conflict(stored: Document, new: Document) -> str:
    """Returns the reason why `new` is refused: its id belongs to `stored`. The reason names both documents."""
    old, other = (document.source or "(no file)" for document in (stored, new))
    return f"{new.id!r} is the {stored.kind} made from {old}; the {new.kind} {other} is another document"


def described(new: Document, stored: Document | None, default_title: str) -> Document:
    """Returns `new` as the collection should store it: empty fields are filled from `stored`, if both are the same.

    stored: the document with this id in the collection; None if there is none.
    default_title: title of a new document that has no title.
    """
    if stored is None or not same_document(stored, new):
        return replace(new, title=new.title or default_title)
    return replace(
        new,
        title=new.title or stored.title,
        composer=new.composer or stored.composer,
        work=new.work or stored.work,
        source=new.source if Path(new.source).is_absolute() else stored.source,
    )
