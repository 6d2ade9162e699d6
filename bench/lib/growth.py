"""A collection that grows: some real pieces, and more and more made documents (`made_documents`)."""

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from bench.lib import made_documents
from bench.lib.made_documents import DistractorSource
from engine.collection import Collection, CollectionWriter
from engine.values import Document, Kind, SnippetSequence
from engine.workers import Failure, each
from indexer.ingest import LoadEncoder, worker_encoder

BLOCK = 128
"""Number of documents that a worker makes at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The snippets that were added to a collection, and the time that took."""

    snippets: int
    """Number of snippets added."""
    made_s: float
    """Seconds to make and store the snippets."""
    commit_s: float
    """Seconds to commit the snippets, with their indexes."""


def grow(
    path: Path,
    pieces: Collection,
    sources: Mapping[Kind, DistractorSource],
    snippets: int,
    load: LoadEncoder,
    *,
    jobs: int,
) -> Growth:
    """Adds made documents to the collection at `path` until it holds `snippets` snippets of each kind, and commits.

    A new collection gets the real pieces first. A collection of a size always holds the same documents in the same
    order, whatever sizes it had before.
    """
    started = time.perf_counter()
    with CollectionWriter(path, load().identity, threads=jobs) as writer:
        with Collection.open(path) as before:
            held = {kind: before.manifest.kinds[kind] for kind in sources}
        added = 0
        if sum(one.documents for one in held.values()) == 0:
            for document in pieces.documents:
                writer.put(document, pieces.sequence(document.id))
                added += document.snippets
            held = {kind: pieces.manifest.kinds[kind] for kind in sources}
        for kind, source in sources.items():
            first = held[kind].documents - pieces.manifest.kinds[kind].documents
            last = first + count_for(source, first, snippets - held[kind].snippets)
            for document, sequence in _made(source, first, last, load, jobs):
                writer.put(document, sequence)
                added += len(sequence)
        made_s = time.perf_counter() - started
        writer.commit()
    return Growth(snippets=added, made_s=made_s, commit_s=time.perf_counter() - started - made_s)


def count_for(source: DistractorSource, first: int, snippets: int) -> int:
    """The number of made documents, from number `first` on, that have `snippets` snippets together."""
    count, total = 0, 0
    while total < snippets:
        total += made_documents.length(source, first + count)
        count += 1
    return count


def _made(
    source: DistractorSource, first: int, last: int, load: LoadEncoder, jobs: int
) -> Iterator[tuple[Document, SnippetSequence]]:
    """The made documents first..last - 1, in order, made by `jobs` processes."""
    blocks = [range(start, min(start + BLOCK, last)) for start in range(first, last, BLOCK)]
    waiting: dict[range, list[tuple[Document, SnippetSequence]]] = {}
    turns = iter(blocks)
    turn = next(turns, None)
    work = functools.partial(_block, source, load)
    progress = tqdm(total=len(blocks), desc=source.kind, unit="block", disable=None, leave=False)
    with progress, closing(each(work, blocks, jobs=jobs)) as results:
        for block, result in results:
            if isinstance(result, Failure):
                raise RuntimeError(f"documents {block} could not be made: {result.cause}")
            progress.update()
            waiting[block] = result
            while turn in waiting:
                yield from waiting.pop(turn)
                turn = next(turns, None)


def _block(source: DistractorSource, load: LoadEncoder, numbers: range) -> list[tuple[Document, SnippetSequence]]:
    """The made documents of some numbers, made in a worker process."""
    encoder = worker_encoder(load)
    return [made_documents.made(source, number, encoder) for number in numbers]
