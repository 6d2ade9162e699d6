"""Chaos: replicas of shards die, hang, and get slow and full disks under load; every answer is compared with the truth.

A cost depends on the query and the document alone, so the right cost of every document is known before the chaos, also
while documents are added. An answer is wrong if a match has another cost, if matches are out of order, or if a document
of a shard that has answered is left out though it is cheaper than the last match.
"""

import contextlib
import itertools
import logging
import os
import random
import shutil
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
from engine.errors import CollectionError, EngineError, ShardLostError
from engine.search.searcher import Query, Searcher
from engine.values import Answer, NetworkIdentity, Snippets

logger = logging.getLogger(__name__)

NETWORK = NetworkIdentity(name="random", hash="0" * 64, front_end=FrontEnd())
SNIPPETS, SHARDS, REPLICAS, QUERIES, TOP = 60_000, 3, 2, 8, 10
ATTACK_S = 6.0
"""Mean time between two attacks."""
FORGIVEN_S = 30.0
"""Time after a shard was without a replica for which answers may lack it: until its replicas have answered probes."""
ADD_S = 3.0
"""Time between two additions."""


RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # whatever the system, Ray then listens on the loopback address alone
    "RAY_worker_niceness": "0",
}
"""Environment in which Ray is imported."""


def start_ray(environment: dict[str, str]) -> None:
    """Starts Ray on this machine for this process alone, with two logical processors and a small store."""
    os.environ.update(RAY_SETTINGS | environment)
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
    down: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many faults there are now, by the shard and the name of a replica."""
    lately: dict[str, float] = field(default_factory=dict)
    """When a shard was last without a replica that answers."""
    full: bool = False
    """Whether the disk that can be filled is full now."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def told(self) -> dict[str, Any]:
        """Returns the counts and times as a row of a table."""
        asked = ("answers", "wrong", "partial", "unjustified", "failed", "failed unjustified")
        return {
            **{name: self.counts[name] for name in (*asked, "killed", "stopped", "full", "slow", "refused")},
            "acknowledged": len(self.acknowledged),
            "p50_ms": float(np.median(self.took_ms or [0])),
            "p95_ms": float(np.quantile(self.took_ms or [0], 0.95)),
            "recovery_p50_s": float(np.median(self.recovery_s or [0])),
            "recovery_max_s": max(self.recovery_s, default=0.0),
        }

    def strike(self, shard: str, replica: str) -> None:
        """Notes that a fault befalls a replica."""
        with self.lock:
            self.down[shard, replica] += 1
            if self._left(shard) == 0:
                self.lately[shard] = time.monotonic()

    def recover(self, shard: str, replica: str) -> None:
        """Notes that a replica answers again after a fault."""
        with self.lock:
            if self._left(shard) == 0:
                self.lately[shard] = time.monotonic()
            self.down[shard, replica] -= 1

    def excused(self, shard: str, started: float) -> bool:
        """Returns whether an answer to a query that started then may lack a shard: it had no replica left.

        A replica that was down is passed over until it answers a probe, and counts as down until then.
        """
        with self.lock:
            return self._left(shard) == 0 or started - self.lately.get(shard, -np.inf) < FORGIVEN_S

    def _left(self, shard: str) -> int:
        """Returns how many replicas of a shard no fault has befallen."""
        return REPLICAS - sum(faults > 0 for (of, _), faults in self.down.items() if of == shard)


def run(folder: Path, minutes: float) -> dict[str, Any]:
    """Returns what happened in some minutes of chaos."""
    shutil.rmtree(folder, ignore_errors=True)
    plain = made(folder / "plain", NETWORK, SNIPPETS)
    shard(plain, folder / "a", SHARDS)
    start_ray({"SCOREFIND_SHARDS": f"{folder.resolve() / 'a'}{os.pathsep}{folder.resolve() / 'b'}"})
    import ray

    from bench.lib.faults import SlowStorage, small_disk

    with small_disk(folder / "b") as fillable:
        try:
            shutil.copytree(folder / "a", folder / "b", dirs_exist_ok=True)
            storage = SlowStorage(folder / "a", SearchSettings(threads=1), "cpu", shard_s=3.0)
            record, lost = _Record(), 0
            _load(storage, plain, record, time.monotonic() + 60 * minutes, folder / "b" if fillable else None)
            _settle(storage)
            lost = _lost(folder, record)
            storage.shut_down()
        finally:
            ray.shutdown()
    return {"minutes": minutes, **record.told(), "lost": lost}


