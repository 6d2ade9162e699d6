"""The generation of the collection that answers queries, and its replacement by a newer one while queries run."""

import bisect
import functools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.collection import AnyCollection, Storage, storage_of
from engine.config import Alignment
from engine.finder import Engine
from engine.search.searcher import Searcher
from engine.search.segmentation import Segmenter
from engine.values import UnseenShard
from server.catalogue import Catalogue

logger = logging.getLogger(__name__)


class Generation:
    """An open generation of the collection, and what searches it."""

    def __init__(self, collection: AnyCollection, searcher: Searcher, segmenter: Segmenter) -> None:
        self.collection = collection
        self.searcher = searcher
        self.segmenter = segmenter
        self.users = 1
        """Number of users, the shelf included; the last to leave closes the collection."""

    @property
    def number(self) -> int:
        """The generation's number."""
        return self.collection.generation

    def listed(self, after: str, count: int) -> tuple[dict[str, str], str | None]:
        """Returns the kind and title of documents by their ids, in the order of the ids, and the id to go on after.

        The first one is the one after the id `after`, and there are at most `count`; None: there are no more.
        """
        first = bisect.bisect_right(self._ids, after) if after else 0
        ids = self._ids[first : first + count]
        documents = (self.collection.document(id) for id in ids)
        page = {document.id: f"{document.kind}, {document.title}" for document in documents}
        return page, ids[-1] if first + count < len(self._ids) else None

    @functools.cached_property
    def keeps_media(self) -> bool:
        """Whether the collection keeps pictures and sound."""
        return self.collection.keeps_media

    @functools.cached_property
    def catalogue(self) -> Catalogue:
        """The documents by composer, work and title."""
        return Catalogue(self.collection)

    @functools.cached_property
    def _ids(self) -> list[str]:
        """The ids of all documents, sorted."""
        return sorted(id for kind in self.collection.kinds for id in self.collection.ids(kind))


class Shelf:
    """Holds the current generation. A replaced generation is closed when its last user is done.

    Any thread may call its methods.
    """

    def __init__(self, place: Path | Storage, engine: Engine) -> None:
        """Opens the newest generation. Raises CollectionError."""
        self._storage = storage_of(place)
        self._engine = engine
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._held = self._opened()
        self._reload_failed = False

    @property
    def generation(self) -> int:
        """The number of the current generation."""
        return self._held.number

    @property
    def reload_failed(self) -> bool:
        """Whether the last reload failed, so that an older generation answers. A reload that goes on has no result."""
        return self._reload_failed

    @property
    def alignment(self) -> Alignment:
        """The settings with which queries are aligned."""
        return self._engine.settings.alignment

    @property
    def keeps_media(self) -> bool:
        """Whether the current generation keeps pictures and sound, so that additions do, too."""
        with self.taken() as generation:
            return generation.keeps_media

    @contextmanager
    def taken(self) -> Iterator[Generation]:
        """Gives the current generation, which stays open until the `with` block ends."""
        with self._lock:
            taken = self._held
            taken.users += 1
        try:
            yield taken
        finally:
            self._leave(taken)

    def reload(self) -> bool:
        """Opens the newest generation on disk and returns whether it is a newer one than the current.

        The current generation answers until the new one is ready, and stays if the new one cannot be opened, which
        raises CollectionError.
        """
        with self._loading:
            try:
                changed = self._renewed()
            except Exception:
                self._reload_failed = True
                raise
            self._reload_failed = False
            return changed

    def fell_back(self) -> tuple[str, ...]:
        """Returns which parts of a search the CPU does because a GPU has failed (`Searcher.fell_back`)."""
        with self.taken() as generation:
            return generation.searcher.fell_back()

    def unseen(self) -> tuple[UnseenShard, ...]:
        """Returns the shards that did not answer when the current generation was opened."""
        with self.taken() as generation:
            return generation.searcher.unseen

    def clear_dead_readers(self) -> None:
        """Frees what killed readers of the current generation's file still hold on disk."""
        with self.taken() as generation:
            generation.collection.clear_dead_readers()

    def close(self) -> None:
        """Leaves the current generation. Must be called once, after which the shelf cannot be used."""
        self._leave(self._held)

    def _renewed(self) -> bool:
        """Puts the newest generation in force and returns whether it is a newer one. Only one thread may call it."""
        if self._storage.generation() == self.generation:
            return False
        new = self._opened()
        with self._lock:
            old, self._held = self._held, new
        self._leave(old)
        logger.info("%s: generation %d is in force", self._storage.path, new.number)
        return True

    def _opened(self) -> Generation:
        """Opens the newest generation and loads all that queries need into memory."""
        collection = self._storage.open(self._engine.encoder.identity)
        try:
            searcher = self._engine.searcher(collection)
            searcher.load()
        except BaseException:
            collection.close()
            raise
        return Generation(collection, searcher, self._engine.segmenter(searcher))

    def _leave(self, generation: Generation) -> None:
        """Ends one use of a generation, and closes its collection if that was the last use."""
        with self._lock:
            generation.users -= 1
            last = generation.users == 0
        if last:
            generation.collection.close()
