"""Chaos: replicas of shards are killed and stopped under load, and every answer is compared with what is right.

A cost depends on the query and the document alone, so the right cost of every document is known before the chaos, also
while documents are added. An answer is wrong if a match has another cost, if matches are out of order, or if a document
of a shard that has answered is left out though it is cheaper than the last match.
"""

import contextlib
import itertools
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.random_collection import made, random_documents
from engine import alignment
from engine.collection import Collection, open_collection, shard
from engine.collection.sharding import ShardMap
from engine.config import FrontEnd, SearchSettings
from engine.errors import CollectionError, ShardLostError
from engine.search.searcher import Query, Searcher
from engine.values import Answer, NetworkIdentity, Snippets

NETWORK = NetworkIdentity(name="random", hash="0" * 64, front_end=FrontEnd())
SNIPPETS, SHARDS, QUERIES, TOP = 60_000, 3, 8, 10
ATTACK_S = 6.0
"""Mean time between two attacks."""
STOPPED_S = 8.0
"""Time for which a stopped process hangs."""
ADD_S = 3.0
"""Time between two additions."""


def start_ray(environment: dict[str, str]) -> None:
    """Starts Ray on this machine for this process alone, with two logical processors and a small store."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # whatever the system, Ray then listens on the loopback address alone
        "RAY_worker_niceness": "0",
    }
    os.environ.update(settings | environment)
    import ray

    ray.init(
        num_cpus=2,
        object_store_memory=100_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        namespace="scorefind",
    )


@dataclass(slots=True, kw_only=True)
class _Truth:
    """A query, with the right cost of each document that was there before the chaos."""

    query: Query
    costs: dict[str, float]


@dataclass(slots=True, kw_only=True)
class _Record:
    """What has happened."""

    counts: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    down: Counter[str] = field(default_factory=Counter)
    """How many replicas of each shard are down now."""
    lately: dict[str, float] = field(default_factory=dict)
    """When a shard was last without a replica that answers."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def run(folder: Path, minutes: float) -> dict[str, Any]:
    """Returns what happened in some minutes of chaos."""
    shutil.rmtree(folder, ignore_errors=True)
    plain = made(folder / "plain", NETWORK, SNIPPETS)
    shard(plain, folder / "a", SHARDS)
    shutil.copytree(folder / "a", folder / "b")
    start_ray({"SCOREFIND_SHARDS": f"{folder.resolve() / 'a'}{os.pathsep}{folder.resolve() / 'b'}"})
    import ray

    from cluster.storage import ClusterStorage

    settings, backend = SearchSettings(threads=1), alignment.choose("cpu", threads=1)
    try:
        truths = _truths(plain, settings)
        storage = ClusterStorage(folder / "a", settings, "cpu", shard_s=3.0)
        record, until = _Record(), time.monotonic() + 60 * minutes
        storage.open(NETWORK).close()
        others = [
            threading.Thread(target=_attack, args=(storage, record, until)),
            threading.Thread(target=_add, args=(storage, record, until)),
        ]
        for thread in others:
            thread.start()
        _ask(storage, truths, record, until, settings, backend, ShardMap.read(folder / "a"))
        for thread in others:
            thread.join()
        _settle(storage)
        lost = _lost(folder, record)
        storage.shut_down()
    finally:
        ray.shutdown()
    counts = record.counts
    return {
        "minutes": minutes,
        **{name: counts[name] for name in ("answers", "wrong", "partial", "unjustified", "failed")},
        **{name: counts[name] for name in ("killed", "stopped", "refused")},
        "acknowledged": len(record.acknowledged),
        "lost": lost,
        "p50_ms": float(np.median(record.took_ms)),
        "p95_ms": float(np.quantile(record.took_ms, 0.95)),
        "recovery_p50_s": float(np.median(record.recovery_s or [0])),
        "recovery_max_s": max(record.recovery_s, default=0.0),
    }


def _truths(plain: Path, settings: SearchSettings) -> list[_Truth]:
    """Returns queries with the right costs of all documents."""
    rng, truths = np.random.default_rng(1), []
    with Collection.open(plain) as one:
        ids, searcher = one.ids("score"), Searcher(one, settings)
        for id in rng.choice(ids, QUERIES).tolist():
            rows = one.sequence(id).embeddings[20:40] + 0.1 * rng.standard_normal((20, 32))
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            snippets = Snippets(kind="recording", embeddings=rows.astype(np.float32))
            query = Query(sequence=snippets, among="score", top=TOP, locate=False)
            found = searcher.ranking(replace(query, top=len(ids)))
            truths.append(_Truth(query=query, costs=dict(zip(found.ids, found.keys.tolist(), strict=True))))
    return truths