def _load(storage: Any, plain: Path, record: _Record, until: float, disk: Path | None) -> None:
    """Asks, adds and attacks until a moment. disk: the file system that may be filled."""
    settings, backend = SearchSettings(threads=1), alignment.choose("cpu", threads=1)
    truths = _truths(plain, settings)
    storage.open(NETWORK).close()
    others = [
        threading.Thread(target=_attack, args=(storage, record, until, disk)),
        threading.Thread(target=_add, args=(storage, record, until)),
    ]
    for thread in others:
        thread.start()
    _ask(storage, truths, record, until, settings, backend, ShardMap.read(storage.path))
    for thread in others:
        thread.join()


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
        except EngineError as exc:
            logger.warning("failed: %s", exc)
            record.counts["failed"] += 1
            record.counts["failed unjustified"] += not any(record.excused(name, started) for name in map.shards)
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
        record.counts["unjustified"] += not all(record.excused(name, started) for name in unseen)
    costs = [match.cost or 0.0 for match in answer.matches]
    known = [(match.document.id, match.cost) for match in answer.matches if match.document.id in truth.costs]
    right = all(truth.costs[id] == cost for id, cost in known) and costs == sorted(costs) and len(costs) == TOP
    listed = {id for id, _ in known}
    right = right and not any(
        cost < costs[-1] and id not in listed and map.home(id) not in unseen for id, cost in truth.costs.items()
    )
    record.counts["wrong"] += not right


def _attack(storage: Any, record: _Record, until: float, disk: Path | None) -> None:
    """Lets faults befall replicas, and measures how long they take to answer again.

    disk: the file system that may be filled; None: disks are never full.
    """
    rng, waiting = random.Random(0), []
    kinds = ["killed", "stopped", "slow", *(["full"] if disk else [])]
    while time.monotonic() < until:
        time.sleep(rng.expovariate(1 / ATTACK_S))
        try:
            states = storage.joined()
        except CollectionError:
            continue
        victim = rng.choice([(name, state) for found in states.values() for name, state in found.items()])
        kind = rng.choice(kinds)
        if kind == "full":
            thread = threading.Thread(target=_fill, args=(disk, record))
        else:
            thread = threading.Thread(target=_strike, args=(*victim, kind, record))
        thread.start()
        waiting.append(thread)
    for thread in waiting:
        thread.join()


def _fill(disk: Path, record: _Record) -> None:
    """Fills a disk for some time, unless it is full. Queries need no room, so it excuses no partial answer."""
    from bench.lib import faults

    with record.lock:
        if record.full:
            return
        record.full = True
    record.counts["full"] += 1
    with faults.full(disk):
        record.full = False


def _strike(name: str, state: Any, kind: str, record: _Record) -> None:
    """Lets a fault befall a replica, and waits until it answers."""
    import ray

    from bench.lib import faults

    record.strike(state.shard, name)
    record.counts[kind] += 1
    started = time.monotonic()
    try:
        with faults.befalling(kind, state):
            pass
    except (ProcessLookupError, FileNotFoundError):  # another fault has befallen it
        record.counts["gone already"] += 1
    while True:
        try:
            ray.get(ray.get_actor(name, namespace="scorefind").state.remote(), timeout=2)
            break
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError, ValueError):
            time.sleep(0.2)
    took_s = time.monotonic() - started
    if kind == "killed":  # it has only the newest generation, which the front asks for after its next look
        time.sleep(faults.SlowStorage.watch_s or 0.0)
        record.recovery_s.append(took_s)
    record.recover(state.shard, name)


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
        except (CollectionError, ShardLostError) as exc:
            logger.info("refused: %s", exc)
            record.counts["refused"] += 1


def _settle(storage: Any) -> None:
    """Waits until all replicas answer and are up to date."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if all(len(found) == 2 for found in storage.joined().values()):
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
