"""Times of searches in one collection and in shards of it, at growing sizes.

Documents are made (`bench.lib.made_documents`); half of the snippets are scores. A collection of at most PLAIN_MOST
snippets is made in one and then divided, so both answer the same queries. A larger one is written into its shards at
once, which takes half of the disk and of the time. At every size the first shard is also asked alone: it tells what a
collection of a shard's size takes.
"""

import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib import made_documents
from bench.lib.made_documents import DistractorSource
from bench.lib.random_collection import document
from engine.collection import (
    AnyCollection,
    AnyWriter,
    Collection,
    CollectionWriter,
    ShardedCollection,
    open_collection,
    open_writer,
    shard,
)
from engine.embedding.documents import Encoder
from engine.files import replacing
from engine.finder import Engine
from engine.search.searcher import Query, Searcher
from engine.values import OTHER, Document, Embeddings, Kind, Snippets, SnippetSequence

logger = logging.getLogger(__name__)

FORMS: tuple[tuple[str, Kind, int], ...] = (
    ("A2S 50 s", "recording", 92),
    ("A2S 10 s", "recording", 12),
    ("S2A 4 systems", "score", 32),
    ("S2A 1 system", "score", 8),
)
"""Name, kind and length in snippets of each form of query."""
NOISE = 0.12
"""Standard deviation of the noise in each number of a query snippet, before its length is made 1 again."""
LENGTH = 300
"""Snippets of a made document."""
BIAS = 0.5
"""Bias of all made snippets. Computing it takes longer than the rest of a document, and changes no time of a search."""
PLAIN_MOST = 20_000_000
"""Snippets up to which a collection is made in one, and then divided."""
ASKED_ABOUT = 1000
"""Number of the first made documents, whose passages are the queries."""

