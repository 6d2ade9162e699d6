"""What commands and servers ask of a collection and of its writer, in one folder or in shards."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from engine.collection.identity import Status
from engine.collection.manifest import Contents
from engine.collection.reader import Checked
from engine.values import Document, Kind, NetworkIdentity, SnippetSequence


class AnyCollection(Protocol):
    """A collection, open for reading: `Collection` says what each method does."""

    path: Path

    @property
    def generation(self) -> int:
        """Returns the number of the open generation, which rises with every commit."""

    @property
    def network(self) -> NetworkIdentity:
        """Returns the network that embedded the documents."""

    @property
    def kinds(self) -> Mapping[Kind, Contents]:
        """Returns the numbers of documents and snippets by kind."""

    @property
    def count(self) -> int:
        """Returns the number of documents."""

    @property
    def snippets(self) -> int:
        """Returns the number of snippets of all documents."""

    @property
    def documents(self) -> tuple[Document, ...]:
        """Returns all documents, in the order of addition."""

    def summaries(self) -> tuple[Document, ...]:
        """Returns all documents without their systems, in the order of addition."""

    def ids(self, kind: Kind) -> tuple[str, ...]:
        """Returns the ids of the documents of one kind, in the order of addition."""

    def document(self, id: str) -> Document:
        """Returns the document with this id. Raises DocumentMissingError if there is none."""

    def sequence(self, id: str) -> SnippetSequence:
        """Returns a copy of a document's snippets. Raises DocumentMissingError if there is no such document."""

    def media(self, id: str, item: int) -> bytes | None:
        """Returns a picture or the sound of a document, as it is kept; None if it is not kept."""

    @property
    def keeps_media(self) -> bool:
        """Returns whether pictures or sound are kept of any document."""

    def check(self, between: Callable[[], None] = ...) -> Checked:
        """Verifies every checksum and count, and returns what was verified. Raises CollectionDamagedError."""

    def copy(self, folder: Path) -> None:
        """Copies this generation to an empty folder, as a collection of its own, and verifies the copy."""

    def clear_dead_readers(self) -> None:
        """Frees the generations on disk that killed readers still hold."""

    def close(self) -> None:
        """Closes the files of the collection."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class AnyWriter(Protocol):
    """The only writer of a collection: `CollectionWriter` says what each method does."""

    path: Path

    @property
    def generation(self) -> int:
        """Returns the number of the current generation."""

    def holds(self, id: str) -> bool:
        """Returns whether the next commit will have a document with this id, if nothing else changes."""

    def document(self, id: str) -> Document | None:
        """Returns the document with this id that the next commit will have; None if none."""

    def ids_by_source(self) -> dict[tuple[Kind, str], list[str]]:
        """Returns the ids of the current generation's documents by kind and source."""

    def needs_embedding(self, document: Document, *, replace: bool = ..., media: bool = ...) -> bool:
        """Returns whether `put` needs the snippets of this document. Raises DocumentExistsError if `put` would."""

    def put(
        self,
        document: Document,
        sequence: SnippetSequence | None,
        *,
        replace: bool = ...,
        default_title: str = ...,
        media: Mapping[int, bytes] | None = ...,
    ) -> Status:
        """Stages a document for the next commit, and returns whether its id is new or its content or fields changed."""

    def remove(self, id: str) -> None:
        """Leaves a document out of the next commit. Raises DocumentMissingError if there is none with this id."""

    def flush(self) -> None:
        """Writes staged documents to disk, so that they survive a crash."""

    def commit(self) -> int:
        """Commits all staged and removed documents, and returns the number of the current generation."""

    def build(self) -> int:
        """Commits all changes, rewrites all files, and returns the new generation's number."""

    def close(self) -> None:
        """Writes staged documents to disk without a commit, and releases the lock."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
