"""Adds files to a collection: worker processes embed what is new or changed, and one commit publishes all of it.

The parent process holds the collection's writer. It decides for each source whether embedding is needed; the workers
only read and embed.
"""

import functools
import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Never

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from engine import media
from engine.collection import AnyWriter, open_writer
from engine.collection.identity import Status
from engine.embedding import documents
from engine.embedding.documents import Encoder
from engine.errors import DocumentExistsError, EngineError, MediaError
from engine.values import Document, NetworkIdentity, SnippetSequence
from engine.workers import Failure, each, tell
from indexer import identifiers
from indexer.sources import Source

logger = logging.getLogger(__name__)

LoadEncoder = Callable[[], Encoder]
"""Loads an encoder. Each worker process loads its own, so the callable must be picklable."""
Each = Callable[..., Generator[tuple[Any, Any], None, None]]
"""Does work with each of some tasks in other processes: `engine.workers.each`, or one that spreads it over machines."""


@dataclass(slots=True, kw_only=True)
class Summary:
    """The outcome of one run for each of its sources."""

    added: list[str] = field(default_factory=list)
    """Ids of the new documents, in order of completion, as in the two lists below."""
    changed: list[str] = field(default_factory=list)
    """Ids of the documents whose content, path or description (title, composer, work) changed."""
    unchanged: list[str] = field(default_factory=list)
    """Ids of the documents that the collection already had as they are."""
    failed: dict[Path, str] = field(default_factory=dict)
    """Paths of the sources that could not be added, each with the reason."""
    passed_over: dict[Path, str] = field(default_factory=dict)
    """Paths of the images beside recordings that are no scores, each with the reason."""
    snippets: int = 0
    """Number of snippets that were embedded."""
    pages: int = 0
    """Number of pages of the scores that were embedded."""
    sound_s: float = 0.0
    """Seconds of the recordings that were embedded."""

    def ids(self, status: Status) -> list[str]:
        """The list of the ids with this status."""
        return {"added": self.added, "changed": self.changed, "unchanged": self.unchanged}[status]


def add(
    collection: Path,
    sources: tuple[Source, ...],
    load_encoder: LoadEncoder,
    *,
    jobs: int = 1,
    takeover: bool = False,
    keep_media: bool = False,
    run: Each = each,
    opened: Callable[[NetworkIdentity], AnyWriter] | None = None,
) -> Summary:
    """Brings a collection up to date with `sources`, commits once at the end, and returns the outcome for each source.

    The collection is created if it does not exist. Sources without an id get one (`indexer.identifiers`). A source that
    cannot be embedded fails alone. If the process is stopped or killed, the writer keeps the sequences that were
    embedded so far, and the next run uses them instead of embedding those sources again.

    takeover: let a file replace another document of the same id (`engine.collection.identity`); otherwise it fails.
    keep_media: keep pictures of the pages and the sound in the collection, also of documents that are there without.
    run: how the work is spread over processes. opened: opens the writer, if the collection is elsewhere.
    Raises CollectionError and WeightsError.
    """
    if not sources:
        return Summary()
    encoder = load_encoder()
    logger.info("network %s on %s", encoder.identity.name, encoder.device)
    with opened(encoder.identity) if opened else open_writer(collection, encoder.identity, threads=jobs) as writer:
        try:
            assigned = identifiers.assign(sources, writer.ids_by_source())
            with logging_redirect_tqdm(), _progress(len(sources)) as progress:
                adding = _Run(writer, progress, takeover, keep_media)
                for path, cause in assigned.failed.items():
                    adding.fail(path, cause)
                ordered = costliest_first(assigned.sources) if jobs > 1 else assigned.sources
                adding.embed(ordered, load_encoder, functools.partial(run, jobs=min(jobs, len(sources))))
            generation = writer.commit()
        except KeyboardInterrupt:
            logger.error(
                "%s: stopped; the collection is unchanged, and the next run uses what was embedded", collection
            )
            raise
    logger.info(
        "%s: generation %d, %d snippets embedded: %s", collection, generation, adding.summary.snippets, adding.rates()
    )
    return adding.summary


