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
from dataclasses import dataclass, field, replace
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
from engine.score import PageAddress
from engine.values import Document, Embeddings, NetworkIdentity, SnippetSequence
from engine.workers import Agenda, Failure, each, tell
from indexer import identifiers, long_scores
from indexer.long_scores import LONG_PAGES, LongScore, PagesTask, ReadPages, SnippetsTask
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
                adding = _Run(writer, encoder, progress, takeover, keep_media)
                for path, cause in assigned.failed.items():
                    adding.fail(path, cause)
                ordered = costliest_first(assigned.sources) if jobs > 1 else assigned.sources
                adding.embed(ordered, load_encoder, functools.partial(run, jobs=jobs))
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
    """A source to be embedded, or a share of the work on a long score."""

    source: Source
    document: Document
    """The document before embedding: without snippets, systems and duration."""
    keep_media: bool
    share: PagesTask | SnippetsTask | None = None
    """The share of the work; None means all of it, or to tell that the score is long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Long:
    """What a worker tells of a long score instead of embedding it."""

    addresses: list[PageAddress]
    """Where its pages lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Embedded:
    """What has been made of a source."""

    document: Document
    sequence: SnippetSequence
    media: dict[int, bytes]


class _Run:
    """One run of `add`: decides which sources are embedded, and records the outcome for each."""

    def __init__(
        self, writer: AnyWriter, encoder: Encoder, progress: "tqdm[Never]", takeover: bool, keep_media: bool
    ) -> None:
        self.summary = Summary()
        self._writer = writer
        self._encoder = encoder
        self._long: dict[str, LongScore] = {}
        """Long scores at work, by the ids of their documents."""
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
        work, agenda = functools.partial(_done, load_encoder), Agenda(self._tasks(sources))
        outcomes = run(work, agenda, expected=(EngineError,), observe=self._observe)
        with closing(outcomes):
            for task, outcome in outcomes:
                try:
                    agenda.prepend(self._take(task, outcome))
                except MediaError as exc:  # the parts of a long score make none
                    self._give_up(task, exc.cause)

    def _take(self, task: _Task, outcome: Any) -> Iterator[_Task]:
        """Takes the outcome of a task, and returns the tasks that follow from it.

        Raises MediaError if all pages of a long score are read and show no music.
        """
        id, share = task.document.id, task.share
        following: Iterator[PagesTask | SnippetsTask] = iter(())
        if share is not None and id not in self._long:
            pass  # the score has failed by another share
        elif isinstance(outcome, Failure):
            self._give_up(task, outcome.cause)
        elif isinstance(outcome, _Embedded):
            self._put(task.source, outcome.document, outcome)
        elif isinstance(outcome, _Long):
            front_end = self._encoder.identity.front_end
            self._long[id] = LongScore(task.source.path, outcome.addresses, front_end, keep_media=self._keep_media)
            following = self._long[id].tasks()
        elif isinstance(share, PagesTask):
            following = self._long[id].take_pages(share, outcome)
            self._observe(task, (self._long[id].pages_read, self._long[id].pages))
        elif isinstance(share, SnippetsTask):
            self._long[id].take_embeddings(share, outcome)
            self._put_long(task, self._long[id])
        return self._shares(task, following)

    def _put_long(self, task: _Task, long: LongScore) -> None:
        """Puts a long score into the collection, if all its snippets are embedded."""
        if long.score is None or long.embeddings is None:
            return
        del self._long[task.document.id]
        sequence = documents.score_sequence(long.score, long.embeddings, self._encoder)
        document = documents.described(task.document, long.score, sequence)
        self._put(task.source, document, _Embedded(document=document, sequence=sequence, media=long.pictures))

    def _shares(self, task: _Task, shares: Iterator[PagesTask | SnippetsTask]) -> Iterator[_Task]:
        """Yields the shares of the work on a long score as tasks, until the score has failed."""
        for share in shares:
            if task.document.id not in self._long:
                return
            yield replace(task, share=share)

    def _give_up(self, task: _Task, cause: str) -> None:
        """Records a source that cannot be embedded."""
        self._long.pop(task.document.id, None)
        self._failed(task.source, cause)

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
        self._progress.set_postfix_str(f"{document.id}; {self.rates()}", refresh=False)
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


def _done(load_encoder: LoadEncoder, task: _Task) -> _Embedded | _Long | ReadPages | Embeddings | Failure:
    """The result of a task, or a Failure if the source cannot be read; runs in a worker."""
    encoder = worker_encoder(load_encoder)
    try:
        if task.share is not None:
            return long_scores.done(task.share, encoder)
        addresses = documents.page_addresses(task.source.path, task.source.kind)
        return _Long(addresses=addresses) if len(addresses) > LONG_PAGES else _embedded(task, encoder)
    except MediaError as exc:
        return Failure(cause=exc.cause)


def _embedded(task: _Task, encoder: Encoder) -> _Embedded:
    """The document of a source, its snippets and what is kept of its file. Raises MediaError."""
    path, kind = task.source.path, task.source.kind
    medium = documents.read(path, kind, encoder.identity.front_end, progress=_tell_pages)
    kept = media.of_file(path, kind) if task.keep_media else {}
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
