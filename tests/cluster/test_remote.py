"""A collection whose shards lie elsewhere says what it lacks, also of a shard that has never been asked."""

from pathlib import Path
from typing import Any

import pytest

import sharded_collection
from engine.collection import Collection, shard
from engine.errors import ShardLostError
from engine.search.shards import Shards


class Gone:
    """A group none of whose replicas answers."""

    def ask(self, *_: Any, **__: Any) -> Any:
        raise ShardLostError(frozenset({"shard-001"}), "no replica answers")


@pytest.mark.usefixtures("ray_environment")
def test_a_shard_that_is_lost_before_it_was_asked_is_named_with_its_documents(tmp_path: Path) -> None:
    from cluster.remote import RemoteShard

    shard(sharded_collection.write(tmp_path / "plain", 0, 12), tmp_path / "many", 2)
    with Collection.open(tmp_path / "many" / "shard-000") as one, Collection.open(tmp_path / "many/shard-001") as two:
        left: Any = RemoteShard(Gone(), one.manifest)
        lost: Any = RemoteShard(Gone(), two.manifest)
        (unseen,) = Shards({"shard-000": left, "shard-001": lost}).without(frozenset({"shard-001"})).unseen
        assert unseen.name == "shard-001"
        assert unseen.documents == {kind: two.kinds[kind].documents for kind in ("score", "recording")}
