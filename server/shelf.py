"""The generation that queries are asked of, and its replacement by a newer one while they go on."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.collection import Collection
from engine.collection.manifest import Manifest
from engine.search import Searcher
from engine.values import NetworkIdentity

logger = logging.getLogger(__name__)


class Generation:
    """A collection held open, and what searches it."""

    def __init__(self, collection: Collection, searcher: Searcher) -> None:
        self.collection = collection
        self.searcher = searcher
        self.users = 1
        """The shelf is one."""

    @property
    def number(self) -> int:
        return self.collection.generation


class Shelf:
    """Holds one generation; one that is replaced is closed when the last of its users is done. For any thread."""

    def __init__(self, path: Path, network: NetworkIdentity, searching: Callable[[Collection], Searcher]) -> None:
        """searching: makes the searcher of a collection. Raises what `Collection.open` does."""
        self._path = path
        self._network = network
        self._searching = searching
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._held = self._opened()

    @property
    def generation(self) -> int:
        """The number of the generation held."""
        return self._held.number

    @contextmanager
    def taken(self) -> Iterator[Generation]:
        """The generation held now, which stays open as long as this lasts."""
        with self._lock:
            taken = self._held
            taken.users += 1
        try:
            yield taken
        finally:
            self._leave(taken)

    def reload(self) -> bool:
        """Takes up the generation in force on disk; whether that is another one. The old one answers until then.

        Raises what `Collection.open` does; then the old one is kept.
        """
        with self._loading:
            if Manifest.read(self._path).generation == self.generation:
                return False
            new = self._opened()
            with self._lock:
                old, self._held = self._held, new
            self._leave(old)
        logger.info("%s: generation %d is in force", self._path, new.number)
        return True

    def close(self) -> None:
        """To be called once."""
        self._leave(self._held)

    def _opened(self) -> Generation:
        """The generation in force, all that queries need in memory."""
        collection = Collection.open(self._path, self._network)
        try:
            searcher = self._searching(collection)
            searcher.load()
        except BaseException:
            collection.close()
            raise
        return Generation(collection, searcher)

    def _leave(self, generation: Generation) -> None:
        with self._lock:
            generation.users -= 1
            last = generation.users == 0
        if last:
            generation.collection.close()
