"""A collection in a cluster: starts a process beside each shard on its machines, and opens all shards as one.

The processes are actors with names that outlive who started them, so a front that starts again finds them, and a second
one shares them.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cluster.changes import ReplicaState, ShardChange
from cluster.group import ReplicaGroup, ReplicaHandle
from cluster.keeper import Keeper
from cluster.machines import FOLDERS, Place, actor, keeper_of, on, places
from cluster.remote import LOAD_S, ClusterCollection, RemoteShard
from cluster.replica import Replica
from cluster.writer import ClusterWriter
from engine.alignment import BackendName
from engine.collection import ShardHealth
from engine.collection.sharding import ShardMap
from engine.config import SearchSettings
from engine.errors import CollectionError, EngineError
from engine.values import NetworkIdentity

logger = logging.getLogger(__name__)

SHARD_S = 5.0
"""Time for a replica to answer a part of a query before the next replica is asked."""
START_S = 120.0
"""Time for a replica to start."""
CHANGE_S = 300.0
"""Time for a replica to make changes durable."""
RESTART_POLL_S = 0.2
"""Time between two looks for a replica that restarts."""
STATE_S = 5.0
"""Time for a replica to tell what it holds."""


class ReplicaActor(Replica):
    """A replica as an actor. Searches run in some threads, changes in one."""

    def follow(self, name: str, generation: int) -> ReplicaState:
        """Catches up with another replica, of this name, whose generation has this number."""
        other = actor(name)
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
        self._groups: dict[str, ReplicaGroup] = {}
        """Replicas of the shards of the generation that was opened last."""
        self._seen: dict[str, tuple[set[str], set[str]]] = {}
        """Names of the replicas of each shard: all there have ever been, and those up to date at the last look."""
        self._failures: dict[str, dict[str, int]] = {shard: {} for shard in self._map.shards}
        """How often each replica of each shard was passed over."""
        self._keeper = _keeper(keeper_of(self.path), str(self.path))

    def generation(self) -> int:
        """Returns the sum of the generations of the shards that answer.

        Replicas that have come since the collection was opened are asked from now on.
        """
        found = self.joined()
        for shard, states in found.items():
            if shard in self._groups:
                self._groups[shard].take_in(_handles(states))
        return sum(max(state.generation for state in states.values()) for states in found.values() if states)

    def joined(self) -> dict[str, dict[str, ReplicaState]]:
        """Returns the states of the replicas that are up to date, by shard and by name.

        Replicas that do not run are started before, and those that are behind catch up.
        """
        states: dict[str, dict[str, ReplicaState]] = self._told(self._keeper.join.remote(self._started()), CHANGE_S)
        members: dict[str, list[str]] = self._told(self._keeper.members.remote(), STATE_S)
        self._seen = {shard: (set(members.get(shard, ())), set(states.get(shard, {}))) for shard in self._map.shards}
        return states

    def health(self) -> tuple[ShardHealth, ...]:
        """Returns how many replicas of each shard there are, and how many may be asked, without asking any now."""
        return tuple(self._health(shard, *seen) for shard, seen in self._seen.items())

    def open(self, network: NetworkIdentity) -> ClusterCollection:
        """Opens the newest generation. Raises CollectionError if no shard answers."""
        shards = {}
        for name, states in sorted(self.joined().items()):
            if states:
                group = self._group(name, states)
                self._groups[name] = group
                shards[name] = RemoteShard(group, group.ask("manifest", timeout_s=LOAD_S))
        if not shards:
            raise CollectionError(
                self.path, f"no machine of the cluster has shards of it; {FOLDERS} names their folders"
            )
        return ClusterCollection(self.path, self._map, shards, network)

    def _group(self, shard: str, states: Mapping[str, ReplicaState]) -> ReplicaGroup:
        """Returns all replicas of a shard. Those that do not answer now, or are behind, are asked when they are ready.

        states: of those that are up to date.
        """
        missing = {}
        for name in self._seen[shard][0] - states.keys():
            with contextlib.suppress(ValueError):  # it has never been started; the next look does that
                actor(name)
                missing[name] = next(iter(states.values()))
        late = _handles(missing)
        for replica in late:
            replica.ask_for_a_sign()
        return ReplicaGroup(
            shard=shard, replicas=_handles(states) + late, timeout_s=self._shard_s, failures=self._failures[shard]
        )

    def writer(self, network: NetworkIdentity, threads: int = 1) -> ClusterWriter:
        """Opens a writer. Any number of writers may be open: the keeper makes their changes one after the other."""
        return ClusterWriter(self.path, self._map, lambda: self.open(network), self._apply)

    def restart(self, *, alone: bool = False) -> Iterator[str]:
        """Restarts one replica after the other, and yields the name of each when it is up to date again.

        Queries go on meanwhile. A shard without any replica that answers is passed over, with a warning.

        alone: whether a replica is restarted also if no other one of its shard is up to date, so that queries miss the
            shard.
        Raises CollectionError if one may not be restarted, or does not come back.
        """
        for shard in self._map.shards:
            current = self.joined()[shard]
            if not current:
                logger.warning("%s: no replica of it answers, so none is restarted", shard)
            for name in sorted(current):
                if len(self.joined()[shard]) < 2 and not alone:
                    raise CollectionError(self.path, f"{shard}: no other replica than {name} is up to date")
                ray.kill(actor(name), no_restart=False)
                self._await(shard, name, current[name].process)
                yield name

    def shut_down(self) -> None:
        """Ends the processes of the collection on all machines."""
        for names in self._told(self._keeper.members.remote(), STATE_S).values():
            for name in names:
                try:
                    ray.kill(actor(name))
                except ValueError:
                    logger.info("%s has ended already", name)
        ray.kill(self._keeper)

    def _health(self, shard: str, known: set[str], current: set[str]) -> ShardHealth:
        """known: replicas that have ever been there. current: those that were up to date at the last look."""
        group = self._groups.get(shard)
        answering = current if group is None else current & group.answering()
        failures = self._failures.get(shard, {})
        return ShardHealth(name=shard, replicas=len(known), answering=len(answering), passed_over=dict(failures))

    def _await(self, shard: str, name: str, before: int) -> None:
        """Waits until a replica is up to date in another process than `before`. Raises CollectionError if it is not."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(CollectionError):
                state = self.joined()[shard].get(name)
                if state is not None and state.process != before:
                    return
            time.sleep(RESTART_POLL_S)
        raise CollectionError(self.path, f"{name} has not come back within {START_S:g} s")

    def _apply(self, changes: dict[str, list[ShardChange]]) -> dict[str, int]:
        generations: dict[str, int] = self._told(self._keeper.apply.remote(changes), 2 * CHANGE_S)
        return generations

    def _started(self) -> dict[str, list[str]]:
        """Returns the names of the replicas of each shard on all machines; starts those that do not run.

        A shard that no machine has is there without names: the keeper has to know that its numbers are unknown.
        """
        found: dict[str, list[str]] = {shard: [] for shard in self._map.shards}
        starting: list[Any] = []
        for place in places(self.path, self._map):
            starting += self._start(place)
            found[place.shard].append(place.name)
        if starting:
            ray.wait(starting, num_returns=len(starting), timeout=START_S)
        return found

    def _start(self, place: Place) -> list[Any]:
        """Starts a replica unless it runs, and returns the call whose reply tells that it has started."""
        with contextlib.suppress(ValueError):
            actor(place.name)
            return []
        replica = ray.remote(concurrency_groups={"search": 4, "change": 1})(self.replica).options(
            name=place.name,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
            scheduling_strategy=on(place.node),
        )
        return [replica.remote(place.folder, self._settings, self._backend).state.remote()]

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
        call = getattr(actor(name), method).options(concurrency_group="search" if method == "state" else "change")
        return ray.get(call.remote(*arguments), timeout=timeout_s)
    except RayTaskError as exc:
        if isinstance(exc.cause, EngineError):
            raise exc.cause from exc
        raise CollectionError(name, f"failed: {exc.cause!r}") from exc
    except (RayError, GetTimeoutError, ValueError) as exc:
        raise CollectionError(name, f"does not answer: {exc}") from exc


def _handles(states: Mapping[str, ReplicaState]) -> list[ReplicaHandle]:
    return [ReplicaHandle(name=name, actor=actor(name), state=state) for name, state in states.items()]
