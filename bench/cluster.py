"""What do shards cost, what do they gain, and what becomes of answers while processes die?

    python -m bench.cluster [--source COLLECTION] [--sizes 1e6 1e7] [--shards 1 4] [--work DIR] [--json FILE]
    python -m bench.cluster --identical [--source COLLECTION] [--work DIR]
    python -m bench.cluster --chaos [--minutes 10] [--work DIR] [--json FILE]

Documents are made (`bench.lib.made_documents`) from those of a collection, by default that of the demo; half of the
snippets are scores. Queries are passages of made documents with noise, of the four forms of `bench.scale`: 50 s and
10 s of a recording among scores (A2S), four systems and one system of a score among recordings (S2A).

Each number of shards holds the same documents. All shards are asked in this process, one after the other, so their
times are those of machines that do nothing else. `slowest_ms` is the median time of the slowest shard, `merge_ms` that
of what is left of the search: planning, votes, ranking and confidence. `model_ms` adds up a cluster with one shard a
machine: the slowest shard, the merge, and a round trip of Ray for each stage (`round_trip_ms`, measured with one
process of Ray). `same_first` is the share of queries with the same first match as in one shard: all of them, where no
index has cells.

`--identical` splits the documents of `--source` into 1, 2, 4 and 7 shards, and counts the random queries whose answers
differ in an id, a cost, a rank, a confidence or anything else than times.

`--chaos` runs two replicas of each shard on Ray and asks all the time, while replicas are killed or stopped for some
seconds, and documents are added. It counts wrong answers, acknowledged documents that are lost, and answers that are
partial though a replica of each shard was left (`bench.lib.chaos`).
"""

import argparse
import importlib.util
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib import made_documents, report
from bench.lib.made_documents import DistractorSource
from engine import process
from engine.collection import (
    AnyCollection,
    Collection,
    CollectionWriter,
    ShardedCollection,
    open_collection,
    shard,
)
from engine.collection.manifest import KINDS
from engine.config import SearchSettings
from engine.embedding.encoder import Encoder
from engine.files import replacing
from engine.finder import Engine
from engine.search.answers import as_dict
from engine.search.searcher import Query, Searcher
from engine.values import OTHER, Embeddings, Kind, Method, Snippets

FORMS: tuple[tuple[str, Kind, int], ...] = (
    ("A2S 50 s", "recording", 92),
    ("A2S 10 s", "recording", 12),
    ("S2A 4 systems", "score", 32),
    ("S2A 1 system", "score", 8),
)
"""Name, kind and length in snippets of each form of query."""
NOISE = 0.12
"""Standard deviation of the noise in each number of a query snippet, before its length is made 1 again."""
COMPARED: tuple[Method, ...] = ("refine", "exhaustive", "vote", "fingerprint", "sdtw", "dtw")
COMPARED_QUERIES = 300


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = lambda text: int(float(text))  # noqa: E731
    parser.add_argument("--source", type=Path, default=Path("demo/collection"), help="collection of real documents")
    parser.add_argument("--sizes", type=number, nargs="+", default=[1_000_000, 10_000_000], help="snippets in all")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 4], help="numbers of shards")
    parser.add_argument("--queries", type=int, default=40, help="queries of each form")
    parser.add_argument("--work", type=Path, default=Path("runs/cluster"), help="folder that keeps the collections")
    parser.add_argument("--threads", type=int, default=1, help="threads of a search")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--identical", action="store_true", help="compare answers of shards with those of one collection"
    )
    parser.add_argument("--chaos", action="store_true", help="kill and stop replicas on Ray under load")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the chaos")
    options = parser.parse_args(arguments)
    environment = report.environment()
    print(report.heading(environment), flush=True)
    if options.chaos:
        from bench.lib import chaos

        rows = [chaos.run(options.work / "chaos", options.minutes)]
    elif options.identical:
        rows = list(_compared(options.source, options.work / "identical", options.threads))
    else:
        rows = list(_measured(options))
    print(report.table(rows), flush=True)
    if options.json:
        report.save(options.json, environment=environment, rows=rows)


def _measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields a row for each size, number of shards and form of query."""
    encoder = Encoder.load(threads=1)
    engine = Engine.load(settings=SearchSettings(threads=options.threads), encoder=encoder)
    with Collection.open(options.source, encoder.identity) as real:
        sources = {kind: _source(real, kind) for kind in OTHER}
    round_trip_ms = _round_trip_ms()
    for size in options.sizes:
        plain = _made(options.work / f"{size}", size, sources, encoder)
        firsts: dict[str, list[str]] = {}
        for count in options.shards:
            path = plain if count == 1 else plain.with_name(f"{size}-{count}")
            if not path.exists():
                shard(plain, path, count, threads=options.threads)
            with open_collection(path) as collection:
                searcher = engine.searcher(collection)
                searcher.load()
                for form, kind, length in FORMS:
                    row, found = _timed(searcher, list(_queries(sources, kind, length, options.queries)))
                    same = np.mean([a == b for a, b in zip(firsts.setdefault(form, found), found, strict=True)])
                    model_ms = row["slowest_ms"] + row["merge_ms"] + row["trips"] * round_trip_ms
                    yield {
                        "snippets": size,
                        "shards": count,
                        "form": form,
                        **row,
                        "round_trip_ms": round_trip_ms,
                        "model_ms": model_ms,
                        "same_first": float(same),
                    }


def _compared(source: Path, folder: Path, threads: int) -> Iterator[dict[str, Any]]:
    """Yields, for each number of shards and each method, how many random queries have another answer than in one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    engine = Engine.load(settings=SearchSettings(threads=threads))
    with open_collection(source, engine.encoder.identity) as one:
        queries = list(_passages(one))
        expected = [_told(engine, one, query) for query in queries]
        for count in (1, 2, 4, 7):
            shard(source, folder / str(count), count)
            with open_collection(folder / str(count)) as many:
                sizes = [part.snippets for part in many.parts.values()] if isinstance(many, ShardedCollection) else [1]
                differ = Counter(
                    query.method
                    for query, right in zip(queries, expected, strict=True)
                    if _told(engine, many, query) != right
                )
                yield {
                    "documents": many.count,
                    "snippets": many.snippets,
                    "shards": count,
                    "largest/mean": max(sizes) / np.mean(sizes),
                    "queries": len(queries),
                    **{f"{method} differ": differ[method] for method in COMPARED},
                }


