"""A commit, step by step: the order of its steps, a full disk at each of them, and death at each of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from collection_samples import NETWORK, document, fill, sequence
from disk_log import disk_log, full
from engine.collection import Collection, CollectionWriter
from engine.collection.store import Store
from engine.errors import CollectionError

ROOT = Path(__file__).parents[2]

STEPS = [
    "commit sequences.lmdb",  # the staged documents
    "commit sequences.lmdb",  # the generation
    "write scores-000002.faiss",
    "fsync scores-000002.faiss",
    "fsync c",
    "write manifest.json.unfinished",
    "fsync manifest.json.unfinished",
    "replace manifest.json",
    "fsync c",
    "commit sequences.lmdb",  # without garbage
    "unlink scores-000001.faiss",
]
"""Steps of a commit to the collection `c`, with an index, in their order."""
IN_FORCE = STEPS.index("replace manifest.json")
"""From the end of this step on, readers see the new generation."""
ACKNOWLEDGED = IN_FORCE + 2
"""If a step before this one fails, the commit does; what comes later is garbage, which can wait."""

OLD, NEW = {"a": 5, "b": 5}, {"b": 3, "c": 4}
"""Ids and numbers of snippets."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A collection of the old generation."""
    fill(tmp_path / "c", "a", "b")
    return tmp_path / "c"


def change(writer: CollectionWriter) -> None:
    """Adds, exchanges and removes a document; the next commit makes the new generation."""
    writer.put(document("b", content_hash="g"), sequence(3), replace=True)
    writer.put(document("c"), sequence(4))
    writer.remove("a")


def held(path: Path) -> dict[str, int]:
    """The documents in force and how many snippets each has, after a check of everything."""
    with Collection.open(path, NETWORK) as collection:
        collection.check()
        return {document.id: len(collection.sequence(document.id)) for document in collection.documents}


def test_the_steps_of_a_commit_are_made_in_this_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        change(writer)
        with monkeypatch.context() as patch:
            log = disk_log(patch)
            writer.commit()
    assert log == STEPS
    assert held(path) == NEW


def test_lmdb_waits_for_the_disk_at_each_commit(path: Path) -> None:
    store = Store.acquire(path / "sequences.lmdb")
    flags = store._env.flags()
    store.release()
    assert (flags["sync"], flags["metasync"], flags["map_async"]) == (True, True, False)


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_after_a_full_disk_at_any_step_the_same_writer_commits_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        change(writer)
        with monkeypatch.context() as patch:
            log = disk_log(patch, full(number))
            if number < ACKNOWLEDGED:
                with pytest.raises(CollectionError, match="No space left on device"):
                    writer.commit()
                assert writer.generation == 1
            else:
                assert writer.commit() == 2
        assert STEPS[: number + 1] == log[: number + 1]
        assert held(path) == (NEW if number > IN_FORCE else OLD)
        writer.commit()
        assert held(path) == NEW
        writer.put(document("d"), sequence(2))
        writer.commit()
    assert held(path) == NEW | {"d": 2}
    assert len(list(path.glob("*.faiss"))) == 1
    assert not list(path.glob("*.unfinished"))


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_after_a_full_disk_at_any_step_the_next_writer_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch, CollectionWriter(path, NETWORK) as writer:
        change(writer)
        disk_log(patch, full(number))
        if number < ACKNOWLEDGED:
            with pytest.raises(CollectionError):
                writer.commit()
        else:
            writer.commit()
    with CollectionWriter(path, NETWORK) as writer:
        writer.put(document("b", content_hash="g"), None, replace=True)
        writer.put(document("c"), None)
        if writer.holds("a"):
            writer.remove("a")
        writer.commit()
    assert held(path) == NEW


def test_a_commit_after_one_that_failed_late_leaves_the_files_in_force_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest of a commit may be in force though the commit failed: its rename was made, but not confirmed."""
    with CollectionWriter(path, NETWORK) as writer:
        change(writer)
        for number in (IN_FORCE + 1, STEPS.index("fsync scores-000002.faiss")):
            with monkeypatch.context() as patch:
                disk_log(patch, full(number))
                with pytest.raises(CollectionError):
                    writer.commit()
            writer.put(document("d"), sequence(2))
            assert held(path) == NEW


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import pytest
from collection_samples import NETWORK
from disk_log import disk_log
from engine.collection import CollectionWriter, writer
from engine.neighbours import cells
from test_durability import change

cells.EXACT_ROWS = writer.BESIDE_SNIPPETS = 0
for number, path in enumerate(sys.argv[3:]):
    child = os.fork()
    if child:
        print(os.waitpid(child, 0)[1], flush=True)
        continue

    def die(at, step):
        if at == number:
            os.kill(os.getpid(), signal.SIGKILL)

    opened = CollectionWriter(Path(path), NETWORK)
    change(opened)
    disk_log(pytest.MonkeyPatch(), die)
    opened.commit()
    os._exit(0)
"""


def test_a_process_killed_at_any_step_leaves_the_old_or_the_new_generation(path: Path, tmp_path: Path) -> None:
    copies = [tmp_path / str(number) / "c" for number in range(len(STEPS) + 1)]
    for copy in copies:
        shutil.copytree(path, copy)
    folders = [str(ROOT), str(ROOT / "tests"), *map(str, copies)]
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n{CHILD}", *folders]
    ended = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert ended == ["9"] * len(STEPS) + ["0"]
    for number, copy in enumerate(copies):
        in_force = number > IN_FORCE
        assert held(copy) == (NEW if in_force else OLD), f"killed before {(*STEPS, 'nothing')[number]}"
        with CollectionWriter(copy, NETWORK) as writer:
            if not in_force:
                change(writer)
            writer.commit()
        assert held(copy) == NEW
        assert len(list(copy.glob("*.faiss"))) == 1
        assert not list(copy.glob("*.unfinished"))
