"""The writer of a collection whose shards lie on other machines: it gathers changes, and the keeper makes them."""

from collections.abc import Callable, Mapping
from dataclasses import replace as replaced
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from cluster.changes import Drop, Put, ShardChange
from engine import names
from engine.collection import identity
from engine.collection.identity import Status
from engine.collection.sharding import ShardMap
from engine.errors import CollectionError, DocumentExistsError, DocumentMissingError
from engine.values import Document, Kind, SnippetSequence

if TYPE_CHECKING:
    from cluster.remote import ClusterCollection

MAX_GATHERED = 256
"""Changes that are gathered before they are made, so that a long run that is stopped has most of its documents."""
MAX_GATHERED_BYTES = 64 << 20
"""Bytes of snippets and media that are gathered."""

Apply = Callable[[dict[str, list[ShardChange]]], dict[str, int]]
"""Makes changes by shard (`Keeper.apply`). Raises CollectionError."""


class ClusterWriter:
    """A writer of a collection in a cluster (`engine.collection.AnyWriter`). Only one thread may use it.

    What it gathers is made in parts: at each `commit`, and whenever there are MAX_GATHERED changes.
    """

    def __init__(self, path: Path, map: ShardMap, opened: "Callable[[], ClusterCollection]", apply: Apply) -> None:
        """opened: opens the newest generation."""
        self.path = path
        self._map = map
        self._opened = opened
        self._apply = apply
        self._collection = opened()
        self._gathered: dict[str, list[ShardChange]] = {}
        self._bytes = 0
        self._changed: dict[str, Document | None] = {}
        """Documents that the next commit will have, or None, by the ids that are gathered."""

    @property
    def generation(self) -> int:
        """Returns the sum of the shards' generations."""
        return self._collection.generation

    def holds(self, id: str) -> bool:
        """Returns whether the next commit will have a document with this id, if nothing else changes."""
        return self.document(id) is not None

    def document(self, id: str) -> Document | None:
        """Returns the document with this id that the next commit will have; None if none."""
        for known in (id, names.normal(id)):
            if known in self._changed:
                return self._changed[known]
        try:
            return self._collection.document(id)
        except DocumentMissingError:
            return None

    def ids_by_source(self) -> dict[tuple[Kind, str], list[str]]:
        """Returns the ids of the current generations' documents by kind and source."""
        found: dict[tuple[Kind, str], list[str]] = {}
        for document in self._collection.summaries():
            found.setdefault((document.kind, document.source), []).append(document.id)
        return found

    def needs_embedding(self, document: Document, *, replace: bool = False, media: bool = False) -> bool:
        """Returns whether `put` needs the snippets of this document. Raises DocumentExistsError if `put` would."""
        current = self._current(document, replace)
        same = current is not None and identity.same_content(current, document)
        return not same or (media and current is not None and not current.media)

    def put(
        self,
        document: Document,
        sequence: SnippetSequence | None,
        *,
        replace: bool = False,
        default_title: str = "",
        media: Mapping[int, bytes] | None = None,
    ) -> Status:
        """Gathers a document, and returns whether its id is new or its content or fields changed."""
        current = self._current(document, replace)
        document = replaced(document, id=names.normal(document.id) if current is None else current.id)
        wanted = identity.described(document, current, default_title)
        if sequence is None and current is not None:
            kept = ("snippets", "pages", "systems", "duration_s", "media")
            wanted = replaced(wanted, **{name: getattr(current, name) for name in kept})
        elif sequence is not None:
            wanted = replaced(wanted, snippets=len(sequence))
        if wanted == current:
            return "unchanged"
        put = Put(
            document=document,
            sequence=sequence,
            replace=replace,
            default_title=default_title,
            media=dict(media or {}),
        )
        size = 0 if sequence is None else sequence.embeddings.nbytes + sequence.places.nbytes
        self._gather(document.id, put, wanted, size + sum(map(len, put.media.values())))
        return "added" if current is None else "changed"

    def remove(self, id: str) -> None:
        """Gathers a removal. Raises DocumentMissingError if there is no document with this id."""
        current = self.document(id)
        if current is None:
            raise DocumentMissingError(self.path, f"no document {id!r}")
        self._gather(current.id, Drop(id=current.id), None, 0)

    def flush(self) -> None:
        """Makes what is gathered, as `commit` does: elsewhere nothing is stored before it is in force."""
        self.commit()

    def commit(self) -> int:
        """Makes what is gathered, durable on all replicas, and returns the number of the current generation.

        Raises CollectionError if a replica refuses a change or does not answer. Then none is made, unless a replica
        fails in the moment in which the changes come into force (`Keeper.apply`).
        """
        gathered, self._gathered, self._bytes = self._gathered, {}, 0
        self._changed.clear()
        if gathered:
            self._apply(gathered)
            self._collection.close()
            self._collection = self._opened()
        return self.generation

    def build(self) -> int:
        """Raises CollectionError: a shard is built anew on its machine."""
        raise CollectionError(self.path, "shards on other machines are built there, each by `scorefind build`")

    def close(self) -> None:
        """Forgets what is gathered and not committed."""
        self._collection.close()

    def __enter__(self) -> "ClusterWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _current(self, document: Document, replace: bool) -> Document | None:
        """Returns the document of the same id. Raises DocumentExistsError if that is another one, and stays."""
        current = self.document(document.id)
        if current is not None and not replace and not identity.same_document(current, document):
            raise DocumentExistsError(self.path, identity.conflict(current, document))
        return current

    def _gather(self, id: str, change: ShardChange, document: Document | None, size: int) -> None:
        self._gathered.setdefault(self._map.home(id), []).append(change)
        self._changed[id] = document
        self._bytes += size
        if len(self._changed) >= MAX_GATHERED or self._bytes >= MAX_GATHERED_BYTES:
            self.commit()