Sources = Mapping[Kind, DistractorSource]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeBench:
    """What all sizes have in common."""

    engine: Engine
    sources: Sources
    """What made documents of each kind are made of."""
    work: Path
    """Folder that keeps the collections."""
    queries: int
    """Number of queries of each form."""
    round_trip_ms: float
    """Time of a call of Ray, for the model of one shard a machine."""

    def rows(self, size: int, counts: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yields a row for each number of shards and form of query, and for the first shard alone."""
        firsts: dict[str, list[str]] = {}
        for count in counts:
            if count == 1 and size > PLAIN_MOST:
                continue
            path = self.made(size, count)
            with open_collection(path) as collection:
                yield from self._timed(collection, str(count), firsts)
                if isinstance(collection, ShardedCollection):
                    name, part = next(iter(collection.parts.items()))
                    yield from self._timed(part, f"{name} of {count} alone", {})

    def made(self, size: int, count: int) -> Path:
        """Returns a collection of about `size` snippets in some shards, which is made unless it exists."""
        path = self.work / (f"{size}" if count == 1 else f"{size}-{count}")
        started = time.monotonic()
        if path.exists():
            return path
        if count > 1 and size <= PLAIN_MOST:
            shard(self.made(size, 1), path, count)
        else:
            write(path, size, count, self.sources, self.engine.encoder)
        logger.info("%s: made in %.0f s", path, time.monotonic() - started)
        return path

    def asked(self, kind: Kind, length: int) -> list[Query]:
        """Returns the queries of a kind: noisy passages of made documents of the other kind."""
        rng, asked = np.random.default_rng(length), []
        for _ in range(self.queries):
            rows = made_documents.embeddings(self.sources[OTHER[kind]], int(rng.integers(ASKED_ABOUT)))
            snippets = Snippets(kind=kind, embeddings=noisy(rows, length, rng))
            asked.append(Query(sequence=snippets, among=OTHER[kind], locate=False))
        return asked

    def _timed(self, collection: AnyCollection, shards: str, firsts: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
        """Yields a row for each form of query. firsts: first matches by form of the first collection of this size."""
        searcher = self.engine.searcher(collection)
        searcher.load()
        for form, kind, length in FORMS:
            row, found = timed(searcher, self.asked(kind, length))
            same = np.mean([a == b for a, b in zip(firsts.setdefault(form, found), found, strict=True)])
            model_ms = row["slowest_ms"] + row["merge_ms"] + row["trips"] * self.round_trip_ms
            yield {
                "snippets": collection.snippets,
                "shards": shards,
                "form": form,
                **row,
                "round_trip_ms": self.round_trip_ms,
                "model_ms": model_ms,
                "same_first": float(same),
            }


def write(path: Path, size: int, count: int, sources: Sources, encoder: Encoder) -> None:
    """Writes a collection of about `size` made snippets, half of them scores, in one or in `count` shards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, ExitStack() as opened:
        writer: AnyWriter = opened.enter_context(_empty(unfinished, count, encoder))
        total = size // (LENGTH * len(sources))
        for number in range(total):
            for source in sources.values():
                writer.put(*_document(source, number, encoder))
            if number % (total // 10 + 1) == 0:
                logger.info("%s: document %d of %d of each kind", path, number, total)
        writer.commit()


def _document(source: DistractorSource, number: int, encoder: Encoder) -> tuple[Document, SnippetSequence]:
    """Returns a made document whose snippets all have the bias BIAS."""
    rows = made_documents.embeddings(source, number)
    id, bias = f"{made_documents.PREFIX}-{source.kind}-{number:06d}", np.full(len(rows), BIAS, np.float32)
    return document(id, source.kind, rows, bias, encoder.identity.front_end)


def sources_of(real: Collection) -> Sources:
    """Returns what made documents are made of: the documents of a collection."""
    lengths = np.full(1, LENGTH, np.int64)
    return {kind: DistractorSource.of(real.packed(kind), kind, lengths) for kind in OTHER}


def noisy(rows: Embeddings, length: int, rng: np.random.Generator) -> Embeddings:
    """Returns a random passage of snippets, with noise."""
    first = int(rng.integers(len(rows) - length + 1))
    found = rows[first : first + length] + NOISE * rng.standard_normal((length, rows.shape[1]))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def timed(searcher: Searcher, queries: Sequence[Query]) -> tuple[dict[str, Any], list[str]]:
    """Returns the times of queries, asked one by one, and the id of the first match of each."""
    searcher.answers(queries[:2])
    total, busy, slowest, merge, found = [], [], [], [], []
    trips = 0
    for query in queries:
        started, worked = time.perf_counter(), time.process_time()
        (answer,) = searcher.answers([query])
        took_ms = (time.perf_counter() - started) * 1000
        of_shard: dict[str, float] = {}
        stages = set()
        for name, ms in answer.timings_ms.items():
            stage, _, shard_name = name.partition(" ")
            if shard_name:
                of_shard[shard_name] = of_shard.get(shard_name, 0.0) + ms
                stages.add(stage)
        total.append(took_ms)
        busy.append((time.process_time() - worked) * 1000)
        slowest.append(max(of_shard.values(), default=took_ms))
        merge.append(took_ms - sum(of_shard.values()) if of_shard else 0.0)
        trips = max(trips, len(stages))
        found.append(answer.matches[0].document.id if answer.matches else "")
    plan = searcher.plan(queries[0])
    times = {
        "p50_ms": float(np.median(total)),
        "p95_ms": float(np.quantile(total, 0.95)),
        "cpu_ms": float(np.median(busy)),
    }
    parts = {"slowest_ms": float(np.median(slowest)), "merge_ms": float(np.median(merge)), "trips": trips}
    return times | parts | {"aligned": plan.aligned, "documents": plan.documents}, found


def _empty(path: Path, count: int, encoder: Encoder) -> AnyWriter:
    """Opens the writer of a new collection, plain or in shards."""
    if count == 1:
        return CollectionWriter(path, encoder.identity)
    plain = path.with_name(f"{path.name}.empty")
    shutil.rmtree(plain, ignore_errors=True)
    with CollectionWriter(plain, encoder.identity) as writer:
        writer.commit()
    shard(plain, path, count)
    shutil.rmtree(plain)
    return open_writer(path)
