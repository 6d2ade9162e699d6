"""How fast does the query server answer, what does it add to the engine's time, and what happens under overload?

    python -m bench.server [--data DIR] [--collection DIR] [--million DIR] [--quick] [--json FILE]

The server runs in its own process, the clients in this one, on the same cores. Queries are 20 s of a recording sent as
FLAC, a page sent as PNG (the pieces of `bench.lib.pieces`, set dev), and 32 embeddings of a recording. There are two
collections: both forms of these pieces, and a million random snippets, half of each kind, which is made first (seconds)
if it does not exist. A run takes about 25 minutes. With --quick it takes less than one: there is no large collection,
and files are synthesised if there are no data.

- Load: each client sends its next query when it has the reply to the last (closed loop). The server batches queries
  (the default), or answers them one by one (--batch 1). Latencies are those of the clients.
- Overhead: engine and server get the same files and embeddings in turns, one at a time. The overhead is the median of
  the differences, with a 95 % interval by resampling the differences.
- Memory: of the server, and the mean of its workers, when it has started and after the load.
- Overload: requests come at random times (open loop), three times as many as are answered with 64 clients.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.lib import load, memory, pieces, random_collection, report
from bench.lib.load import ClientQuery, Examples, Load, Sample, percentile
from bench.lib.pieces import Piece, collect
from engine import process
from engine.arguments import positive
from engine.config import SearchSettings
from engine.embedding.encoder import Encoder
from engine.finder import Engine, Finder
from engine.values import OTHER, Answer, Snippets
from server.address import Address
from server.client import AsyncClient
from server.config import Limits, ServerSettings
from server.messages import Embedded

CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128)
QUICK_CLIENTS = (1, 8)
TIMES = 3
"""Rate of requests under overload, as a multiple of the rate that the server can answer."""
BATCHING: dict[str, tuple[str, ...]] = {f"to {ServerSettings().batch}": (), "off": ("--batch", "1")}
SNIPPETS, QUICK_SNIPPETS = 1_000_000, 20_000
DRAWS = 1000


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    encoder = Encoder.load(options.weights, threads=SearchSettings().threads)
    found = _pieces(options)
    collections = _collections(options, found, encoder)
    asked = load.material(found, options.retrieval / "dev", next(iter(collections.values())), encoder.identity)
    environment = report.environment()
    print(report.heading(environment))
    rows: dict[str, list[dict[str, Any]]] = {"load": [], "overhead": [], "overload": [], "memory": []}
    for name, path in collections.items():
        for part, more in measure(path, asked, encoder, options).items():
            rows[part] += [{"collection": name, **row} for row in more]
    titles = {
        "load": "Requests a second, and milliseconds, by clients that wait for their replies",
        "overhead": "Milliseconds of the engine alone and through the server, and the server's stages",
        "overload": f"{TIMES} times as many requests as can be answered: milliseconds, and the server's MB",
        "memory": "Memory in MB: own, resident, and its share of what is resident",
    }
    for part, title in titles.items():
        print("", title, report.table([report.with_intervals(row) for row in rows[part]]), sep="\n")
    if options.json:
        network = report.label(encoder.identity)
        settings = asdict(ServerSettings()) | {"search": asdict(SearchSettings())}
        report.save(options.json, environment=environment, network=network, settings=settings, **rows)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the unpacked data sets")
    parser.add_argument("--collection", type=Path, help="collection to serve (default: the dev pieces)")
    parser.add_argument("--million", type=Path, help="collection of random snippets, made unless it exists")
    parser.add_argument("--quick", action="store_true", help="few points of half a second, no large collection")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--weights", type=Path, help="weights of a network (default: the shipped one)")
    parser.add_argument("--seconds", type=float, help="seconds for which each point is measured (default: 6)")
    parser.add_argument("--repeats", type=int, help="repeats of each query that measure the overhead (default: 60)")
    parser.add_argument("--jobs", type=positive, default=2, help="processes that embed")
    parser.add_argument(
        "--retrieval", type=Path, default=Path("runs/retrieval"), help="folder that keeps the collections of the sets"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/server"), help="folder that keeps logs and random snippets"
    )
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (0.5 if options.quick else 6.0)
    options.repeats = options.repeats or (5 if options.quick else 60)
    return options


def _pieces(options: argparse.Namespace) -> list[Piece]:
    """The dev pieces; none if there are no data and the run is quick."""
    try:
        return pieces.pieces(options.data, "dev")[: 12 if options.quick else None]
    except FileNotFoundError:
        if options.quick:
            return []
        raise


def _collections(options: argparse.Namespace, found: Sequence[Piece], encoder: Encoder) -> dict[str, Path]:
    """The collections that are searched, by name."""
    collections = {}
    if options.collection:
        collections[options.collection.name] = options.collection
    elif found:
        loading = partial(Encoder.load, options.weights, threads=1)
        path, _ = collect(found, options.retrieval / "dev", encoder.identity, loading, options.jobs, fresh=False)
        collections["dev"] = path
    else:
        path = options.work / f"quick-{encoder.identity.hash[:12]}"
        collections["random"] = random_collection.made(path, encoder.identity, QUICK_SNIPPETS)
    if options.million or not options.quick:
        path = options.million or options.work / f"million-{encoder.identity.hash[:12]}"
        collections["a million"] = random_collection.made(path, encoder.identity, SNIPPETS)
    return collections


def measure(
    path: Path, asked: Examples, encoder: Encoder, options: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """All table rows of one collection, by table."""
    rows: dict[str, list[dict[str, Any]]] = {}
    log = options.work / "server.log"
    clients = QUICK_CLIENTS if options.quick else CLIENTS
    for batching, flags in BATCHING.items():
        weights = ("--weights", str(options.weights)) if options.weights else ()
        with load.served(path, log, *flags, *weights) as server:
            before = memory_row(server.pid, "started")
            points = loads(server.address, asked, clients, options.seconds)
            rows.setdefault("load", []).extend(load_rows(points, batching))
            if not flags:
                rows["memory"] = [before, memory_row(server.pid, "after the load")]
                rows["overhead"] = overheads(server.address, path, asked, encoder, options)
                some = {load.EMBEDDINGS: asked[load.EMBEDDINGS]} if options.quick else asked
                rows["overload"] = overloads(server.address, some, options.seconds)
    return rows


def memory_row(pid: int, when: str) -> dict[str, Any]:
    """The table row of the memory of a server and of its workers. pid: of the server."""
    workers = [memory.of(child) for child in memory.started_by(pid)]
    row: dict[str, Any] = {"when": when, "workers": len(workers)}
    for name in memory.FIELDS:
        row[f"server {name}"] = getattr(memory.of(pid), name)
        row[f"a worker {name}"] = float(np.mean([getattr(worker, name) for worker in workers]))
    return row


# --- load -------------------------------------------------------------------------------------------------------------


def loads(address: Address, asked: Examples, clients: Sequence[int], seconds: float) -> dict[tuple[str, int], Load]:
    """The load reached with each sort of query and number of clients."""
    points = [(sort, count) for sort in asked for count in clients]
    progress = tqdm(points, desc="load", unit="point", disable=None, dynamic_ncols=True)
    return {
        (sort, count): asyncio.run(load.closed_loop(address, asked[sort], count, seconds)) for sort, count in progress
    }


def load_rows(points: dict[tuple[str, int], Load], batching: str) -> list[dict[str, Any]]:
    """The table rows of throughput and latency, one for each sort of query and number of clients."""
    return [
        {
            "query": sort,
            "batching": batching,
            "clients": clients,
            "n": found.outcomes["ok"],
            "a second": found.per_s,
            **_latencies(found, "ok"),
            "errors": len(found.samples) - found.outcomes["ok"],
        }
        for (sort, clients), found in points.items()
    ]


def _latencies(found: Load, outcome: str) -> dict[str, float | None]:
    took_ms = found.took_ms(outcome)
    return {f"p{share}": percentile(took_ms, share / 100) for share in (50, 95, 99)}


# --- overhead ---------------------------------------------------------------------------------------------------------


def overheads(
    address: Address, path: Path, asked: Examples, encoder: Encoder, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The table rows of what the server adds to the engine's time, one for each sort of query."""
    rows, engine = [], Engine.load(options.weights, encoder=encoder)
    with Finder(path, engine) as finder, tempfile.TemporaryDirectory() as folder:
        for sort, examples in asked.items():
            files = [_written(one, Path(folder) / str(i)) for i, one in enumerate(examples)]
            pairs = asyncio.run(_in_turns(address, examples, files, finder, options.repeats))
            rows.append({"query": sort, **overhead_row(pairs)})
            shutil.rmtree(folder)
            Path(folder).mkdir()
    return rows