def costliest_first(sources: Iterable[Source]) -> list[Source]:
    """The sources in the order in which several processes finish at about the same time.

    The last document to begin should be a short one. Scores come before recordings, because a page takes some ten
    times the processor time of as many bytes of sound; of each kind, the largest comes first.
    """
    return sorted(sources, key=lambda source: (source.kind == "recording", -documents.size_of(source.path)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    source: Source
    document: Document
    """The document before embedding: without snippets, systems and duration."""
    keep_media: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Embedded:
    """What a worker has made of a source."""

    document: Document
    sequence: SnippetSequence
    media: dict[int, bytes]


class _Run:
    """One run of `add`: decides which sources are embedded, and records the outcome for each."""

    def __init__(self, writer: AnyWriter, progress: "tqdm[Never]", takeover: bool, keep_media: bool) -> None:
        self.summary = Summary()
        self._writer = writer
        self._progress = progress
        self._takeover = takeover
        self._keep_media = keep_media
        self._started_s = self._shown_s = time.monotonic()
        """Times at which the run started, and at which the pages of a document at work were last shown."""

    def fail(self, path: Path, cause: str) -> None:
        """Records a path that cannot be added."""
        logger.info("%s was not added: %s", path, cause)
        self.summary.failed[path] = cause
        self._progress.update()

    def embed(self, sources: Iterable[Source], load_encoder: LoadEncoder, run: Each) -> None:
        """Puts every source into the collection or into `summary.failed`; embeds the new and changed ones."""
        work = functools.partial(_embed, load_encoder)
        outcomes = run(work, self._tasks(sources), expected=(EngineError,), observe=self._observe)
        with closing(outcomes):
            for task, outcome in outcomes:
                if isinstance(outcome, Failure):
                    self._failed(task.source, outcome.cause)
                else:
                    self._put(task.source, outcome.document, outcome)

    def _tasks(self, sources: Iterable[Source]) -> Iterator[_Task]:
        """Yields the sources that must be embedded; puts or fails the other sources on the way."""
        for source in sources:
            try:
                document = _document(source)
                needs_embedding = self._writer.needs_embedding(document, replace=self._takeover, media=self._keep_media)
            except MediaError as exc:
                self.fail(source.path, exc.cause)
            except DocumentExistsError as exc:
                self.fail(source.path, f"{exc.cause}; give this file its own id in a manifest, or use --replace")
            else:
                if needs_embedding:
                    yield _Task(source=source, document=document, keep_media=self._keep_media)
                else:
                    self._put(source, document, None)

    def _observe(self, task: _Task, pages: tuple[int, int]) -> None:
        """Shows how many pages of a score are done, and of how many. Another document may be at work, too."""
        now_s = time.monotonic()
        if now_s - self._shown_s >= self._progress.mininterval:
            self._progress.set_postfix_str(f"{task.document.id}: page {pages[0]} of {pages[1]}; {self.rates()}")
            self._shown_s = now_s

    def rates(self) -> str:
        """Pages, and minutes of sound, of the documents that are embedded, and how many of them a second."""
        pages, minutes, passed_s = self.summary.pages, self.summary.sound_s / 60, time.monotonic() - self._started_s
        return f"{pages} pages ({pages / passed_s:.1f}/s), {minutes:.0f} min of sound ({minutes / passed_s:.2f}/s)"

    def _put(self, source: Source, document: Document, embedded: _Embedded | None) -> None:
        sequence, kept = (embedded.sequence, embedded.media) if embedded else (None, None)
        name = documents.name_of(source.path)
        status = self._writer.put(document, sequence, replace=self._takeover, default_title=name, media=kept)
        self.summary.ids(status).append(document.id)
        if sequence is not None:
            self.summary.snippets += len(sequence)
            self.summary.pages += document.pages
            self.summary.sound_s += document.duration_s
        self._progress.update()

    def _failed(self, source: Source, cause: str) -> None:
        """Records a source that shows no music. An image beside recordings was only presumed to be a score."""
        if source.presumed:
            self.summary.passed_over[source.path] = cause
            self._progress.update()
        else:
            self.fail(source.path, cause)


def _document(source: Source) -> Document:
    """The document of a source before embedding. Raises MediaError if a file of the source cannot be read."""
    return Document(
        id=source.id,
        kind=source.kind,
        title=source.title,
        composer=source.composer,
        work=source.work,
        source=documents.source_of(source.path),
        content_hash=documents.content_hash(source.path),
    )


def _embed(load_encoder: LoadEncoder, task: _Task) -> _Embedded | Failure:
    """The document, its snippets and what is kept of its file, or a Failure if it cannot be read; runs in a worker."""
    encoder = worker_encoder(load_encoder)
    try:
        front_end = encoder.identity.front_end
        medium = documents.read(task.source.path, task.source.kind, front_end, progress=_tell_pages)
        kept = media.of_file(task.source.path, task.source.kind) if task.keep_media else {}
    except MediaError as exc:
        return Failure(cause=exc.cause)
    (sequence,) = documents.sequences([medium], encoder)
    return _Embedded(document=documents.described(task.document, medium, sequence), sequence=sequence, media=kept)


def _tell_pages(done: int, total: int) -> None:
    """Tells the parent process how many pages of the score at hand are done, and of how many."""
    tell((done, total))


@functools.cache
def worker_encoder(load_encoder: LoadEncoder) -> Encoder:
    """The encoder of this process, loaded on the first call."""
    return load_encoder()


def _progress(total: int) -> "tqdm[Never]":
    """A progress bar on stderr with rate and time left. If stderr is not a terminal, it writes every 10 s only."""
    return tqdm(total=total, unit="file", dynamic_ncols=True, mininterval=0.2 if sys.stderr.isatty() else 10.0)
