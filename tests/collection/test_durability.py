"""A commit and a build, step by step: the order of the steps, a full disk at each step, and death at each step."""

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
BUILD_STEPS = [
    *STEPS[:4],
    "unlink sequences-000002.lmdb",  # what a killed writer may have left
    "unlink sequences-000002.lmdb-lock",
    "commit sequences-000002.lmdb",  # the documents
    "commit sequences-000002.lmdb",  # the generation
    *STEPS[4:9],
    "commit sequences-000002.lmdb",  # garbage, of which there is none
    "unlink scores-000001.faiss",
    "unlink sequences.lmdb",
    "unlink sequences.lmdb-lock",
]
"""Steps of a build, which writes all files anew."""
OPERATIONS = {"commit": STEPS, "build": BUILD_STEPS}
EACH_STEP = [(name, number) for name, steps in OPERATIONS.items() for number in range(len(steps))]


def in_force(steps: list[str]) -> int:
    """From the end of this step on, readers see the new generation."""
    return steps.index("replace manifest.json")


def acknowledged(steps: list[str]) -> int:
    """If a step before this one fails, the commit does; what comes later is garbage, which can wait."""
    return in_force(steps) + 2


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


def files(path: Path) -> list[str]:
    """The files of the collection but those that only lock."""
    return sorted(file.name for file in path.iterdir() if "lock" not in file.name)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_steps_are_made_in_this_order(path: Path, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        change(writer)
        with monkeypatch.context() as patch:
            log = disk_log(patch)
            getattr(writer, operation)()
    assert log == OPERATIONS[operation]
    assert held(path) == NEW


def test_lmdb_waits_for_the_disk_at_each_commit(path: Path) -> None:
    store = Store.acquire(path / "sequences.lmdb")
    flags = store._env.flags()
    store.release()
    assert (flags["sync"], flags["metasync"], flags["map_async"]) == (True, True, False)


@pytest.mark.parametrize(("operation", "number"), EACH_STEP)
def test_after_a_full_disk_at_any_step_the_same_writer_commits_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, number: int
) -> None:
    steps = OPERATIONS[operation]
    with CollectionWriter(path, NETWORK) as writer:
        change(writer)
        make = getattr(writer, operation)
        with monkeypatch.context() as patch:
            log = disk_log(patch, full(number))
            if number < acknowledged(steps):
                with pytest.raises(CollectionError, match="No space left on device"):
                    make()
                assert writer.generation == 1
            else:
                assert make() == 2
        assert steps[: number + 1] == log[: number + 1]
        assert held(path) == (NEW if number > in_force(steps) else OLD)
        writer.commit()
        assert held(path) == NEW
        writer.put(document("d"), sequence(2))
        writer.commit()
    assert held(path) == NEW | {"d": 2}
    assert len(files(path)) == 3


@pytest.mark.parametrize(("operation", "number"), EACH_STEP)
def test_after_a_full_disk_at_any_step_the_next_writer_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, number: int
) -> None:
    with monkeypatch.context() as patch, CollectionWriter(path, NETWORK) as writer:
        change(writer)
        disk_log(patch, full(number))
        if number < acknowledged(OPERATIONS[operation]):
            with pytest.raises(CollectionError):
                getattr(writer, operation)()
        else:
            getattr(writer, operation)()
    with CollectionWriter(path, NETWORK) as writer:
        writer.put(document("b", content_hash="g"), None, replace=True)
        writer.put(document("c"), None)
        if writer.holds("a"):
            writer.remove("a")
        writer.commit()
    assert held(path) == NEW
    assert len(files(path)) == 3


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_commit_after_one_that_failed_late_leaves_the_files_in_force_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The manifest of a commit may be in force though the commit failed: its rename was made, but not confirmed."""
    with CollectionWriter(path, NETWORK) as writer:
        change(writer)
        steps = OPERATIONS[operation]
        for number in (in_force(steps) + 1, steps.index("fsync scores-000002.faiss")):
            with monkeypatch.context() as patch:
                disk_log(patch, full(number))
                with pytest.raises(CollectionError):
                    getattr(writer, operation)()
            writer.put(document("d"), sequence(2))
            assert held(path) == NEW


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import pytest
from collection_samples import NETWORK
from disk_log import disk_log
from engine.collection import CollectionWriter
from engine.collection import writer as module
from engine.neighbours import cells
from test_durability import change

cells.EXACT_ROWS = module.MAX_ADDED_SNIPPETS = 0
for number, path in enumerate(sys.argv[4:]):
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
    getattr(opened, sys.argv[3])()
    os._exit(0)
"""


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_process_killed_at_any_step_leaves_the_old_or_the_new_generation(
    path: Path, tmp_path: Path, operation: str
) -> None:
    steps = OPERATIONS[operation]
    copies = [tmp_path / str(number) / "c" for number in range(len(steps) + 1)]
    for copy in copies:
        shutil.copytree(path, copy)
    folders = [str(ROOT), str(ROOT / "tests"), operation, *map(str, copies)]
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n{CHILD}", *folders]
    ended = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert ended == ["9"] * len(steps) + ["0"]
    for number, copy in enumerate(copies):
        committed = number > in_force(steps)
        assert held(copy) == (NEW if committed else OLD), f"killed before {(*steps, 'nothing')[number]}"
        with CollectionWriter(copy, NETWORK) as writer:
            if not committed:
                change(writer)
            getattr(writer, operation)()
        assert held(copy) == NEW
        assert len(files(copy)) == 3
        assert len(list(copy.glob("*.lmdb*"))) <= 2
