"""The machines of a cluster: which folders of shards each has, and the process that runs beside each folder.

Each machine has the shards that it serves in a folder: that of the collection, or those that its environment variable
SCOREFIND_SHARDS names. A shard that lies on two machines has two replicas. There is nothing else to configure.
"""

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.replica import shards_in
from engine.collection.manifest import Manifest
from engine.collection.sharding import ShardMap
from engine.errors import CollectionError

logger = logging.getLogger(__name__)

NAMESPACE = "scorefind"
FOLDERS = "SCOREFIND_SHARDS"
"""Environment variable of a machine's Ray with the folders that hold its shards, separated by colons."""
LOOK_S = 120.0
"""Time for a machine to look for its shards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder of a machine that holds a shard."""

    shard: str
    folder: str
    node: str
    """Ray's id of the machine."""
    address: str
    """Address of the machine."""
    name: str
    """Name of the process beside it, which need not run."""


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


def key_of(path: Path) -> str:
    """Returns what the names of all processes of the collection at `path` begin with."""
    return hashlib.blake2b(str(path.resolve()).encode(), digest_size=6).hexdigest()


def keeper_of(path: Path) -> str:
    """Returns the name of the process through which all changes of the collection at `path` go."""
    return f"{key_of(path)}/keeper"


def places(path: Path, map: ShardMap) -> Iterator[Place]:
    """Yields where the shards of the collection at `path` lie on all machines. Nothing is started that stays."""
    for node in ray.nodes():
        if node["Alive"]:
            id = node["NodeID"]
            for folder in _folders(path, id):
                shard = Path(folder).name
                if shard in map.shards:
                    name = f"{key_of(path)}/{shard}/{id[:8]}/{folder}"
                    yield Place(shard=shard, folder=folder, node=id, address=node["NodeManagerAddress"], name=name)


def actor(name: str) -> Any:
    """Returns the process of this name. Raises ValueError if there is none."""
    return ray.get_actor(name, namespace=NAMESPACE)


def on(node: str) -> NodeAffinitySchedulingStrategy:
    """Returns the order to run something on a machine, and on no other one."""
    return NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def manifest_at(place: Place) -> Manifest:
    """Returns the manifest of a shard as it is on the disk of its machine. Raises RayError or GetTimeoutError."""
    read = ray.remote(_read).options(num_cpus=0, scheduling_strategy=on(place.node))
    found: Manifest = ray.get(read.remote(place.folder), timeout=LOOK_S)
    return found


def _folders(path: Path, node: str) -> list[str]:
    """Returns the folders of shards on a machine."""
    look = ray.remote(_look).options(num_cpus=0, scheduling_strategy=on(node))
    try:
        found: list[str] = ray.get(look.remote(str(path.resolve())), timeout=LOOK_S)
        return found
    except (RayError, GetTimeoutError) as exc:
        logger.warning("machine %s does not tell its shards: %r", node[:8], exc)
        return []


def _look(path: str) -> list[str]:
    """Returns the folders of shards on the machine that runs this task."""
    return shards_in(os.environ.get(FOLDERS, path).split(os.pathsep))


def _read(folder: str) -> Manifest:
    """Returns the manifest in a folder of the machine that runs this task."""
    return Manifest.read(Path(folder))
