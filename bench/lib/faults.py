"""What befalls replicas of shards in the chaos: they die, hang, have a slow disk, or a full one.

A fault lasts while its `with` block runs. The disk of a machine is a small file system of its own in memory, which is
filled to the last byte, so the system itself refuses to write (ENOSPC). That needs the right to mount. A slow disk is a
file beside the shard's folder: while it is there, the process of that replica waits before it reads documents or
writes changes. It answers probes at once, which is what makes a slow replica worse than a dead one.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cluster.changes import ReplicaState, ShardChange
from cluster.storage import ClusterStorage, ReplicaActor

STOPPED_S, SLOW_S, FULL_S = 8.0, 20.0, 12.0
"""Time for which a process hangs, a disk is slow, and a disk is full."""
ACCESS_S = 1.0, 5.0
"""Range of the time that a slow disk takes to read documents, or to write changes."""
DISK_BYTES = 96 << 20
"""Size of the disk of a machine that may be filled."""


class SlowActor(ReplicaActor):
    """A replica whose reads and writes take some seconds while its disk is slow."""

    def __init__(self, path: str, *arguments: Any) -> None:
        self._marker = slow_marker(path)
        super().__init__(path, *arguments)

    def search(self, generation: int, name: str, *arguments: Any, **options: Any) -> Any:
        self._wait()
        return super().search(generation, name, *arguments, **options)

    def prepare(self, changes: Sequence[ShardChange], number: int) -> ReplicaState:
        self._wait()
        return super().prepare(changes, number)

    def commit(self, generation: int) -> ReplicaState:
        self._wait()
        return super().commit(generation)

    def _wait(self) -> None:
        if self._marker.exists():
            time.sleep(random.uniform(*ACCESS_S))


class SlowStorage(ClusterStorage):
    """A collection in a cluster whose replicas have disks that can be slow."""

    replica = SlowActor


def slow_marker(path: str) -> Path:
    """Returns the file whose presence makes the disk of the replica in the folder `path` slow."""
    return Path(f"{path}.slow")


def befalling(kind: str, replica: ReplicaState) -> AbstractContextManager[None]:
    """Returns the fault of a kind that befalls a replica: `killed`, `stopped` or `slow`."""
    if kind == "slow":
        return slow(replica.path)
    return killed(replica.process) if kind == "killed" else stopped(replica.process)


@contextlib.contextmanager
def killed(process: int) -> Iterator[None]:
    """Kills a process at once."""
    os.kill(process, signal.SIGKILL)
    yield


@contextlib.contextmanager
def stopped(process: int) -> Iterator[None]:
    """Makes a process hang for STOPPED_S."""
    os.kill(process, signal.SIGSTOP)
    try:
        time.sleep(STOPPED_S)
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@contextlib.contextmanager
def slow(path: str) -> Iterator[None]:
    """Makes the disk of the replica in the folder `path` slow for SLOW_S."""
    slow_marker(path).touch()
    try:
        time.sleep(SLOW_S)
        yield
    finally:
        slow_marker(path).unlink()


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fills a small file system for FULL_S."""
    ballast = disk / "ballast"
    try:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:  # it ends when nothing fits
            while file.write(bytes(4096)) == 4096:
                pass
        time.sleep(FULL_S)
        yield
    finally:
        ballast.unlink()


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """Mounts a file system of DISK_BYTES in memory at an empty folder; gives False if this is not permitted."""
    path.mkdir(parents=True, exist_ok=True)
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    mounted = subprocess.run(mounting, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
