"""A writer of a cluster gathers changes and says of each what the writer of a folder says."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sharded_collection
from cluster import writer as module
from cluster.changes import Drop, Put
from cluster.writer import ClusterWriter
from engine.collection import AnyWriter, open_collection, open_writer, shard
from engine.collection.sharding import ShardMap
from engine.errors import DocumentExistsError, DocumentMissingError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shard(sharded_collection.write(tmp_path / "plain", 0, 10), tmp_path / "music.shards", 3)
    return tmp_path / "music.shards"


class Made:
    """Makes the changes in the folder itself, and keeps them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[dict[str, list[Any]]] = []

    def __call__(self, changes: dict[str, list[Any]]) -> dict[str, int]:
        self.calls.append(changes)
        with open_writer(self.folder) as writer:
            for change in (one for of_shard in changes.values() for one in of_shard):
                if isinstance(change, Put):
                    writer.put(
                        change.document, change.sequence, replace=change.replace, default_title=change.default_title
                    )
                else:
                    assert isinstance(change, Drop)
                    writer.remove(change.id)
            writer.commit()
        return {}


@pytest.fixture
def made(folder: Path) -> Made:
    return Made(folder)


@pytest.fixture(params=["folder", "cluster"])
def writer(request: pytest.FixtureRequest, folder: Path, made: Made) -> Iterator[AnyWriter]:
    opened: Any = lambda: open_collection(folder)  # noqa: E731
    which = (
        open_writer(folder) if request.param == "folder" else ClusterWriter(folder, ShardMap.read(folder), opened, made)
    )
    with which as entered:
        yield entered


def test_the_status_of_each_change(writer: AnyWriter) -> None:
    old, _ = sharded_collection.made("score", 3)
    new, snippets = sharded_collection.made("score", 20)
    assert writer.needs_embedding(new)
    assert writer.put(new, snippets) == "added"
    assert writer.holds(new.id)
    held = writer.document(new.id)
    assert held is not None
    assert held.snippets == len(snippets)
    assert not writer.needs_embedding(old)
    assert writer.put(replace(old, title=""), None) == "unchanged"
    assert writer.put(replace(old, title="another title"), None) == "changed"
    with pytest.raises(DocumentExistsError):
        writer.needs_embedding(replace(old, content_hash="other"))
    assert writer.needs_embedding(replace(old, content_hash="other"), replace=True)
    writer.remove("recording-00")
    assert not writer.holds("recording-00")
    with pytest.raises(DocumentMissingError):
        writer.remove("recording-00")
    before = writer.generation
    assert writer.commit() > before
    changed = writer.document(old.id)
    assert changed is not None
    assert (changed.title, changed.systems) == ("another title", old.systems)
    assert writer.document("recording-00") is None
    assert sum(map(len, writer.ids_by_source().values())) == 20


def test_an_id_is_composed_before_the_commit_as_after_it(writer: AnyWriter) -> None:
    document, snippets = sharded_collection.made("score", 20)
    given = replace(document, id="e\u0301tude")
    writer.put(given, snippets)
    for _ in range(2):
        held = writer.document(given.id)
        assert held is not None
        assert held.id == "\u00e9tude"
        assert writer.holds("\u00e9tude")
        assert writer.put(given, None) == "unchanged"
        writer.commit()
    writer.remove(given.id)
    assert not writer.holds("\u00e9tude")


def test_many_changes_are_made_in_parts(folder: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GATHERED", 4)
    opened: Any = lambda: open_collection(folder)  # noqa: E731
    with ClusterWriter(folder, ShardMap.read(folder), opened, made) as writer:
        for number in range(20, 30):
            writer.put(*sharded_collection.made("score", number))
        assert len(made.calls) == 2
        writer.commit()
        writer.commit()
    assert [sum(map(len, call.values())) for call in made.calls] == [4, 4, 2]
    home = ShardMap.read(folder).home
    assert all(home(put.document.id) == name for call in made.calls for name, puts in call.items() for put in puts)
