"""The writer of a collection in shards: it hands each document to the writer of the shard of its id."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from engine.collection.identity import Status
from engine.collection.sharding import ShardMap
from engine.collection.writer import CollectionWriter
from engine.values import Document, Kind, NetworkIdentity, SnippetSequence


class ShardedWriter:
    """The only writer of a collection in shards. It locks all of them. Only one thread may use it.

    A commit is whole in each shard, but shards commit one after the other: who opens the collection meanwhile has some
    of the documents. No shard depends on another, so nothing is wrong then, and the next commit completes it.
    """

    def __init__(self, path: Path, network: NetworkIdentity, *, threads: int = 1) -> None:
        """Takes the locks of all shards. threads, and the errors: see `CollectionWriter`."""
        self.path = path
        self._map = ShardMap.read(path)
        with contextlib.ExitStack() as opened:
            self.parts = {
                name: opened.enter_context(CollectionWriter(path / name, network, threads=threads))
                for name in self._map.shards
            }
            """The writers of the shards by their names."""
            self._opened = opened.pop_all()

    @property
    def generation(self) -> int:
        """Returns the sum of the shards' generations."""
        return sum(part.generation for part in self.parts.values())

    def holds(self, id: str) -> bool:
        """Returns whether the next commit will have a document with this id, if nothing else changes."""
        return self._part(id).holds(id)

    def document(self, id: str) -> Document | None:
        """Returns the document with this id that the next commit will have; None if none."""
        return self._part(id).document(id)

    def ids_by_source(self) -> dict[tuple[Kind, str], list[str]]:
        """Returns the ids of the current generations' documents by kind and source."""
        found: dict[tuple[Kind, str], list[str]] = {}
        for part in self.parts.values():
            for source, ids in part.ids_by_source().items():
                found.setdefault(source, []).extend(ids)
        return found

    def needs_embedding(self, document: Document, *, replace: bool = False, media: bool = False) -> bool:
        """Returns whether `put` needs the snippets of this document. Raises DocumentExistsError if `put` would."""
        return self._part(document.id).needs_embedding(document, replace=replace, media=media)

    def put(
        self,
        document: Document,
        sequence: SnippetSequence | None,
        *,
        replace: bool = False,
        default_title: str = "",
        media: Mapping[int, bytes] | None = None,
    ) -> Status:
        """Stages a document in its shard, under a number above those of all shards: see `CollectionWriter.put`."""
        part = self._part(document.id)
        part.skip_to(max(other.next_number for other in self.parts.values()))
        part.renew_below(max(other.first_new for other in self.parts.values()))
        return part.put(document, sequence, replace=replace, default_title=default_title, media=media)

    def remove(self, id: str) -> None:
        """Leaves a document out of the next commit. Raises DocumentMissingError if there is none with this id."""
        self._part(id).remove(id)

    def flush(self) -> None:
        """Writes staged documents of all shards to disk, so that they survive a crash."""
        for part in self.parts.values():
            part.flush()

    def commit(self) -> int:
        """Commits the changes of each shard, and returns the number of the current generation.

        Raises CollectionError if a shard cannot be written; shards before it have committed.
        """
        for part in self.parts.values():
            part.commit()
        return self.generation

    def build(self) -> int:
        """Commits all changes, rewrites all files of all shards, and returns the new generation's number."""
        for part in self.parts.values():
            part.build()
        return self.generation

    def close(self) -> None:
        """Writes staged documents to disk without a commit, and releases the locks."""
        self._opened.close()

    def __enter__(self) -> "ShardedWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _part(self, id: str) -> CollectionWriter:
        return self.parts[self._map.home(id)]
