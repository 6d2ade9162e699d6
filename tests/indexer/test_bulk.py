"""A bulk run that is killed, at any point, and taken up again ends as one that was not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.collection import Collection, backup
from engine.collection.store import Store
from fake_encoder import FakeEncoder
from indexer.ingest import add
from indexer.sources import discover
from media import write_page, write_recording

ROOT = Path(__file__).parents[2]
FILES = 12

CHILD = """
import sys, time
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from fake_encoder import FakeEncoder
from indexer.ingest import add
from indexer.sources import discover

class SlowEncoder(FakeEncoder):
    def score(self, snippets):
        time.sleep(0.4)  # so that a batch, which is written each second, holds three documents
        return super().score(snippets)

if __name__ == "__main__":
    add(Path(sys.argv[1]), discover([Path(sys.argv[2])]).sources, SlowEncoder, jobs=1)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    for number in range(FILES - 2):
        write_page(folder / f"page{number}.png", seed=number)
    write_recording(folder / "take.flac", seed=1)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    return folder


def contents(path: Path) -> dict[str, tuple[object, ...]]:
    """Everything that is kept of each document, but its number."""
    with Collection.open(path) as collection:
        collection.check()
        found = {}
        for document in collection.documents:
            sequence = collection.sequence(document.id)
            arrays = sequence.embeddings, sequence.places, sequence.bias
            found[document.id] = (document, *(array.tobytes() for array in arrays))
    return found


def stored(path: Path) -> list[int]:
    """The numbers of the documents on disk, in a generation or not."""
    if not (path / "manifest.json").exists():
        return []
    store = Store.acquire(path / "sequences.lmdb")
    try:
        with store.reading() as txn:
            return txn.all_numbers()
    finally:
        store.release()


@pytest.fixture(scope="module")
def uninterrupted(library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    path = tmp_path_factory.mktemp("whole") / "c"
    assert list(add(path, discover([library]).sources, FakeEncoder).failed) == [library / "broken.pdf"]
    return contents(path)


@pytest.mark.parametrize("least", [0, 3, 7])
def test_a_killed_run_that_is_taken_up_again_ends_as_if_nothing_had_happened(
    library: Path, tmp_path: Path, uninterrupted: dict[str, tuple[object, ...]], least: int
) -> None:
    path, script = tmp_path / "c", tmp_path / "run.py"
    script.write_text(CHILD)
    command = [sys.executable, str(script), str(path), str(library), str(ROOT), str(ROOT / "tests")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not path.exists() or len(stored(path)) < least:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert least <= len(stored(path)) < FILES - 1
    summary = add(path, discover([library]).sources, FakeEncoder)
    assert (len(summary.added), summary.unchanged) == (FILES - 1, [])
    assert contents(path) == uninterrupted
    assert stored(path) == list(range(FILES - 1))  # nothing was embedded again, which would give a new number


def test_backups_during_a_bulk_run_have_the_generation_before_or_after_it(
    library: Path, tmp_path: Path, uninterrupted: dict[str, tuple[object, ...]]
) -> None:
    """The documents that the run has staged are of no generation yet."""
    path, script = tmp_path / "c", tmp_path / "run.py"
    script.write_text(CHILD)
    add(path, discover([library / "page0.png"]).sources, FakeEncoder)
    before, staged, found = contents(path), set(), []
    command = [sys.executable, str(script), str(path), str(library), str(ROOT), str(ROOT / "tests")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            staged.add(len(stored(path)))
            backup(path, tmp_path / f"backup{len(found)}")
            found.append(contents(tmp_path / f"backup{len(found)}"))
            time.sleep(0.1)
    assert len(staged) > 2, "documents were staged between the backups"
    assert all(one in (before, uninterrupted) for one in found)
    assert found.count(before) > 2
    backup(path, tmp_path / "last")
    assert contents(tmp_path / "last") == contents(path) == uninterrupted
