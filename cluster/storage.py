"""A collection in a cluster: finds the shards on its machines, starts a process beside each, and opens them as one.

Each machine has the shards that it serves in a folder: that of the collection, or those that its environment variable
SCOREFIND_SHARDS names. A shard that lies on two machines has two replicas. There is nothing else to configure.

The processes are actors with names that outlive who started them, so a front that starts again finds them, and a second
one shares them.
"""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.changes import ReplicaState, ShardChange
from cluster.group import ReplicaGroup, ReplicaHandle
from cluster.keeper import Keeper
from cluster.remote import LOAD_S, ClusterCollection, RemoteShard
from cluster.replica import Replica, shards_in
from cluster.writer import ClusterWriter
from engine.alignment import BackendName
from engine.collection.sharding import ShardMap
from engine.config import SearchSettings
from engine.errors import CollectionError, EngineError
from engine.values import NetworkIdentity

logger = logging.getLogger(__name__)

NAMESPACE = "scorefind"
FOLDERS = "SCOREFIND_SHARDS"
"""Environment variable of a machine's Ray with the folders that hold its shards, separated by colons."""
SHARD_S = 5.0
"""Time for a replica to answer a part of a query before the next replica is asked."""
START_S = 120.0
"""Time for a replica to start, and for a machine to look for its shards."""
CHANGE_S = 300.0
"""Time for a replica to make changes durable."""
RESTART_POLL_S = 0.2
"""Time between two looks for a replica that restarts."""
STATE_S = 5.0
"""Time for a replica to tell what it holds."""


def connect(address: str, **options: Any) -> None:
    """Connects this process to the Ray cluster at an address. Raises CollectionError if that fails.

    options: further arguments of `ray.init`.
    """
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="warning", **options)
    except (OSError, ValueError, RuntimeError, RayError) as exc:
        raise CollectionError(address, f"no Ray cluster can be reached: {exc}") from exc


class ReplicaActor(Replica):
    """A replica as an actor. Searches run in some threads, changes in one."""

    def follow(self, name: str, generation: int) -> ReplicaState:
        """Catches up with another replica, of this name, whose generation has this number."""
        other = _actor(name)
        entries = ray.get(other.entries.remote(generation))
        return self.catch_up(entries, generation, lambda ids: ray.get(other.content.remote(generation, ids)))


