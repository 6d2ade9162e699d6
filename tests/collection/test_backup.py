"""Backups are whole collections of one generation, or are not there."""

import resource
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from collection_samples import NETWORK, document, fill, sequence
from disk_log import disk_log, full
from engine.collection import Collection, CollectionWriter, backup, reader
from engine.errors import CollectionDamagedError, CollectionError, CollectionMissingError

ROOT = Path(__file__).parents[2]

STEPS = [
    "commit sequences.lmdb",  # the documents
    "commit sequences.lmdb",  # the generations
    "fsync scores-000001.faiss",
    "fsync b.unfinished",
    "write manifest.json.unfinished",
    "fsync manifest.json.unfinished",
    "replace manifest.json",
    "fsync b.unfinished",
    "unlink sequences.lmdb-lock",
    "fsync b.unfinished",
    "replace b",
    "fsync backups",
]
"""Steps of a backup to `backups/b`, in their order."""
THERE = STEPS.index("replace b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / "c", "a", "b")
    (tmp_path / "backups").mkdir()
    return tmp_path / "c"


@pytest.fixture
def target(path: Path) -> Path:
    return path.parent / "backups" / "b"


def contents(path: Path) -> dict[str, bytes]:
    """The embeddings of each document, after a check of everything."""
    with Collection.open(path, NETWORK) as collection:
        collection.check()
        return {document.id: collection.sequence(document.id).embeddings.tobytes() for document in collection.documents}


def test_a_backup_opens_as_a_collection_that_can_be_changed(path: Path, target: Path) -> None:
    manifest = backup(path, target)
    assert manifest.generation == 1
    assert sorted(file.name for file in target.iterdir()) == ["manifest.json", "scores-000001.faiss", "sequences.lmdb"]
    assert contents(target) == contents(path)
    fill(target, "c")
    shutil.rmtree(path)
    assert contents(target).keys() == {"a", "b", "c"}


def test_a_backup_shares_no_file_with_the_original(path: Path, target: Path) -> None:
    backup(path, target)
    assert not {file.stat().st_ino for file in path.iterdir()} & {file.stat().st_ino for file in target.iterdir()}


def test_a_backup_has_what_its_older_index_needs_and_no_other_document(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.collection.writer.MAX_ADDED_SNIPPETS", 100)
    monkeypatch.setattr("engine.collection.writer.MAX_REMOVED_SHARE", 1.0)
    with CollectionWriter(path, NETWORK) as writer:
        writer.put(document("c"), sequence(4, seed=7))
        writer.remove("a")
        writer.commit()
        writer.put(document("staged"), sequence(30, seed=8))  # of no generation yet
        writer.flush()
        backup(path, target)
    assert contents(target).keys() == {"b", "c"}
    assert b"staged" not in (target / "sequences.lmdb").read_bytes()
    with Collection.open(target) as copied, Collection.open(path) as original:
        query = sequence(4, seed=7).embeddings
        for one, other in zip(copied.index("score").search(query, 3), original.index("score").search(query, 3)):  # noqa: B905
            np.testing.assert_array_equal(one, other)


def test_a_backup_while_a_writer_commits_is_one_generation(path: Path, target: Path) -> None:
    """Documents come in pairs of a commit, so that no generation has one of a pair alone."""
    ready, stop = threading.Event(), threading.Event()

    def add() -> None:
        with CollectionWriter(path, NETWORK) as writer:
            for number in range(1000):
                for half in "xy":
                    writer.put(document(f"{half}{number}"), sequence(50, seed=number))
                if number:
                    writer.remove(f"x{number - 1}")
                    writer.remove(f"y{number - 1}")
                writer.build() if number % 5 == 0 else writer.commit()
                ready.set()
                if stop.is_set():
                    return

    adding = threading.Thread(target=add)
    adding.start()
    try:
        ready.wait(30)
        found = set()
        for number in range(5):
            manifest = backup(path, target.with_name(str(number)))
            held = contents(target.with_name(str(number))).keys() - {"a", "b"}
            assert len(held) == 2
            assert {id[1:] for id in held} == {str(manifest.generation - 2)}
            found.add(manifest.generation)
    finally:
        stop.set()
        adding.join()
    assert len(found) > 1, "the writer committed meanwhile"


def test_a_backup_copies_index_files_that_a_writer_has_deleted_meanwhile(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = reader.Collection.copy

    def late(collection: Collection, folder: Path) -> None:
        with CollectionWriter(path, NETWORK) as writer:
            writer.remove("a")
            writer.build()
        assert not (path / "scores-000001.faiss").exists()
        copy(collection, folder)

    monkeypatch.setattr(reader.Collection, "copy", late)
    backup(path, target)
    assert contents(target).keys() == {"a", "b"}


@pytest.mark.parametrize("made", ["file", "folder"])
def test_what_is_there_is_not_overwritten(path: Path, target: Path, made: str) -> None:
    if made == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine").touch()
    with pytest.raises(CollectionError, match="expected a new or an empty folder"):
        backup(path, target)
    assert target.is_file() or [file.name for file in target.iterdir()] == ["mine"]
    assert [file.name for file in target.parent.iterdir()] == ["b"]


@pytest.mark.parametrize("place", ["backup", "deeper/backup"])
def test_a_backup_does_not_lie_in_what_it_saves(path: Path, place: str) -> None:
    (path / "deeper").mkdir()
    with pytest.raises(CollectionError, match="expected a folder outside"):
        backup(path, path / place)
    assert not (path / place).exists()


def test_of_two_backups_to_one_target_at_once_one_is_made(path: Path, target: Path) -> None:
    def tried() -> int | str:
        try:
            return backup(path, target).generation
        except CollectionError as exc:
            return exc.cause

    with ThreadPoolExecutor(4) as pool:
        results = [one.result() for one in [pool.submit(tried) for _ in range(4)]]
    assert sorted(map(str, results)) == [
        "1",
        *["expected a new or an empty folder for the backup; it holds something"] * 3,
    ]
    assert contents(target) == contents(path)


def test_an_empty_folder_is_filled(path: Path, target: Path) -> None:
    target.mkdir()
    backup(path, target)
    assert contents(target) == contents(path)


def test_a_place_that_cannot_be_written_to_and_one_without_a_collection_are_told(path: Path, target: Path) -> None:
    with pytest.raises(CollectionError, match=r"b: the backup cannot be written: .*No such file or directory"):
        backup(path, target / "c" / "b")
    with pytest.raises(CollectionMissingError):
        backup(path.parent / "nothing", target)
    assert not list(target.parent.iterdir())


def test_a_damaged_collection_gives_no_backup(path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a large one, which is not verified when it is opened."""
    monkeypatch.setattr(reader, "MAX_VERIFIED_BYTES", 0)
    for name in ("scores-000001.faiss", "sequences.lmdb"):
        whole = (path / name).read_bytes()
        place = whole.index(sequence(5).embeddings.astype("<f2").tobytes()[:32]) if "lmdb" in name else len(whole) - 9
        (path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CollectionDamagedError, match="does not match its checksum"):
            backup(path, target)
        assert not list(target.parent.iterdir())
        (path / name).write_bytes(whole)


def test_the_steps_of_a_backup_are_made_in_this_order(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = disk_log(monkeypatch)
    backup(path, target)
    assert log == STEPS


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_a_full_disk_at_any_step_is_told_and_leaves_nothing(
    path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        disk_log(patch, full(number))
        with pytest.raises(CollectionError, match="No space left on device"):
            backup(path, target)
    if number <= THERE:
        assert not list(target.parent.iterdir())
        backup(path, target)
    assert contents(target) == contents(path)


@pytest.mark.parametrize("limit", [1, 20_000, 100_000])
def test_a_write_that_the_system_cuts_short_is_told_with_the_free_space(path: Path, target: Path, limit: int) -> None:
    """LMDB calls this an input/output error, on a full disk too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill(path, "large", n=2000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(CollectionError, match=r"sequences\.lmdb cannot be written: .*; [\d,]+ bytes are free"):
            backup(path, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(target.parent.iterdir())


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import pytest
from disk_log import disk_log
from engine.collection import backup

for number in range(int(sys.argv[5])):
    child = os.fork()
    if child:
        print(os.waitpid(child, 0)[1], flush=True)
        continue

    def die(at, step):
        if at == number:
            os.kill(os.getpid(), signal.SIGKILL)

    target = Path(sys.argv[4]) / str(number) / "backups" / "b"
    target.parent.mkdir(parents=True)
    disk_log(pytest.MonkeyPatch(), die)
    backup(sys.argv[3], target)
    os._exit(0)
"""


def test_a_process_killed_at_any_step_leaves_no_half_backup(path: Path, tmp_path: Path) -> None:
    arguments = [str(ROOT), str(ROOT / "tests"), str(path), str(tmp_path / "killed"), str(len(STEPS))]
    ended = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=True, capture_output=True, text=True)
    assert ended.stdout.split() == ["9"] * len(STEPS)
    for number in range(len(STEPS)):
        target = tmp_path / "killed" / str(number) / "backups" / "b"
        assert target.exists() == (number > THERE), f"killed before {STEPS[number]}"
        if not target.exists():
            backup(path, target)
        assert contents(target) == contents(path)
        assert [file.name for file in target.parent.iterdir()] == ["b"]
