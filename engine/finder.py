"""A collection opened for questions. The parts that a search needs are put together here and nowhere else.

An `Engine` is what embeds, aligns and judges queries, whatever the collection: encoder, settings, alignment backend and
calibration. A `Finder` is an engine with one collection: it reads a file, samples or page images and finds them.
`engine.open` makes a finder; the server makes an engine and opens one generation of its collection after another.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import alignment, audio, score
from engine.alignment import Backend, BackendName
from engine.collection import Collection, CollectionWriter
from engine.collection.identity import Status
from engine.collection.manifest import NAME
from engine.config import FrontEnd, SearchSettings
from engine.embedding import documents
from engine.embedding.documents import Encoder, Medium
from engine.score import Score
from engine.search.confidence import Calibration, beside
from engine.search.searcher import Searcher
from engine.values import OTHER, Answer, Document, Kind, Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What embeds, aligns and judges queries, whatever the collection."""

    encoder: Encoder
    settings: SearchSettings
    backend: Backend
    calibration: Calibration | None
    """None: matches have no confidence."""

    @classmethod
    def load(
        cls,
        weights: Path | str | None = None,
        *,
        settings: SearchSettings | None = None,
        backend: BackendName = "auto",
        encoder: Encoder | None = None,
    ) -> "Engine":
        """The engine of a network.

        weights: the network's file, beside which its calibration lies; by default the shipped one.
        encoder: the network of these weights if it is loaded already.
        Raises WeightsError if the weights or their calibration cannot be read, DeviceError if a backend of this name
        does not work here.
        """
        settings, weights = settings or SearchSettings(), None if weights is None else Path(weights)
        if encoder is None:
            from engine.embedding import encoder as network  # imports torch

            encoder = network.Encoder.load(weights, threads=settings.threads)
        return cls(
            encoder=encoder,
            settings=settings,
            backend=alignment.choose(backend, threads=settings.threads),
            calibration=Calibration.load(beside(weights), encoder.identity, settings.alignment),
        )

    def searcher(self, collection: Collection) -> Searcher:
        """What searches a collection, whose documents the network of this engine has embedded."""
        return Searcher(collection, self.settings, self.backend, self.calibration)


class Finder:
    """Finds recordings and scores in one collection, and adds and removes documents; for one thread.

    Use `engine.open`.
    """

    def __init__(self, path: Path | str, engine: Engine) -> None:
        """Raises what `Collection.open` does."""
        self.engine = engine
        self.collection = Collection.open(path, engine.encoder.identity)
        """The generation that is searched."""
        self.searcher = engine.searcher(self.collection)

    def query(
        self,
        source: Path | str,
        *,
        kind: Kind | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
        path: bool = False,
    ) -> Answer:
        """The best matches of a recording, a score file or a folder of page images.

        kind: what `source` is; by default judged by its name.
        start_s, end_s: the part of a recording that is asked for, in seconds.
        among: the kind of documents searched, by default the other one.
        top, path: as those of `engine.search.searcher.Query`.
        Raises MediaError if the file cannot be read or holds nothing to search for.
        """
        source, started = Path(source), time.perf_counter()
        kind = kind or documents.kind_of(source)
        medium = documents.read(source, kind, self._front_end, start_s, end_s)
        return self._found(medium, started, among, method, top, path)

    def query_samples(
        self,
        samples: NDArray[Any],
        rate: int,
        *,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
        path: bool = False,
    ) -> Answer:
        """As `query`, of sound in memory: float (n,) or (n, channels) in -1..1, at `rate` Hz."""
        started = time.perf_counter()
        return self._found(audio.recording_of(samples, rate, self._front_end), started, among, method, top, path)

    def query_pages(
        self,
        pages: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        *,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
        path: bool = False,
    ) -> Answer:
        """As `query`, of a page image or several in order: uint8 (height, width), white 255, or (height, width, 3)."""
        started = time.perf_counter()
        images = [pages] if isinstance(pages, np.ndarray) else pages
        return self._found(score.score_of(images, self._front_end), started, among, method, top, path)

    def add(
        self,
        source: Path | str,
        *,
        id: str | None = None,
        kind: Kind | None = None,
        title: str = "",
        composer: str = "",
        work: str = "",
        replace: bool = False,
    ) -> Status:
        """Adds a recording or a score, which queries find from now on; says whether that changed anything.

        `scorefind add` adds many at once, in several processes.

        id: its name for ever; by default that of the file or folder, without its suffix.
        title, composer, work: shown with the matches.
        replace: let it take the place of another document of the same id.
        Raises MediaError if the file cannot be read, DocumentExistsError if another document has this id and `replace`
        is not said, CollectionLockedError if another process writes to the collection.
        """
        source, name = Path(source), documents.name_of(Path(source))
        kind = kind or documents.kind_of(source)
        document = Document(
            id=id or name,
            kind=kind,
            title=title,
            composer=composer,
            work=work,
            source=str(source.absolute()),
            content_hash=documents.content_hash(source),
        )
        sequence = None
        with self._writer() as writer:
            if writer.needs_embedding(document, replace=replace):
                medium = documents.read(source, kind, self._front_end)
                (sequence,) = documents.sequences([medium], self.engine.encoder)
                document = documents.described(document, medium, sequence)
            status = writer.put(document, sequence, replace=replace, default_title=name)
            writer.commit()
        self.reload()
        return status

    def remove(self, *ids: str) -> None:
        """Removes documents: all of these, or none. Raises DocumentMissingError if there is none of an id."""
        with self._writer() as writer:
            for id in ids:
                writer.remove(id)
            writer.commit()
        self.reload()

    def reload(self) -> None:
        """Opens the generation of the collection that is in force now, which another process may have made."""
        newer = Collection.open(self.collection.path, self.engine.encoder.identity)
        self.collection.close()
        self.collection, self.searcher = newer, self.engine.searcher(newer)

    def close(self) -> None:
        self.collection.close()

    def __enter__(self) -> "Finder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _front_end(self) -> FrontEnd:
        return self.engine.encoder.identity.front_end

    def _writer(self) -> CollectionWriter:
        network, threads = self.engine.encoder.identity, self.engine.settings.threads
        return CollectionWriter(self.collection.path, network, threads=threads)

    def _found(
        self, medium: Medium, started: float, among: Kind | None, method: Method, top: int, path: bool
    ) -> Answer:
        """The answer to what was read since `started`, with the time that reading and embedding took."""
        (sequence,) = documents.sequences([medium], self.engine.encoder)
        embed_ms = (time.perf_counter() - started) * 1000
        systems = medium.systems if isinstance(medium, Score) else ()
        among = among or OTHER[sequence.kind]
        answer = self.searcher.query(sequence, among, method, top, path=path, systems=systems)
        times_ms = {"embed": embed_ms} | answer.timings_ms
        return dataclasses.replace(answer, timings_ms=times_ms | {"total": times_ms["total"] + embed_ms})


def open(
    path: Path | str,
    *,
    weights: Path | str | None = None,
    settings: SearchSettings | None = None,
    backend: BackendName = "auto",
    create: bool = False,
) -> Finder:
    """The collection at `path`, opened for questions.

    weights: the network that made the collection, by default the shipped one.
    settings: how queries are answered. backend: what aligns.
    create: make an empty collection if there is none.
    Raises CollectionError if the collection cannot be opened, and what `Engine.load` raises.
    """
    engine = Engine.load(weights, settings=settings, backend=backend)
    if create and not (Path(path) / NAME).exists():
        CollectionWriter(path, engine.encoder.identity).close()
    return Finder(path, engine)