class ClusterStorage:
    """A collection whose shards lie on the machines of a Ray cluster (`engine.collection.Storage`)."""

    watch_s: float | None = 5.0
    """Another front may change the collection, and machines come and go."""
    replica: type[Replica] = ReplicaActor
    """What runs beside each shard."""

    def __init__(
        self,
        path: Path,
        settings: SearchSettings | None = None,
        backend: BackendName = "auto",
        *,
        shard_s: float = SHARD_S,
    ) -> None:
        """path: folder of the collection on its machines; this machine needs its `shards.json`. Call `connect` before.

        settings, backend: of the searches, as each replica runs them. shard_s: see SHARD_S.
        """
        self.path = path.resolve()
        self._map = ShardMap.read(path)
        self._settings = settings or SearchSettings()
        self._backend = backend
        self._shard_s = shard_s
        self._key = hashlib.blake2b(str(self.path).encode(), digest_size=6).hexdigest()
        self._groups: dict[str, ReplicaGroup] = {}
        """Replicas of the shards of the generation that was opened last."""
        self._keeper = _keeper(f"{self._key}/keeper", str(self.path))

    def generation(self) -> int:
        """Returns the sum of the generations of the shards that answer.

        Replicas that have come since the collection was opened are asked from now on.
        """
        found = self.states()
        for shard, states in found.items():
            if shard in self._groups:
                self._groups[shard].take_in(_handles(states))
        return sum(max(state.generation for state in states.values()) for states in found.values() if states)

    def states(self) -> dict[str, dict[str, ReplicaState]]:
        """Returns the states of the replicas that are up to date, by shard and by name, after others have caught up."""
        states: dict[str, dict[str, ReplicaState]] = self._told(self._keeper.join.remote(self._started()), CHANGE_S)
        return states

    def open(self, network: NetworkIdentity) -> ClusterCollection:
        """Opens the newest generation. Raises CollectionError if no shard answers."""
        shards = {}
        for name, states in sorted(self.states().items()):
            group = ReplicaGroup(shard=name, replicas=_handles(states), timeout_s=self._shard_s)
            if states:
                self._groups[name] = group
                shards[name] = RemoteShard(group, group.ask("manifest", timeout_s=LOAD_S))
        if not shards:
            raise CollectionError(
                self.path, f"no machine of the cluster has shards of it; {FOLDERS} names their folders"
            )
        return ClusterCollection(self.path, self._map, shards, network)

    def writer(self, network: NetworkIdentity, threads: int = 1) -> ClusterWriter:
        """Opens a writer. Any number of writers may be open: the keeper makes their changes one after the other."""
        return ClusterWriter(self.path, self._map, lambda: self.open(network), self._apply)

    def restart(self) -> None:
        """Restarts one replica after the other, each when the one before answers again. Queries go on meanwhile.

        Raises CollectionError if a replica does not come back.
        """
        for names in self._told(self._keeper.members.remote(), STATE_S).values():
            for name in names:
                before = self._told(_actor(name).state.remote(), STATE_S).process
                ray.kill(_actor(name), no_restart=False)
                self._await(name, before)

    def shut_down(self) -> None:
        """Ends the processes of the collection on all machines."""
        for names in self._told(self._keeper.members.remote(), STATE_S).values():
            for name in names:
                try:
                    ray.kill(_actor(name))
                except ValueError:
                    logger.info("%s has ended already", name)
        ray.kill(self._keeper)

    def _await(self, name: str, before: int) -> None:
        """Waits until a replica runs in another process than `before`. Raises CollectionError if it does not."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(CollectionError):
                if self._told(_actor(name).state.remote(), STATE_S).process != before:
                    return
            time.sleep(RESTART_POLL_S)
        raise CollectionError(self.path, f"{name} has not come back within {START_S:g} s")

    def _apply(self, changes: dict[str, list[ShardChange]]) -> dict[str, int]:
        generations: dict[str, int] = self._told(self._keeper.apply.remote(changes), 2 * CHANGE_S)
        return generations

    def _started(self) -> dict[str, list[str]]:
        """Returns the names of the replicas of each shard on all machines; starts those that do not run."""
        found: dict[str, list[str]] = {}
        starting: list[Any] = []
        for node in ray.nodes():
            if node["Alive"]:
                for folder in self._shards_on(node["NodeID"]):
                    name = f"{self._key}/{Path(folder).name}/{node['NodeID'][:8]}/{folder}"
                    if Path(folder).name in self._map.shards:
                        starting += self._start(name, folder, node["NodeID"])
                        found.setdefault(Path(folder).name, []).append(name)
        if starting:
            ray.wait(starting, num_returns=len(starting), timeout=START_S)
        return found

    def _shards_on(self, node: str) -> list[str]:
        """Returns the folders of shards on a machine."""
        look = ray.remote(_look).options(num_cpus=0, scheduling_strategy=_on(node))
        try:
            found: list[str] = ray.get(look.remote(str(self.path)), timeout=START_S)
            return found
        except (RayError, GetTimeoutError) as exc:
            logger.warning("machine %s does not tell its shards: %r", node[:8], exc)
            return []

    def _start(self, name: str, folder: str, node: str) -> list[Any]:
        """Starts a replica unless it runs, and returns the call whose reply tells that it has started."""
        with contextlib.suppress(ValueError):
            _actor(name)
            return []
        actor = ray.remote(concurrency_groups={"search": 4, "change": 1})(self.replica).options(
            name=name,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
            scheduling_strategy=_on(node),
        )
        return [actor.remote(folder, self._settings, self._backend).state.remote()]

    def _told(self, reference: Any, timeout_s: float) -> Any:
        """Returns the result of a call. Raises CollectionError if it does not come, or the EngineError of the call."""
        try:
            return ray.get(reference, timeout=timeout_s)
        except RayTaskError as exc:
            if isinstance(exc.cause, EngineError):
                raise exc.cause from exc
            raise CollectionError(self.path, f"a process of the cluster failed: {exc.cause!r}") from exc
        except (RayError, GetTimeoutError) as exc:
            raise CollectionError(self.path, f"a process of the cluster does not answer: {exc!r}") from exc


def _keeper(name: str, path: str) -> Any:
    """Returns the keeper of a collection, which is started if there is none."""
    options = {"name": name, "get_if_exists": True, "lifetime": "detached", "max_restarts": -1, "num_cpus": 0}
    return ray.remote(Keeper).options(**options).remote(path, _asked)


def _asked(name: str, method: str, arguments: Sequence[Any]) -> Any:
    """Returns what a replica answers to the keeper. Raises CollectionError if it does not."""
    timeout_s = STATE_S if method == "state" else CHANGE_S
    try:
        call = getattr(_actor(name), method).options(concurrency_group="search" if method == "state" else "change")
        return ray.get(call.remote(*arguments), timeout=timeout_s)
    except RayTaskError as exc:
        if isinstance(exc.cause, EngineError):
            raise exc.cause from exc
        raise CollectionError(name, f"failed: {exc.cause!r}") from exc
    except (RayError, GetTimeoutError, ValueError) as exc:
        raise CollectionError(name, f"does not answer: {exc}") from exc


def _handles(states: Mapping[str, ReplicaState]) -> list[ReplicaHandle]:
    return [ReplicaHandle(name=name, actor=_actor(name), state=state) for name, state in states.items()]


def _actor(name: str) -> Any:
    return ray.get_actor(name, namespace=NAMESPACE)


def _look(path: str) -> list[str]:
    """Returns the folders of shards on the machine that runs this task."""
    return shards_in(os.environ.get(FOLDERS, path).split(os.pathsep))


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)
