"""What do shards cost, what do they gain, and what becomes of answers while processes die?

    python -m bench.cluster [--source COLLECTION] [--sizes 1e6 1e7] [--shards 1 4] [--work DIR] [--json FILE]
    python -m bench.cluster --identical [--source COLLECTION] [--work DIR]
    python -m bench.cluster --chaos [--minutes 10] [--work DIR] [--json FILE]
    python -m bench.cluster --nodes 1 2 [--sizes 1e6] [--shards 4] [--seconds 20] [--source COLLECTION] [--work DIR]
    python -m bench.cluster --model FILE [FILE ...]

Documents are made (`bench.lib.made_documents`) from those of a collection, by default that of the demo; half of the
snippets are scores. Queries are passages of made documents with noise, of the four forms of `bench.scale`: 50 s and
10 s of a recording among scores (A2S), four systems and one system of a score among recordings (S2A).

Each number of shards holds the same documents. More than 2e7 snippets are written into their shards at once, and not
searched as one collection. At each size the first shard is also asked alone (`bench.lib.shard_sizes`).

All shards are asked in this process, one after the other, so their times are those of machines that do nothing else.
`slowest_ms` is the median time of the slowest shard, `merge_ms` that of what is left of the search: planning, votes,
ranking and confidence. `model_ms` adds up a cluster with one shard a machine: the slowest shard, the merge, and a round
trip of Ray for each stage (`round_trip_ms`, measured with one process of Ray). `same_first` is the share of queries
with the same first match as in one shard: all of them, where no index has cells.

`--identical` splits the documents of `--source` into 1, 2, 4 and 7 shards, and counts the random queries whose answers
differ in an id, a cost, a rank, a confidence or anything else than times.

`--chaos` runs two replicas of each shard on Ray and asks all the time, while replicas are killed or stopped for some
seconds, their disks are slow or full (`bench.lib.faults`), and documents are added. It counts wrong answers,
acknowledged documents that are lost, and answers that are partial, and queries that fail, though a replica of each
shard was left: the columns `unjustified` (`bench.lib.chaos`).

`--nodes` asks the first size in the last number of shards on so many nodes of Ray, each on a core of its own
(`bench.lib.nodes`). `--model` reads what earlier runs wrote with `--json`, and prints what a cluster would do that is
larger than any here, with all that it assumes (`bench.lib.cluster_model`).
"""

import argparse
import importlib.util
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib import cluster_model, report, shard_sizes
from bench.lib.shard_sizes import FORMS, SizeBench, noisy
from engine import process
from engine.collection import AnyCollection, Collection, ShardedCollection, open_collection, shard
from engine.collection.manifest import KINDS
from engine.config import SearchSettings
from engine.embedding.encoder import Encoder
from engine.finder import Engine
from engine.search.answers import as_dict
from engine.search.searcher import Query
from engine.values import OTHER, Method, Snippets

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
    parser.add_argument("--nodes", type=int, nargs="+", help="count queries a second on so many nodes of Ray")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each number of nodes is asked")
    parser.add_argument("--model", type=Path, nargs="+", metavar="FILE", help="print the model of a large cluster")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s")
    for name in ("bench", "engine.collection"):
        logging.getLogger(name).setLevel(logging.INFO)
    environment = report.environment()
    print(report.heading(environment), flush=True)
    if options.chaos:
        from bench.lib import chaos

        rows = [chaos.run(options.work / "chaos", options.minutes)]
    elif options.model:
        sizes = [row for file in options.model for row in json.loads(file.read_text())["rows"]]
        print(cluster_model.ASSUMED, report.table([cluster_model.bytes_told()]), sep="\n")
        rows = list(cluster_model.rows(sizes))
    elif options.nodes:
        rows = list(_on_nodes(options))
    elif options.identical:
        rows = list(_compared(options.source, options.work / "identical", options.threads))
    else:
        rows = list(_measured(options))
    print(report.table(rows), flush=True)
    if options.json:
        report.save(options.json, environment=environment, rows=rows)


def _measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields a row for each size, number of shards and form of query, and prints each row when it is there."""
    bench = _bench(options, _round_trip_ms())
    for size in options.sizes:
        for row in bench.rows(size, options.shards):
            print(report.table([row]), flush=True)
            yield row


def _on_nodes(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields a row for each number of nodes and of replicas."""
    from bench.lib import nodes

    bench = _bench(options, 0.0)
    path = bench.made(options.sizes[0], options.shards[-1])
    asked = [query for _, kind, length in FORMS for query in bench.asked(kind, length)]
    network, folder = bench.engine.encoder.identity, options.work / "nodes"
    for row in nodes.rows(path, network, asked, options.nodes, folder, options.seconds):
        print(report.table([row]), flush=True)
        yield row


def _bench(options: argparse.Namespace, round_trip_ms: float) -> SizeBench:
    encoder = Encoder.load(threads=1)
    with Collection.open(options.source, encoder.identity) as real:
        sources = shard_sizes.sources_of(real)
    return SizeBench(
        engine=Engine.load(settings=SearchSettings(threads=options.threads), encoder=encoder),
        sources=sources,
        work=options.work,
        queries=options.queries,
        round_trip_ms=round_trip_ms,
    )


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
        rows = noisy(document.embeddings, length, rng)
        query = Snippets(kind=OTHER[kind], embeddings=rows)
        yield Query(sequence=query, among=kind, method=method, top=20, locate=number % 5 == 0)


def _told(engine: Engine, collection: AnyCollection, query: Query) -> str:
    """Returns all that an answer says, but for times and the generation."""
    (answer,) = engine.searcher(collection).answers([query])
    found = as_dict(answer, query.sequence.kind, query.among, collection)
    del found["timings_ms"], found["collection"]["generation"]
    return json.dumps(found, default=float)


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
