"""The reader of a collection in shards: each shard is a collection, and together they are read as one."""

import contextlib
import heapq
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from engine.collection.manifest import Contents, added_up
from engine.collection.reader import Checked, Collection
from engine.collection.sharding import ShardMap
from engine.errors import CollectionDamagedError, NetworkMismatchError
from engine.values import Document, Kind, NetworkIdentity, SnippetSequence


class ShardedCollection:
    """The current generations of all shards of a collection, open for reading. Threads may share it."""

    def __init__(self, path: Path, map: ShardMap, network: NetworkIdentity | None) -> None:
        """Opens all shards. Callers use `open_collection`."""
        self.path = path
        self.map = map
        with contextlib.ExitStack() as opened:
            self.parts: Mapping[str, Collection] = {
                name: opened.enter_context(Collection.open(path / name, network)) for name in map.shards
            }
            """The shards by their names."""
            for name, part in self.parts.items():
                if part.network != self.network:
                    raise NetworkMismatchError(path, f"{name} was made with another network than the other shards")
            self._opened = opened.pop_all()

    @property
    def generation(self) -> int:
        """Returns the sum of the shards' generations, which rises with every commit to any of them."""
        return sum(part.generation for part in self.parts.values())

    @property
    def network(self) -> NetworkIdentity:
        """Returns the network that embedded the documents."""
        return next(iter(self.parts.values())).network

    @property
    def kinds(self) -> dict[Kind, Contents]:
        """Returns the numbers of documents and snippets by kind. Only shards have indexes."""
        return added_up([part.kinds for part in self.parts.values()])

    @property
    def count(self) -> int:
        """Returns the number of documents, without reading any."""
        return sum(part.count for part in self.parts.values())

    @property
    def snippets(self) -> int:
        """Returns the number of snippets of all documents."""
        return sum(part.snippets for part in self.parts.values())

    @property
    def documents(self) -> tuple[Document, ...]:
        """Returns all documents, in the order of addition."""
        return self._in_order(lambda part: part.documents)

    def summaries(self) -> tuple[Document, ...]:
        """Returns all documents without their systems, in the order of addition."""
        return self._in_order(lambda part: part.summaries())

    def ids(self, kind: Kind) -> tuple[str, ...]:
        """Returns the ids of the documents of one kind, in the order of addition."""
        entries = heapq.merge(*(part.entries_of(kind) for part in self.parts.values()), key=lambda one: one.number)
        return tuple(entry.id for entry in entries)

    def document(self, id: str) -> Document:
        """Returns the document with this id. Raises DocumentMissingError if there is none."""
        return self._part(id).document(id)

    def sequence(self, id: str) -> SnippetSequence:
        """Returns a copy of a document's snippets. Raises DocumentMissingError if there is no such document."""
        return self._part(id).sequence(id)

    def media(self, id: str, item: int) -> bytes | None:
        """Returns a picture or the sound of a document, as it is kept; None if it is not kept."""
        return self._part(id).media(id, item)

    @property
    def keeps_media(self) -> bool:
        """Returns whether pictures or sound are kept of any document."""
        return any(part.keeps_media for part in self.parts.values())

    def check(self, between: Callable[[], None] = lambda: None) -> Checked:
        """Verifies every shard (`Collection.check`), and that each document is in the shard of its id.

        Raises CollectionDamagedError.
        """
        checked = {name: part.check(between) for name, part in self.parts.items()}
        for name, part in self.parts.items():
            strays = [entry.id for entry in part.entries if self.map.home(entry.id) != name]
            if strays:
                cause = f"{name} holds {strays[0]!r}, which belongs to {self.map.home(strays[0])}"
                raise CollectionDamagedError(self.path, cause)
        return Checked(
            sizes={f"{name}/{file}": size for name, one in checked.items() for file, size in one.sizes.items()},
            unused=tuple(f"{name}/{file}" for name, one in checked.items() for file in one.unused),
        )

    def copy(self, folder: Path) -> None:
        """Copies all shards to an empty folder, as a collection of their own, and verifies the copies."""
        for name, part in self.parts.items():
            (folder / name).mkdir()
            part.copy(folder / name)
        self.map.write(folder)

    def clear_dead_readers(self) -> None:
        """Frees the generations on disk that killed readers still hold."""
        for part in self.parts.values():
            part.clear_dead_readers()

    def close(self) -> None:
        """Closes the files of all shards."""
        self._opened.close()

    def __enter__(self) -> "ShardedCollection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _part(self, id: str) -> Collection:
        return self.parts[self.map.home(id)]

    def _in_order(self, read: Callable[[Collection], tuple[Document, ...]]) -> tuple[Document, ...]:
        """Returns what is read of all documents of all shards, by the documents' numbers."""
        listed = [
            [(entry.number, document) for entry, document in zip(part.entries, read(part), strict=True)]
            for part in self.parts.values()
        ]
        return tuple(document for _, document in heapq.merge(*listed, key=lambda one: one[0]))
