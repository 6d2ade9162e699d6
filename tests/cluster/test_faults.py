"""The faults of the chaos are what they say, and end."""

import errno
import subprocess
import time
from pathlib import Path

import pytest

import sharded_collection
from engine.collection import shard
from engine.config import SearchSettings

pytestmark = pytest.mark.usefixtures("ray_environment")


def test_a_slow_disk_delays_reads_and_changes_but_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.lib import faults

    monkeypatch.setattr(faults, "ACCESS_S", (0.3, 0.3))
    monkeypatch.setattr(faults, "SLOW_S", 0.0)
    shard(sharded_collection.write(tmp_path / "plain", 0, 4), tmp_path / "many", 1)
    path = str(tmp_path / "many" / "shard-000")
    replica = faults.SlowActor(path, SearchSettings(threads=1), "cpu")

    def took_s(method: str, *arguments: object) -> float:
        started = time.monotonic()
        getattr(replica, method)(*arguments)
        return time.monotonic() - started

    try:
        generation = replica.state().generation
        with faults.slow(path):
            assert took_s("search", generation, "documents", "score", [0]) >= 0.3
            assert took_s("prepare", [], 9) >= 0.3
            assert took_s("state") < 0.3
        assert took_s("search", generation, "documents", "score", [0]) < 0.3
    finally:
        replica.close()


def test_a_full_disk_takes_no_byte_and_has_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.lib import faults

    monkeypatch.setattr(faults, "FULL_S", 0.0)
    monkeypatch.setattr(faults, "DISK_BYTES", 1 << 20)
    with faults.small_disk(tmp_path / "disk") as mounted:
        if mounted:  # otherwise the chaos leaves this fault out
            with faults.full(tmp_path / "disk"), pytest.raises(OSError, match="No space left") as refused:
                (tmp_path / "disk" / "file").write_bytes(bytes(8192))
            assert refused.value.errno == errno.ENOSPC
            (tmp_path / "disk" / "file").write_bytes(bytes(8192))
    assert not (tmp_path / "disk" / "file").exists() or not mounted


def test_a_stopped_process_goes_on_and_a_killed_one_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.lib import faults

    monkeypatch.setattr(faults, "STOPPED_S", 0.2)
    with subprocess.Popen(["sleep", "60"]) as process:
        with faults.stopped(process.pid):
            assert "T" in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        with faults.killed(process.pid):
            assert process.wait(10) == -9
