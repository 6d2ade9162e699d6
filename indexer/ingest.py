"""Files in, documents of a collection out: what is new or changed is embedded by worker processes, then committed."""

import functools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Never

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from engine import documents
from engine.collection import CollectionWriter
from engine.documents import Encoder
from engine.errors import EngineError, MediaError
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
    """Of added and changed documents."""


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
    aside, and taken in by the next run that is asked for it.

    takeover: let a file replace a document of the same id that another file made; otherwise it fails.
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
    content_hash: str
    known: Document | None
    """The document of its id that is there already."""


class _Run:
    """One run of `add`: what is known of each source, what is embedded, and what became of it."""

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
                    self._take(task, *outcome)

    def _tasks(self, sources: Iterable[Source]) -> Iterator[_Task]:
        """What has to be embedded; the rest is settled on the way."""
        for source in sources:
            try:
                content_hash = documents.content_hash(source.path)
            except MediaError as exc:
                self._fail(source.path, exc.cause)
                continue
            known = self._writer.known(source.id)
            if known and not self._takeover and _is_another(known, source, content_hash):
                what = f"{source.id!r} is the {known.kind} made from {known.source}"
                self._fail(source.path, f"{what}; name this one otherwise in a manifest, or say --replace")
            elif known and known.kind == source.kind and self._writer.staged(source.id, content_hash):
                self._keep(known, source)
            else:
                yield _Task(source=source, content_hash=content_hash, known=known)

    def _take(self, task: _Task, document: Document, sequence: SnippetSequence) -> None:
        document = replace(_described(document, task.known, task.source), content_hash=task.content_hash)
        self._writer.stage(document, sequence)
        (self.summary.changed if task.known else self.summary.added).append(document.id)
        self.summary.snippets += len(sequence)
        self._progress.update()

    def _keep(self, known: Document, source: Source) -> None:
        """Its content is there; what is said of it may be new."""
        described = _described(known, known, source)
        if described == known:
            self.summary.unchanged.append(source.id)
        else:
            self._writer.stage(described, self._writer.sequence(source.id))
            self.summary.changed.append(source.id)
        self._progress.update()

    def _fail(self, path: Path, cause: str) -> None:
        logger.info("%s is left out: %s", path, cause)
        self.summary.failed[path] = cause
        self._progress.update()


def _is_another(known: Document, source: Source, content_hash: str) -> bool:
    """Whether a document of the source's id was made from something else than the source, older or newer."""
    moved = Path(known.source) != source.path.absolute()
    return known.kind != source.kind or (moved and known.content_hash != content_hash)


def _described(document: Document, known: Document | None, source: Source) -> Document:
    """The document with what the manifest says of it, else with what was known before."""
    before = known or replace(document, title=documents.name_of(source.path))
    return replace(
        document,
        id=source.id,
        title=source.title or before.title,
        composer=source.composer or before.composer,
        work=source.work or before.work,
        source=str(source.path.absolute()),
    )


def _embed(load_encoder: LoadEncoder, task: _Task) -> tuple[Document, SnippetSequence] | Failure:
    """Runs in a worker."""
    try:
        return documents.embed(task.source.path, task.source.kind, worker_encoder(load_encoder))
    except MediaError as exc:
        return Failure(cause=exc.cause)


@functools.cache
def worker_encoder(load_encoder: LoadEncoder) -> Encoder:
    """The one encoder of this process."""
    return load_encoder()


def _progress(total: int) -> "tqdm[Never]":
    """A bar on stderr with rate and time left; into a log file it writes now and then only."""
    return tqdm(total=total, unit="file", dynamic_ncols=True, mininterval=0.2 if sys.stderr.isatty() else 10.0)
