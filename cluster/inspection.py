"""What `scorefind doctor --cluster` tells of a collection in a cluster. It looks, and starts and changes nothing."""

from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from cluster.changes import ReplicaState, up_to_date
from cluster.machines import Place, actor, keeper_of, manifest_at, places
from engine.collection.sharding import ShardMap

STATE_S = 5.0
"""Time for a replica to tell what it holds."""


def report(path: Path) -> dict[str, Any]:
    """Returns the machines, and for each shard what each of its replicas holds, for people and for JSON."""
    map = ShardMap.read(path)
    found: dict[str, list[Place]] = {shard: [] for shard in map.shards}
    for place in places(path, map):
        found[place.shard].append(place)
    return {
        "machines": {node["NodeManagerAddress"]: _machine(node) for node in ray.nodes()},
        "keeper": "runs" if _runs(keeper_of(path)) else "does not run: no front has been started",
        "shards": {shard: _shard(of_shard) for shard, of_shard in found.items()},
    }


def states(path: Path) -> dict[str, dict[str, ReplicaState]]:
    """Returns what the replicas that answer hold, by shard and by name, whether they are up to date or not."""
    map = ShardMap.read(path)
    found: dict[str, dict[str, ReplicaState]] = {shard: {} for shard in map.shards}
    for place in places(path, map):
        state = _state(place)
        if isinstance(state, ReplicaState):
            found[place.shard][place.name] = state
    return found


def _machine(node: dict[str, Any]) -> str:
    """Returns what a machine is, in words."""
    if not node["Alive"]:
        return "is gone"
    resources = node["Resources"]
    return f"{resources.get('CPU', 0):g} processors, {resources.get('GPU', 0):g} GPUs for Ray"


def _shard(found: list[Place]) -> dict[str, str] | str:
    """Returns what each replica of a shard holds, in words, by its machine and folder."""
    states = {place: _state(place) for place in found}
    current = set(up_to_date({place.name: state for place, state in states.items() if not isinstance(state, str)}))
    told = {}
    for place, state in states.items():
        if isinstance(state, str):
            words = state
        else:
            standing = "up to date" if place.name in current else "behind: it catches up when a front looks"
            words = f"generation {state.generation}, {standing}; process {state.process}"
        told[f"{place.address}:{place.folder}"] = words
    return told or "lies on no machine"


def _state(place: Place) -> ReplicaState | str:
    """Returns what a replica holds, or in words why it does not tell."""
    try:
        found: ReplicaState = ray.get(
            actor(place.name).state.options(concurrency_group="search").remote(), timeout=STATE_S
        )
        return found
    except GetTimeoutError:
        return f"does not answer within {STATE_S:g} s"
    except RayError as exc:
        return f"is not there: {type(exc).__name__}"
    except ValueError:
        return _asleep(place)


def _asleep(place: Place) -> str:
    """Returns what a shard without a process holds on disk, in words."""
    try:
        return f"no process; generation {manifest_at(place).generation} on disk"
    except (RayError, GetTimeoutError) as exc:
        return f"no process, and it cannot be read: {exc}"


def _runs(name: str) -> bool:
    try:
        actor(name)
    except ValueError:
        return False
    return True
