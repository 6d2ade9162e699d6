"""Nodes get links to the shards that they serve."""

from pathlib import Path

import pytest

from bench.lib import nodes
from engine.collection import shard
from sharded_collection import write


@pytest.mark.parametrize(
    ("count", "replicas", "expected"),
    [
        (1, 1, [["shard-000", "shard-001", "shard-002", "shard-003"]]),
        (2, 1, [["shard-000", "shard-002"], ["shard-001", "shard-003"]]),
        (2, 2, [["shard-000", "shard-001", "shard-002", "shard-003"]] * 2),
    ],
)
def test_shards_are_divided_among_nodes(tmp_path: Path, count: int, replicas: int, expected: list[list[str]]) -> None:
    shard(write(tmp_path / "plain", 0, 8), tmp_path / "many", 4)
    folders = nodes._laid_out(tmp_path / "many", tmp_path / "nodes", count, replicas)
    assert [sorted(path.name for path in folder.glob("shard-*")) for folder in folders] == expected
    assert all((path / "manifest.json").exists() for folder in folders for path in folder.glob("shard-*"))
    assert (folders[0] / "shards.json").exists()
