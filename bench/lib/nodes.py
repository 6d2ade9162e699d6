"""Queries a second of a collection in shards on one and on more nodes of Ray, each node on a core of its own.

All processes of a node run on one core, so a further node is a further core, as a further machine is. The front runs on
all cores of this machine and shares them with the nodes. So the processor time of a query, in the front and in the
replicas, says more than the queries a second: it is the same on machines that share nothing.
"""

import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.chaos import RAY_SETTINGS
from engine import alignment
from engine.collection.sharding import ShardMap
from engine.config import SearchSettings
from engine.search.searcher import Query, Searcher
from engine.values import NetworkIdentity

CLIENTS = 4
"""Threads that ask at the same time."""
WARM_S = 3.0
"""Seconds of queries before the measurement."""


def rows(
    path: Path, network: NetworkIdentity, queries: list[Query], counts: list[int], folder: Path, seconds: float
) -> Iterator[dict[str, Any]]:
    """Yields a row for each number of nodes: with the shards divided among the nodes, and with all shards on each.

    path: a collection in shards. folder: where the nodes get folders of links to their shards.
    """
    for count in counts:
        for replicas in [1] if count == 1 else [1, count]:
            yield {
                "nodes": count,
                "replicas": replicas,
                **_measured(_laid_out(path, folder, count, replicas), network, queries, seconds),
            }


def _laid_out(path: Path, folder: Path, nodes: int, replicas: int) -> list[Path]:
    """Returns a folder for each node with its shards."""
    made = []
    for node in range(nodes):
        own = folder / f"{nodes}-{replicas}-{node}"
        own.mkdir(parents=True, exist_ok=True)
        for number, shard in enumerate(ShardMap.read(path).shards):
            link = own / shard
            link.unlink(missing_ok=True)
            if (number - node) % nodes < replicas:
                link.symlink_to((path / shard).resolve())
        made.append(own)
    ShardMap.read(path).write(made[0])
    return made


def _measured(folders: list[Path], network: NetworkIdentity, queries: list[Query], seconds: float) -> dict[str, Any]:
    """Returns the figures of a cluster whose nodes have these folders."""
    os.environ.update(RAY_SETTINGS)
    import ray
    from ray.cluster_utils import Cluster

    from cluster.machines import connect
    from cluster.storage import ClusterStorage

    cores, cluster = sorted(os.sched_getaffinity(0)), Cluster(shutdown_at_exit=True)
    try:
        for number, folder in enumerate(folders):
            os.sched_setaffinity(0, {cores[number % len(cores)]})  # the processes of the node inherit it
            cluster.add_node(num_cpus=1, include_dashboard=False, env_vars={"SCOREFIND_SHARDS": str(folder.resolve())})
        os.sched_setaffinity(0, cores)
        connect(cluster.address)
        storage = ClusterStorage(folders[0], SearchSettings(threads=1), "cpu")
        with storage.open(network) as collection:
            searcher = Searcher(collection.shard, SearchSettings(threads=1), alignment.choose("cpu", threads=1))
            searcher.load()
            processes = [state.process for found in storage.joined().values() for state in found.values()]
            _ask(searcher, queries, WARM_S)
            before, front = sum(map(_processor_s, processes)), time.process_time()
            took_ms = _ask(searcher, queries, seconds)
            replicas_s, front_s = sum(map(_processor_s, processes)) - before, time.process_time() - front
        storage.shut_down()
    finally:
        os.sched_setaffinity(0, cores)
        ray.shutdown()
        cluster.shutdown()
    return {
        "snippets": collection.snippets,
        "queries": len(took_ms),
        "queries_s": len(took_ms) / seconds,
        "p50_ms": float(np.median(took_ms)),
        "p95_ms": float(np.quantile(took_ms, 0.95)),
        "front_cpu_ms": front_s * 1000 / len(took_ms),
        "replicas_cpu_ms": replicas_s * 1000 / len(took_ms),
    }


def _ask(searcher: Searcher, queries: list[Query], seconds: float) -> list[float]:
    """Returns how long each query took that CLIENTS threads asked in some seconds, in ms."""
    turns, lock, until, took = itertools.cycle(queries), threading.Lock(), time.monotonic() + seconds, list[float]()

    def ask(_: int) -> None:
        while time.monotonic() < until:
            with lock:
                query = next(turns)
            started = time.monotonic()
            searcher.answers([query])
            took.append((time.monotonic() - started) * 1000)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(CLIENTS)))
    return took


def _processor_s(process: int) -> float:
    """Returns the processor time that a process has taken, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