def _written(asked: ClientQuery, folder: Path) -> Path:
    """The file that the engine reads, written from what the clients send."""
    folder.mkdir()
    if isinstance(asked, Embedded):
        return folder
    path = folder / asked.files[0].name
    path.write_bytes(asked.files[0].data)
    return path


async def _in_turns(
    address: Address,
    examples: Sequence[ClientQuery],
    files: Sequence[Path],
    finder: Finder,
    repeats: int,
) -> list[tuple[float, Sample]]:
    """Pairs of seconds: the engine alone, and through the server. The first pair is left out."""
    pairs = []
    async with AsyncClient(address) as client:
        for i in range(repeats + 1):
            asked, file = examples[i % len(examples)], files[i % len(files)]
            started = time.perf_counter()
            in_process(asked, file, finder)
            pairs.append((time.perf_counter() - started, await load.timed(client, asked)))
    return pairs[1:]


def in_process(asked: ClientQuery, file: Path, finder: Finder) -> Answer:
    """The answer of the engine without a server. file: holds the query, unless the query is embeddings."""
    if isinstance(asked, Embedded):
        return finder.searcher.query(Snippets(kind=asked.kind, embeddings=asked.embeddings), OTHER[asked.kind])
    return finder.query(file, kind=asked.kind)


def overhead_row(pairs: Sequence[tuple[float, Sample]]) -> dict[str, Any]:
    """The table row of one sort of query: medians in ms, and the overhead in per cent of the engine's own time."""
    answered = [(1000 * alone_s, sample) for alone_s, sample in pairs if sample.outcome == "ok"]
    if not answered:
        return {"n": 0}
    alone = np.array([alone_ms for alone_ms, _ in answered])
    through = np.array([1000 * sample.took_s for _, sample in answered])
    more = float(np.median(through - alone))
    stages = {name: [sample.stages_ms.get(name, 0.0) for _, sample in answered] for name in answered[0][1].stages_ms}
    return {
        "n": len(answered),
        "engine": float(np.median(alone)),
        "server": float(np.median(through)),
        "overhead": more,
        "overhead 95%": interval(through - alone),
        "%": 100 * more / float(np.median(alone)),
        **{f"({name})": float(np.median(took)) for name, took in stages.items()},
    }


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the median of the values, by resampling."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (DRAWS, len(values))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


