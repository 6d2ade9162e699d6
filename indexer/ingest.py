"""Files in, documents of a collection out: what is new or changed is embedded by worker processes, then committed."""

import functools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from engine.collection import CollectionWriter
from engine.collection.identity import Status
from engine.embedding import documents
from engine.embedding.documents import Encoder
from engine.errors import DocumentExistsError, EngineError, MediaError
from engine.values import Document, SnippetSequence
from engine.workers import Failure, each
from indexer.sources import Source

logger = logging.getLogger(__name__)

LoadEncoder = Callable[[], Encoder]
"""Picklable, for each worker process loads its own."""


@dataclass(slots=True, kw_only=True)
class Summary:
    """What became of the sources of one run."""

    added: list[str] = field(default_factory=list)
    """Ids, in order of completion, as in the lists below."""
    changed: list[str] = field(default_factory=list)
    """Their content, or only what the manifest says of them."""
    unchanged: list[str] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    """From a source to why it is not in the collection."""
    snippets: int = 0
    """How many were embedded."""

    def ids(self, status: Status) -> list[str]:
        """The list of this status."""
        return {"added": self.added, "changed": self.changed, "unchanged": self.unchanged}[status]


def add(
    collection: Path,
    sources: tuple[Source, ...],
    load_encoder: LoadEncoder,
    *,
    jobs: int = 1,
    takeover: bool = False,
) -> Summary:
    """Brings a collection, which is made if need be, up to date with `sources`, and commits once at the end.

    A source that cannot be embedded fails alone. What was embedded before the process was stopped or killed is kept
    aside, and the next run that adds it does not embed it again.

    takeover: let a file replace another document of the same id (`engine.collection.identity`); otherwise it fails.
    Raises CollectionError and WeightsError.
    """
    if not sources:
        return Summary()
    with CollectionWriter(collection, load_encoder().identity, threads=jobs) as writer:
        try:
            with logging_redirect_tqdm(), _progress(len(sources)) as progress:
                run = _Run(writer, progress, takeover)
                run.embed(sources, load_encoder, min(jobs, len(sources)))
            generation = writer.commit()
        except KeyboardInterrupt:
            logger.error("%s: stopped; it is as it was, and what is done already is kept for the next run", collection)
            raise
    logger.info("%s: generation %d, %d snippets more", collection, generation, run.summary.snippets)
    return run.summary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    source: Source
    document: Document
    """What is known of it before it is read."""


class _Run:
    """One run of `add`: which sources are embedded, and what became of each."""

    def __init__(self, writer: CollectionWriter, progress: "tqdm[Never]", takeover: bool) -> None:
        self.summary = Summary()
        self._writer = writer
        self._progress = progress
        self._takeover = takeover

    def embed(self, sources: Iterable[Source], load_encoder: LoadEncoder, jobs: int) -> None:
        work = functools.partial(_embed, load_encoder)
        with closing(each(work, self._tasks(sources), jobs=jobs, expected=(EngineError,))) as outcomes:
            for task, outcome in outcomes:
                if isinstance(outcome, Failure):
                    self._fail(task.source.path, outcome.cause)
                else:
                    self._put(task.source, *outcome)

    def _tasks(self, sources: Iterable[Source]) -> Iterator[_Task]:
        """What has to be embedded; the rest is settled on the way."""
        for source in sources:
            try:
                document = _document(source)
                needs_embedding = self._writer.needs_embedding(document, replace=self._takeover)
            except MediaError as exc:
                self._fail(source.path, exc.cause)
            except DocumentExistsError as exc:
                self._fail(source.path, f"{exc.cause}; name this one otherwise in a manifest, or say --replace")
            else:
                if needs_embedding:
                    yield _Task(source=source, document=document)
                else:
                    self._put(source, document, None)

    def _put(self, source: Source, document: Document, sequence: SnippetSequence | None) -> None:
        name = documents.name_of(source.path)
        status = self._writer.put(document, sequence, replace=self._takeover, default_title=name)
        self.summary.ids(status).append(document.id)
        self.summary.snippets += 0 if sequence is None else len(sequence)
        self._progress.update()

    def _fail(self, path: Path, cause: str) -> None:
        logger.info("%s is left out: %s", path, cause)
        self.summary.failed[path] = cause
        self._progress.update()


def _document(source: Source) -> Document:
    """What is known of a source before it is read. Raises MediaError if a byte of it cannot be read."""
    return Document(
        id=source.id,
        kind=source.kind,
        title=source.title,
        composer=source.composer,
        work=source.work,
        source=str(source.path.absolute()),
        content_hash=documents.content_hash(source.path),
    )


def _embed(load_encoder: LoadEncoder, task: _Task) -> tuple[Document, SnippetSequence] | Failure:
    """Runs in a worker."""
    encoder = worker_encoder(load_encoder)
    try:
        medium = documents.read(task.source.path, task.source.kind, encoder.identity.front_end)
    except MediaError as exc:
        return Failure(cause=exc.cause)
    (sequence,) = documents.sequences([medium], encoder)
    return documents.described(task.document, medium, sequence), sequence


@functools.cache
def worker_encoder(load_encoder: LoadEncoder) -> Encoder:
    """The one encoder of this process."""
    return load_encoder()


def _progress(total: int) -> "tqdm[Never]":
    """A bar on stderr with rate and time left; into a log file it writes now and then only."""
    return tqdm(total=total, unit="file", dynamic_ncols=True, mininterval=0.2 if sys.stderr.isatty() else 10.0)
