"""A replica of a shard: the process beside the data, which answers searches and makes changes durable.

It is a plain class, which knows nothing of Ray; as a Ray actor it runs searches in some threads and changes in one. Its
writer holds the lock of the shard's folder, so no two replicas ever share a folder, whoever started them.
"""

import os
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.changes import Put, ReplicaState, ShardChange
from engine import alignment, process
from engine.alignment import BackendName
from engine.collection import Collection, CollectionWriter
from engine.collection.catching_up import Content, catch_up
from engine.collection.manifest import Manifest
from engine.collection.store import Entry
from engine.config import Alignment, SearchSettings
from engine.errors import CollectionError, GenerationGoneError
from engine.neighbours import cell_count
from engine.search.plan import fits_in_memory
from engine.search.shard import CollectionShard, Costs, Positions
from engine.values import DIMENSION, Embeddings, Kind

ROOM_BYTES = 32 << 20
"""Bytes that have to be free before changes are made, in addition to those of the indexes."""
KEPT_S = 15.0
"""Time for which an older generation stays open after it was last asked for. Fronts look for newer ones every 5 s."""


class Replica:
    """One copy of a shard."""

    def __init__(self, path: str, settings: SearchSettings, backend: BackendName = "auto") -> None:
        """Opens the shard in the folder `path`, and loads it: a replica that is restarted answers at once.

        Raises CollectionError, also if another process writes to the folder.
        """
        process.prepare()
        self._path = Path(path)
        self._settings = settings
        self._backend = alignment.choose(backend, threads=settings.threads)
        self._lock = threading.Lock()
        self._writer = self._opened_writer()
        self._open: dict[int, tuple[Collection, CollectionShard]] = {}
        self._asked: dict[int, float] = {}
        """When each generation was last asked for, on the clock of `time.monotonic`."""
        self._prepared = False
        """Whether changes may be prepared that are not in force."""
        for kind, part in self.manifest(self._writer.generation).kinds.items():
            resident = fits_in_memory(part.snippets, self._backend)
            self.load(self._writer.generation, kind, packed=resident, index=cell_count(part.snippets) > 0)

    def close(self) -> None:
        """Closes all generations and frees the folder's lock."""
        for collection, _ in self._open.values():
            collection.close()
        self._open.clear()
        self._writer.close()

    # --- reading ---

    def state(self) -> ReplicaState:
        """Returns what this replica holds."""
        writer = self._writer
        return ReplicaState(
            shard=self._path.name,
            generation=writer.generation,
            digest=writer.digest,
            next_generation=writer.next_generation,
            next_number=writer.next_number,
            process=os.getpid(),
            path=str(self._path),
        )

    def manifest(self, generation: int) -> Manifest:
        """Returns the manifest of a generation."""
        return self._at(generation)[0].manifest

    def search(self, generation: int, name: str, *arguments: Any, **options: Any) -> Any:
        """Returns what `CollectionShard.name` returns of a generation. Raises GenerationGoneError."""
        return getattr(self._at(generation)[1], name)(*arguments, **options)

    def read(self, generation: int, name: str, *arguments: Any) -> Any:
        """Returns what `Collection.name` returns of a generation. Raises GenerationGoneError."""
        return getattr(self._at(generation)[0], name)(*arguments)

    def costs(
        self,
        generation: int,
        kind: Kind,
        documents: Positions | None,
        queries: Sequence[Embeddings],
        settings: Alignment,
    ) -> list[Costs]:
        """Returns the costs of documents for each query (`Shard.aligner`)."""
        return self._at(generation)[1].aligner(kind, documents)(queries, settings)

    def load(self, generation: int, kind: Kind, packed: bool, index: bool) -> None:
        """Loads what queries need, and compiles the alignment."""
        shard = self._at(generation)[1]
        shard.load(kind, packed=packed, index=index)
        row = np.full((1, DIMENSION), DIMENSION**-0.5, np.float32)
        if len(shard.listing(kind)):
            shard.aligner(kind, np.zeros(1, np.int64))([row], self._settings.alignment)

    # --- changing, in one thread ---

    def prepare(self, changes: Sequence[ShardChange], number: int) -> ReplicaState:
        """Makes changes durable, but not in force. The next commit puts them in force, and `abort` forgets them.

        Changes that were prepared before and never came into force are forgotten: whoever asked for them was told that
        they failed.

        number: number of the first new document. Raises CollectionError if a change is refused, or the disk is full.
        """
        self._require_room()
        if self._prepared:
            self.abort()
        self._prepared = True
        writer = self._writer
        writer.skip_to(number)
        for change in changes:
            if isinstance(change, Put):
                writer.put(
                    change.document,
                    change.sequence,
                    replace=change.replace,
                    default_title=change.default_title,
                    media=change.media,
                )
            else:
                writer.remove(change.id)
        writer.flush()
        return self.state()

    def commit(self, generation: int) -> ReplicaState:
        """Puts what was prepared in force, as a generation of this number. Raises CollectionError."""
        self._writer.commit(generation)
        self._prepared = False
        return self.state()

    def abort(self) -> None:
        """Forgets what was prepared, also where the disk is too full to write it."""
        self._writer.forget()
        self._writer.close()
        self._writer = self._opened_writer()
        self._prepared = False

    def entries(self, generation: int) -> tuple[Entry, ...]:
        """Returns the entries of the documents of a generation."""
        return self._at(generation)[0].entries

    def content(self, generation: int, ids: Sequence[str]) -> list[Content]:
        """Returns documents with their snippets and their media, for a replica that lacks them."""
        collection = self._at(generation)[0]
        return [(collection.document(id), collection.sequence(id), collection.all_media(id)) for id in ids]

    def catch_up(self, entries: Sequence[Entry], generation: int, fetch: Any) -> ReplicaState:
        """Makes this replica hold exactly these documents, and commits them as a generation of this number.

        entries: of an up-to-date replica. fetch: returns `content` of that replica for some ids.
        """
        self.abort()
        catch_up(self._writer, self._at(self._writer.generation)[0].entries, entries, fetch)
        return self.commit(generation)

    def _require_room(self) -> None:
        """Raises CollectionError unless the disk has room for changes, and for the indexes to be written again.

        A disk that is full only when the changes come into force leaves the replica behind the others.
        """
        indexes = [part.index.size for part in Manifest.read(self._path).kinds.values() if part.index]
        free, needed = shutil.disk_usage(self._path).free, ROOM_BYTES + sum(indexes)
        if free < needed:
            raise CollectionError(self._path, f"the disk is full: changes need {needed} bytes, and {free} are free")

    def _opened_writer(self) -> CollectionWriter:
        network = Manifest.read(self._path).network
        writer = CollectionWriter(self._path, network, threads=self._settings.threads)
        writer.forget()
        return writer

    def _at(self, generation: int) -> tuple[Collection, CollectionShard]:
        """Returns a generation, opened when it is first asked for. Raises GenerationGoneError."""
        with self._lock:
            if generation not in self._open:
                collection = Collection.open(self._path)
                if collection.generation != generation:
                    collection.close()
                    cause = f"generation {generation} is gone; {self._writer.generation} is"
                    raise GenerationGoneError(self._path, cause)
                self._open[generation] = (
                    collection,
                    CollectionShard(collection, self._backend, self._settings.threads),
                )
            now = time.monotonic()
            self._asked[generation] = now
            for old in [one for one in self._open if one != max(self._open) and now - self._asked[one] > KEPT_S]:
                self._open.pop(old)[0].close()
            return self._open[generation]


def shards_in(folders: Sequence[str]) -> list[str]:
    """Returns the folders of shards that are there in any of these folders, on the machine that runs this."""
    found = [shard for folder in folders for shard in Path(folder).glob("*/manifest.json")]
    return sorted(str(manifest.parent.resolve()) for manifest in found)