def _ask(
    storage: Any, truths: list[_Truth], record: _Record, until: float, settings: SearchSettings, backend: Any, map: Any
) -> None:
    """Asks all the time, and judges each answer. Newer generations are opened beside, as a server does."""
    opened = [storage.open(NETWORK)]
    following = threading.Thread(target=_follow, args=(storage, opened, until))
    following.start()
    for truth in itertools.cycle(truths):
        if time.monotonic() > until:
            break
        started = time.monotonic()
        try:
            (answer,) = Searcher(opened[-1].shard, settings, backend).answers([truth.query])
        except ShardLostError:
            record.counts["failed"] += 1
            continue
        record.counts["answers"] += 1
        record.took_ms.append((time.monotonic() - started) * 1000)
        _judge(answer, truth, record, started, map)
    following.join()
    for collection in opened:
        collection.close()


def _follow(storage: Any, opened: list[Any], until: float) -> None:
    """Opens each newer generation, as the server does."""
    while time.monotonic() < until:
        time.sleep(storage.watch_s)
        with contextlib.suppress(CollectionError, ShardLostError):
            if storage.generation() != opened[-1].generation:
                opened.append(storage.open(NETWORK))


def _judge(answer: Answer, truth: _Truth, record: _Record, started: float, map: Any) -> None:
    unseen = {shard.name for shard in answer.unseen}
    if unseen:
        record.counts["partial"] += 1
        with record.lock:
            # a replica that was down is passed over until it answers a probe, and counts as down until then
            excused = {
                name for name in unseen if started - record.lately.get(name, -np.inf) < 30 or record.down[name] == 2
            }
        record.counts["unjustified"] += bool(unseen - excused)
    costs = [match.cost or 0.0 for match in answer.matches]
    known = [(match.document.id, match.cost) for match in answer.matches if match.document.id in truth.costs]
    right = all(truth.costs[id] == cost for id, cost in known) and costs == sorted(costs) and len(costs) == TOP
    listed = {id for id, _ in known}
    right = right and not any(
        cost < costs[-1] and id not in listed and map.home(id) not in unseen for id, cost in truth.costs.items()
    )
    record.counts["wrong"] += not right


def _attack(storage: Any, record: _Record, until: float) -> None:
    """Kills and stops replicas, and measures how long they take to answer again."""
    rng, waiting = random.Random(0), []
    while time.monotonic() < until:
        time.sleep(rng.expovariate(1 / ATTACK_S))
        try:
            states = storage.states()
        except CollectionError:
            continue
        victim = rng.choice([(name, state) for found in states.values() for name, state in found.items()])
        kind = rng.choice(["killed", "stopped"])
        record.counts[kind] += 1
        thread = threading.Thread(target=_strike, args=(*victim, kind, record))
        thread.start()
        waiting.append(thread)
    for thread in waiting:
        thread.join()


def _strike(name: str, state: Any, kind: str, record: _Record) -> None:
    """Kills or stops a replica, and waits until it answers."""
    import ray

    with record.lock:
        record.down[state.shard] += 1
        if record.down[state.shard] == 2:
            record.lately[state.shard] = time.monotonic()
    started = time.monotonic()
    try:
        os.kill(state.process, signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
        if kind == "stopped":
            time.sleep(STOPPED_S)
            os.kill(state.process, signal.SIGCONT)
    except ProcessLookupError:
        record.counts["gone already"] += 1
    while True:
        try:
            ray.get(ray.get_actor(name, namespace="scorefind").state.remote(), timeout=2)
            break
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError, ValueError):
            time.sleep(0.2)
    with record.lock:
        if record.down[state.shard] >= 2:
            record.lately[state.shard] = time.monotonic()
        record.down[state.shard] -= 1
    if kind == "killed":
        record.recovery_s.append(time.monotonic() - started)


def _add(storage: Any, record: _Record, until: float) -> None:
    """Adds documents one by one, and keeps the ids of those that are acknowledged."""
    documents = random_documents(10**9, NETWORK.front_end)
    for number, (document, sequence) in enumerate(documents):
        if time.monotonic() > until:
            return
        time.sleep(ADD_S)
        new = replace(document, id=f"added-{number}", title="")
        turned = replace(sequence, embeddings=np.ascontiguousarray(sequence.embeddings[:, ::-1]))
        try:
            with storage.writer(NETWORK) as writer:
                writer.put(new, turned)
                writer.commit()
            record.acknowledged.append(new.id)
        except (CollectionError, ShardLostError):
            record.counts["refused"] += 1


def _settle(storage: Any) -> None:
    """Waits until all replicas answer and are up to date."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if all(len(found) == 2 for found in storage.states().values()):
            return
        time.sleep(1)


def _lost(folder: Path, record: _Record) -> int:
    """Returns how many acknowledged documents are not on the disk of a machine."""
    lost = 0
    for machine in "ab":
        with open_collection(folder / machine) as collection:
            held = {id for kind in collection.kinds for id in collection.ids(kind)}
        lost += len(set(record.acknowledged) - held)
    return lost