def _passages(collection: AnyCollection) -> Iterator[Query]:
    """Yields 300 queries: noisy passages of random documents, of each kind and each method in turns."""
    rng = np.random.default_rng(0)
    for number in range(COMPARED_QUERIES):
        method, kind = COMPARED[number % len(COMPARED)], KINDS[number // len(COMPARED) % 2]
        document = collection.sequence(str(rng.choice(collection.ids(kind))))
        length = min(len(document), int(rng.choice([length for _, _, length in FORMS])))
        rows = _noisy(document.embeddings, length, rng)
        query = Snippets(kind=OTHER[kind], embeddings=rows)
        yield Query(sequence=query, among=kind, method=method, top=20, locate=number % 5 == 0)


def _told(engine: Engine, collection: AnyCollection, query: Query) -> str:
    """Returns all that an answer says, but for times and the generation."""
    (answer,) = engine.searcher(collection).answers([query])
    found = as_dict(answer, query.sequence.kind, query.among, collection)
    del found["timings_ms"], found["collection"]["generation"]
    return json.dumps(found, default=float)


def _noisy(rows: Embeddings, length: int, rng: np.random.Generator) -> Embeddings:
    """Returns a random passage with noise."""
    first = int(rng.integers(len(rows) - length + 1))
    noisy = rows[first : first + length] + NOISE * rng.standard_normal((length, rows.shape[1]))
    return np.asarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), np.float32)


def _source(real: Collection, kind: Kind) -> DistractorSource:
    packed = real.packed(kind)
    return DistractorSource.of(packed, kind, np.full(1, 300, np.int64))


def _made(path: Path, size: int, sources: dict[Kind, DistractorSource], encoder: Encoder) -> Path:
    """Returns a plain collection of about `size` snippets, which is made unless it exists."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished, CollectionWriter(unfinished, encoder.identity) as writer:
            for number in range(size // 600):
                for source in sources.values():
                    writer.put(*made_documents.made(source, number, encoder))
            writer.commit()
    return path


def _queries(sources: dict[Kind, DistractorSource], kind: Kind, length: int, count: int) -> Iterator[Query]:
    """Yields queries of a kind: noisy passages of made documents of the other kind."""
    rng = np.random.default_rng(length)
    for _ in range(count):
        rows = made_documents.embeddings(sources[OTHER[kind]], int(rng.integers(1000)))
        noisy = _noisy(rows, length, rng)
        yield Query(sequence=Snippets(kind=kind, embeddings=noisy), among=OTHER[kind], locate=False)


def _timed(searcher: Searcher, queries: list[Query]) -> tuple[dict[str, Any], list[str]]:
    """Returns the times of queries, asked one by one, and the id of the first match of each."""
    searcher.answers(queries[:2])
    total, slowest, merge, found = [], [], [], []
    trips = 0
    for query in queries:
        started = time.perf_counter()
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
        slowest.append(max(of_shard.values(), default=took_ms))
        merge.append(took_ms - sum(of_shard.values()) if of_shard else 0.0)
        trips = max(trips, len(stages))
        found.append(answer.matches[0].document.id if answer.matches else "")
    plan = searcher.plan(queries[0])
    times = {"p50_ms": float(np.median(total)), "p95_ms": float(np.quantile(total, 0.95))}
    parts = {"slowest_ms": float(np.median(slowest)), "merge_ms": float(np.median(merge)), "trips": trips}
    return times | parts | {"aligned": plan.aligned, "documents": plan.documents}, found


def _round_trip_ms() -> float:
    """Returns the median time of a call of a process of Ray on this machine; 0 without the package."""
    if importlib.util.find_spec("ray") is None:
        return 0.0
    from bench.lib.chaos import start_ray

    start_ray({})
    import ray

    try:
        echo = ray.remote(_Echo).options(num_cpus=0).remote()
        rows = np.zeros((92, 32), np.float32)
        ray.get(echo.echo.remote(rows))
        times = []
        for _ in range(200):
            started = time.perf_counter()
            ray.get(echo.echo.remote(rows))
            times.append((time.perf_counter() - started) * 1000)
        return float(np.median(times))
    finally:
        ray.shutdown()


class _Echo:
    """Returns what it gets."""

    def echo(self, value: Any) -> Any:
        return value


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