# --- overload ---------------------------------------------------------------------------------------------------------


def overloads(address: Address, asked: Examples, seconds: float) -> list[dict[str, Any]]:
    """The table rows of overload, one for each sort of query."""
    return [{"query": sort, **asyncio.run(overload(address, asked[sort], seconds))} for sort in asked]


async def overload(address: Address, examples: Sequence[ClientQuery], seconds: float) -> dict[str, Any]:
    """The table row of one sort of query.

    First as many clients as fill the queue show what the server can answer, and how fast. Then TIMES times as many
    requests come, for twice as long.
    """
    full = await load.closed_loop(address, examples, Limits().queue, seconds)
    used: list[float] = []
    async with AsyncClient(address) as client:

        async def watch() -> None:
            while True:
                used.append((await client.stats())["memory_bytes"] / 1e6)
                await asyncio.sleep(0.5)

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.1)
        found = await load.open_loop(address, examples, TIMES * max(full.per_s, 1.0), 2 * seconds)
        await asyncio.sleep(1.0)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return overload_row(full, found, used)


def overload_row(full: Load, found: Load, used: Sequence[float]) -> dict[str, Any]:
    """The table row of one sort of query under overload.

    full: the load with as many clients as the queue takes. used: MB before, during and after.
    """
    n, refused = len(found.samples), found.took_ms("overloaded")
    return {
        "capacity": full.per_s,
        "p99 there": percentile(full.took_ms("ok"), 0.99),
        "sent a second": n / found.seconds,
        "n": n,
        "answered": found.outcomes["ok"],
        "p99": percentile(found.took_ms("ok"), 0.99),
        "overloaded %": 100 * len(refused) / max(1, n),
        "refused p50": percentile(refused, 0.5),
        "refused p99": percentile(refused, 0.99),
        "others": n - found.outcomes["ok"] - len(refused),
        "MB before": used[0],
        "most": max(used),
        "after": used[-1],
    }


if __name__ == "__main__":
    main()
