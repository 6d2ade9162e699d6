"""The engine and the finder. This module alone puts the parts of a search together.

An `Engine` is everything a search needs besides a collection: encoder, settings, alignment backend and calibration.
A `Finder` is an engine with one collection: it reads a file, samples or page images and searches for their matches.
`engine.open` makes a finder. The server makes one engine and opens one generation of its collection after another.
"""

import dataclasses
import logging
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
from engine.audio import Recording
from engine.collection import AnyCollection, AnyWriter, CollectionWriter, open_collection, open_writer
from engine.collection.identity import Status
from engine.collection.manifest import NAME
from engine.collection.sharding import is_sharded
from engine.config import FrontEnd, SearchSettings
from engine.embedding import documents
from engine.embedding.documents import Encoder, Medium
from engine.errors import QueryError
from engine.evening import LiveEvening, segmented
from engine.score import Score
from engine.search import setlist
from engine.search.confidence import Calibration, beside
from engine.search.linking import Linker
from engine.search.searcher import Query, Searcher
from engine.search.segmentation import Segmenter
from engine.search.shard import Shard
from engine.transposition import Transposer
from engine.values import OTHER, Answer, Document, Kind, Method, SnippetSequence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Everything a search needs besides a collection: the parts that embed, align and judge a query."""

    encoder: Encoder
    settings: SearchSettings
    backend: Backend
    calibration: Calibration | None
    """Calibration of the confidence; None: matches have no confidence."""

    @classmethod
    def load(
        cls,
        weights: Path | str | None = None,
        *,
        settings: SearchSettings | None = None,
        backend: BackendName = "auto",
        encoder: Encoder | None = None,
    ) -> "Engine":
        """Returns an engine with the network of a weights file.

        weights: the weights file, with its calibration beside it; by default the shipped network.
        encoder: the network of these weights, if the caller has loaded it already.
        Raises WeightsError if the weights or their calibration cannot be read, DeviceError if the backend does not
        work on this machine.
        """
        settings, weights = settings or SearchSettings(), None if weights is None else Path(weights)
        if encoder is None:
            from engine.embedding import encoder as network  # imports ONNX Runtime

            encoder = network.Encoder.load(weights, threads=settings.threads)
        logger.info("network %s on %s", encoder.identity.name, encoder.device)
        return cls(
            encoder=encoder,
            settings=settings,
            backend=alignment.choose(backend, threads=settings.threads),
            calibration=Calibration.load(beside(weights), encoder.identity, settings.alignment),
        )

    def searcher(self, collection: AnyCollection | Shard) -> Searcher:
        """Returns a searcher of a collection. This engine's network must have embedded the collection's documents."""
        return Searcher(collection, self.settings, self.backend, self.calibration)

    def segmenter(self, searcher: Searcher) -> Segmenter:
        """Returns what finds the passages of evenings in the collection of a searcher."""
        return Segmenter(searcher, self.backend, self.calibration, self.settings.alignment)

    def linker(self, collection: AnyCollection, searcher: Searcher) -> Linker:
        """Returns what finds documents of one work in a collection. searcher: of this collection."""
        return Linker(collection, searcher, self.backend, self.settings.alignment)


class Finder:
    """Finds recordings and scores in one collection, and adds and removes documents. Only one thread may use it.

    `engine.open` makes a finder.
    """

    def __init__(self, path: Path | str, engine: Engine) -> None:
        """Opens the collection at `path`. Raises the errors of `Collection.open`."""
        self.engine = engine
        self.collection: AnyCollection = open_collection(path, engine.encoder.identity)
        """The open generation of the collection, which queries search."""
        self.searcher = engine.searcher(self.collection)
        self.segmenter = engine.segmenter(self.searcher)

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
        transpose: Sequence[float] | None = None,
        speed: float = 1.0,
    ) -> Answer:
        """Returns the best matches of a recording, a score file or a folder of page images.

        kind: the kind of `source`; by default judged by the file's name. A score in symbols that can be engraved is
            played if it is searched for among scores.
        start_s, end_s: the part of a recording that is searched for, in seconds.
        among: the kind of documents searched; by default the other kind.
        top, path: see `engine.search.searcher.Query`.
        transpose: semitones by which a recording is transposed before it is searched for; of several, the likeliest.
            By default none, unless the recording seems not to be in the collection (`engine.transposition`).
        speed: a recording runs at this multiple of the speed at which it was played.
        Raises MediaError if the file cannot be read, or has no music; QueryError if a score is to be transposed.
        """
        source, started = Path(source), time.perf_counter()
        kind = kind or documents.kind_of(source, among)
        medium = documents.read(source, kind, self._front_end, start_s, end_s, speed=speed)
        documents.warn_of_unread(source)
        return self._answer(medium, started, among, method, top, path, transpose)

    def query_samples(
        self,
        samples: NDArray[Any],
        rate: int,
        *,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
        path: bool = False,
        transpose: Sequence[float] | None = None,
        speed: float = 1.0,
    ) -> Answer:
        """Returns the best matches of sound in memory.

        samples: float (n,) or (n, channels), in -1..1. rate: in Hz.
        among, method, top, path, transpose, speed: see `query`.
        Raises AudioError if the samples cannot be used.
        """
        started = time.perf_counter()
        recording = audio.recording_of(samples, rate, self._front_end, speed=speed)
        return self._answer(recording, started, among, method, top, path, transpose)

    def query_pages(
        self,
        pages: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        *,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
        path: bool = False,
    ) -> Answer:
        """Returns the best matches of one page image, or of several in order.

        pages: uint8 (height, width), white 255, or (height, width, 3) in RGB; or a sequence of such arrays.
        among, method, top, path: see `query`.
        Raises PageError if an array is no page, or no page shows systems.
        """
        started = time.perf_counter()
        images = [pages] if isinstance(pages, np.ndarray) else pages
        return self._answer(score.score_of(images, self._front_end), started, among, method, top, path)

    def segment(
        self,
        source: Path | str,
        *,
        kind: Kind | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        among: Kind | None = None,
        transpose: Sequence[float] | None = None,
        speed: float = 1.0,
    ) -> dict[str, Any]:
        """Returns the set list of a long recording or of a volume of pages, see `engine.search.setlist.as_dict`.

        kind, start_s, end_s, among, speed: see `query`.
        transpose: semitones by which a recording is transposed, by default none; of several, see `engine.evening`.
        Raises MediaError if the file cannot be read, or has no music; QueryError if a volume is to be transposed.
        """
        source = Path(source)
        kind = kind or documents.kind_of(source, among)
        among = among or OTHER[kind]
        medium = documents.read(source, kind, self._front_end, start_s, end_s, speed=speed)
        documents.warn_of_unread(source)
        if transpose and not isinstance(medium, Recording):
            raise QueryError("expected a recording to transpose, got a volume of pages")
        start_s, extent = (medium.start_s, medium.duration_s) if isinstance(medium, Recording) else (0.0, medium.pages)
        found, shift = segmented(medium, self.engine.encoder, self.segmenter, among, transpose or ())
        return setlist.as_dict(found, kind, among, extent, self.collection, shift, start_s=start_s)

    def evening(self, rate: int, *, among: Kind = "score") -> LiveEvening:
        """Returns an evening that is still going on: `hear` its samples, then ask `found_in`.

        rate: sampling rate of the samples, in Hz. among: the kind of documents searched.
        Raises ValueError for an impossible rate.
        """
        return LiveEvening(rate, self._front_end, among)

    def found_in(self, evening: LiveEvening, *, all: bool = False) -> dict[str, Any]:
        """Returns the passages of an evening so far, see `engine.search.setlist.live_as_dict`.

        all: go on though little was heard since the last time, for example because the evening is over.
        """
        evening.find(self.engine.encoder, self.segmenter, all=all)
        return evening.as_dict(self.collection)

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
        """Adds a recording or a score, and returns whether the collection changed. The next query finds the document.

        `scorefind add` adds many files at once, in several processes.

        id: permanent name of the document; by default the name of the file or folder, without its suffix.
        title, composer, work: shown with the matches.
        replace: whether the new document may replace another document of the same id.
        Raises MediaError if the file cannot be read, DocumentExistsError if another document has this id and `replace`
        is False, CollectionLockedError if another process writes to the collection.
        """
        source, name = Path(source), documents.name_of(Path(source))
        kind = kind or documents.kind_of(source)
        document = Document(
            id=id or name,
            kind=kind,
            title=title,
            composer=composer,
            work=work,
            source=documents.source_of(source),
            content_hash=documents.content_hash(source),
        )
        sequence = None
        with self._writer() as writer:
            if writer.needs_embedding(document, replace=replace):
                documents.warn_of_unread(source)
                medium = documents.read(source, kind, self._front_end)
                (sequence,) = documents.sequences([medium], self.engine.encoder)
                document = documents.described(document, medium, sequence)
            status = writer.put(document, sequence, replace=replace, default_title=name)
            writer.commit()
        self.reload()
        return status

    def remove(self, *ids: str) -> None:
        """Removes documents by their ids. Raises DocumentMissingError if an id is unknown; then it removes none."""
        with self._writer() as writer:
            for id in ids:
                writer.remove(id)
            writer.commit()
        self.reload()

    def reload(self) -> None:
        """Opens the current generation of the collection. Another process may have committed it."""
        newer = open_collection(self.collection.path, self.engine.encoder.identity)
        self.collection.close()
        self.collection, self.searcher = newer, self.engine.searcher(newer)
        self.segmenter = self.engine.segmenter(self.searcher)

    def close(self) -> None:
        """Closes the collection."""
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

    def _writer(self) -> AnyWriter:
        network, threads = self.engine.encoder.identity, self.engine.settings.threads
        return open_writer(self.collection.path, network, threads=threads)

    def _answer(
        self,
        medium: Medium,
        started: float,
        among: Kind | None,
        method: Method,
        top: int,
        path: bool,
        transpose: Sequence[float] | None = None,
    ) -> Answer:
        """Returns the answer to a query whose medium has been read since the time `started`.

        The stage `embed` of its timings is the time that reading and embedding took, and `transpose` the time of tries.
        """
        encoder, kind = self.engine.encoder, _kind(medium)
        systems = medium.systems if isinstance(medium, Score) else ()
        among = among or OTHER[kind]

        def query(sequence: SnippetSequence) -> Query:
            return Query(sequence=sequence, among=among, method=method, top=top, path=path, systems=systems)

        if transpose and not isinstance(medium, Recording):
            raise QueryError("expected a recording to transpose, got a score")
        if isinstance(medium, Recording):
            answer = Transposer(searcher=self.searcher, encoder=encoder, query=query).answer(medium, transpose)
        else:
            (answer,) = self.searcher.answers(map(query, documents.sequences([medium], encoder)))
        total_ms = (time.perf_counter() - started) * 1000
        searched_ms = answer.timings_ms["total"] + answer.timings_ms.get("transpose", 0.0)
        times_ms = {"embed": total_ms - searched_ms} | answer.timings_ms | {"total": total_ms}
        return dataclasses.replace(answer, timings_ms=times_ms)


def _kind(medium: Medium) -> Kind:
    """Returns the kind of a medium."""
    return "recording" if isinstance(medium, Recording) else "score"


def open(
    path: Path | str,
    *,
    weights: Path | str | None = None,
    settings: SearchSettings | None = None,
    backend: BackendName = "auto",
    create: bool = False,
) -> Finder:
    """Opens the collection at `path` and returns its finder.

    weights: the network that embedded the collection; by default the shipped network.
    settings: settings of the searches. backend: the implementation that aligns.
    create: whether to make an empty collection if there is none.
    Raises CollectionError if the collection cannot be opened, and the errors of `Engine.load`.
    """
    engine = Engine.load(weights, settings=settings, backend=backend)
    if create and not (Path(path) / NAME).exists() and not is_sharded(Path(path)):
        CollectionWriter(path, engine.encoder.identity).close()
    return Finder(path, engine)
