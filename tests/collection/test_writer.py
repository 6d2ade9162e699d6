"""Adding, removing, resuming, and dying at any moment of it."""

import os
import signal
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collection_samples import NETWORK, document, fill, sequence
from disk_log import disk_log, full
from engine.collection import Collection, CollectionWriter, reader, store, writer
from engine.errors import (
    CollectionError,
    CollectionLockedError,
    DocumentExistsError,
    DocumentMissingError,
    NetworkMismatchError,
)
from engine.neighbours import nearest

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Stands for the death of the process."""


def ids(path: Path) -> list[str]:
    """Ids of the documents of the current generation, after a check of everything."""
    with Collection.open(path, NETWORK) as collection:
        collection.check()
        return [document.id for document in collection.documents]


def stored(path: Path) -> int:
    """How many documents the store holds, those of no generation included."""
    shared = store.Store.acquire(path / "sequences.lmdb")
    with shared.reading() as txn:
        count = len(txn.all_numbers())
    shared.release()
    return count


def test_a_new_collection_is_empty(tmp_path: Path) -> None:
    CollectionWriter(tmp_path / "new" / "one", NETWORK).close()
    assert ids(tmp_path / "new" / "one") == []


def test_what_is_staged_is_not_seen_before_the_commit(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("a"), sequence())
        assert ids(tmp_path) == []
        writer.commit()
        assert ids(tmp_path) == ["a"]


def test_a_document_added_again_gives_way_to_the_new_one(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("a", content_hash="new"), sequence(3), replace=True)
        writer.commit()
    with Collection.open(tmp_path) as collection:
        assert collection.document("a").content_hash == "new"
        assert len(collection.sequence("a")) == 3
    assert ids(tmp_path) == ["b", "a"]
    assert stored(tmp_path) == 2


def test_a_document_may_come_back_as_another_kind(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    fill(tmp_path, "a", kind="recording")
    assert ids(tmp_path) == ["a"]
    assert [path.name for path in tmp_path.glob("*.faiss")] == ["recordings-000002.faiss"]


def test_a_removed_document_is_gone_from_the_disk_too(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.remove("a")
        writer.commit()
    assert ids(tmp_path) == ["b"]
    assert stored(tmp_path) == 1


def test_removing_what_is_not_there_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with CollectionWriter(tmp_path, NETWORK) as writer, pytest.raises(DocumentMissingError, match="no document 'b'"):
        writer.remove("b")


def test_a_document_is_removed_by_the_id_that_a_terminal_shows(tmp_path: Path) -> None:
    fill(tmp_path, "line\nbreak", "b")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.remove("line\\nbreak")
        with pytest.raises(DocumentMissingError, match=r"no document 'x\\ny' among the 2 there are"):
            writer.remove("x\ny")
        writer.commit()
    assert ids(tmp_path) == ["b"]


def test_ids_are_composed_and_found_however_they_are_composed(tmp_path: Path) -> None:
    nfd, nfc = (unicodedata.normalize(form, "étude") for form in ("NFD", "NFC"))
    fill(tmp_path, nfd)
    assert ids(tmp_path) == [nfc]
    with Collection.open(tmp_path) as collection:
        assert collection.document(nfd).id == nfc
    with CollectionWriter(tmp_path, NETWORK) as writer:
        assert writer.holds(nfd)
        assert not writer.needs_embedding(document(nfd))
        writer.remove(nfd)
        writer.commit()
    assert ids(tmp_path) == []


def test_an_older_collection_finds_the_ids_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nfd = unicodedata.normalize("NFD", "étude")
    with monkeypatch.context() as patch:
        patch.setattr("engine.names.normal", lambda name: name)
        fill(tmp_path, nfd)
    assert ids(tmp_path) == [nfd]
    with CollectionWriter(tmp_path, NETWORK) as writer:
        assert writer.document(nfd) is not None
        writer.remove(nfd)


def test_ids_are_listed_by_what_the_documents_were_made_from(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        for id, source in (("a", "/x/a.pdf"), ("b", "/x/b.pdf"), ("c", "/x/a.pdf")):
            writer.put(replace(document(id), source=source), sequence())
        writer.commit()
        assert writer.ids_by_source() == {("score", "/x/a.pdf"): ["a", "c"], ("score", "/x/b.pdf"): ["b"]}


def test_a_removal_that_is_not_committed_is_forgotten(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.remove("a")
    assert ids(tmp_path) == ["a"]


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.remove("a")
        writer.commit()
    fill(tmp_path, "b")
    shared = store.Store.acquire(tmp_path / "sequences.lmdb")
    with shared.reading() as txn:
        assert txn.all_numbers() == [1]
    shared.release()


def test_numbers_of_documents_that_a_full_disk_keeps_are_not_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("b"), sequence())
        writer.flush()
        with monkeypatch.context() as patch:
            disk_log(patch, full(0))
            writer.forget()
        assert (writer.next_number, stored(tmp_path)) == (2, 2)
        writer.put(document("c"), sequence(3))
        writer.commit()
    assert (ids(tmp_path), stored(tmp_path)) == (["a", "c"], 2)


def test_a_number_that_is_stored_already_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    shared = store.Store.acquire(tmp_path / "sequences.lmdb")
    with shared.reading() as source:
        again = source.entry(0)
        with pytest.raises(CollectionError, match="number 0 cannot be stored in documents"), shared.writing() as txn:
            txn.put(store.encode(0, document("c"), sequence(), {}))
        with pytest.raises(CollectionError, match="number 0 cannot be stored in documents"), shared.writing() as txn:
            txn.put_copy(source, again)
    shared.release()
    assert ids(tmp_path) == ["a", "b"]


def test_committing_nothing_makes_no_generation(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        assert writer.commit() == 1


def test_the_index_of_a_kind_that_did_not_change_stays(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    fill(tmp_path, "r", kind="recording")
    assert sorted(path.name for path in tmp_path.glob("*.faiss")) == [
        "recordings-000002.faiss",
        "scores-000001.faiss",
    ]


def test_an_index_is_extended_by_what_is_new_and_rid_of_what_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CollectionWriter(tmp_path, NETWORK) as first:
        for number in range(5):
            first.put(document(f"d{number}"), sequence(seed=number))
        first.commit()
    monkeypatch.setattr(writer, "build", None)  # what calls it fails
    with CollectionWriter(tmp_path, NETWORK) as second:
        second.remove("d1")
        second.put(document("d3", content_hash="g"), sequence(7, seed=13), replace=True)
        second.put(document("d5"), sequence(seed=5))
        second.commit()
    with Collection.open(tmp_path) as collection:
        assert [path.name for path in tmp_path.glob("*.faiss")] == ["scores-000002.faiss"]
        rows = collection.packed("score").embeddings.astype(np.float32)
        assert collection.ids("score") == ("d0", "d2", "d4", "d3", "d5")
        np.testing.assert_array_equal(nearest(collection.index("score"), rows, 1, threads=1)[1][:, 0], np.arange(27))


def test_an_index_stays_until_more_than_an_eighth_of_it_is_gone(tmp_path: Path) -> None:
    fill(tmp_path, *(f"d{number}" for number in range(8)))
    for removed, generation in (("d0", 1), ("d1", 3)):
        with CollectionWriter(tmp_path, NETWORK) as writer:
            writer.remove(removed)
            writer.commit()
        assert [path.name for path in tmp_path.glob("*.faiss")] == [f"scores-{generation:06d}.faiss"]


def test_a_damaged_index_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        reader, "MAX_VERIFIED_BYTES", 0
    )  # as in a large collection, which is not verified when it is opened
    fill(tmp_path, "a", "b")
    (path,) = tmp_path.glob("*.faiss")
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    fill(tmp_path, "c")
    assert "rebuilding scores-000001.faiss: it does not match its checksum" in caplog.text
    with Collection.open(tmp_path) as collection:
        collection.check()
        assert collection.index("score").ntotal == 15


def test_documents_that_a_killed_writer_staged_are_taken_in_by_the_next(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("a", content_hash="x"), sequence())
    with CollectionWriter(tmp_path, NETWORK) as writer:
        assert writer.needs_embedding(document("a", content_hash="y"))
        assert writer.put(document("a", content_hash="x"), None) == "added"
        writer.commit()
    assert ids(tmp_path) == ["a"]


def test_asking_whether_a_document_needs_embedding_changes_nothing(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("b"), sequence())
    with CollectionWriter(tmp_path, NETWORK) as writer:
        asked = [document("a"), document("b"), document("c"), document("a", content_hash="")]
        assert [writer.needs_embedding(one, replace=True) for one in asked] == [False, False, True, True]
        assert [writer.holds(id) for id in "abc"] == [True, False, False]
        assert writer.commit() == 1
    assert (ids(tmp_path), stored(tmp_path)) == (["a"], 2)


def test_a_document_whose_content_is_not_stored_needs_its_snippets(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer, pytest.raises(ValueError, match="a: expected the snippets"):
        writer.put(document("a"), None)


def test_a_document_that_was_put_a_moment_ago_is_judged_like_one_in_force(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        assert writer.put(document("a"), sequence()) == "added"
        assert writer.put(document("a"), None) == "unchanged"
        assert writer.put(replace(document("a"), title="Another"), None) == "changed"
        with pytest.raises(DocumentExistsError, match=r"the score made from \(no file\); the score"):
            writer.put(document("a", content_hash="g"), sequence())
        assert writer.commit() == 1
    with Collection.open(tmp_path) as collection:
        assert (collection.document("a").title, stored(tmp_path)) == ("Another", 1)


def test_a_document_left_over_comes_after_what_was_committed_before_it(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("a"), sequence(7))
        writer.put(document("b"), sequence())
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("a"), None)
        writer.commit()
        writer.put(document("b"), None)
        writer.commit()
        writer.put(document("a"), None)
        writer.commit()
    with Collection.open(tmp_path) as collection:
        collection.check()
        assert [(entry.number, entry.id, entry.snippets) for entry in collection.entries] == [(0, "a", 7), (2, "b", 5)]


def test_documents_left_over_survive_commits_that_do_not_ask_for_them(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("a", content_hash="x"), sequence())
    fill(tmp_path, "b")
    assert ids(tmp_path) == ["b"]
    with CollectionWriter(tmp_path, NETWORK) as writer:
        assert writer.put(document("a", content_hash="x"), None) == "added"
        writer.commit()
    assert ids(tmp_path) == ["b", "a"]


def test_a_document_left_over_can_be_removed(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("a"), sequence())
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.remove("a")
        writer.commit()
    assert stored(tmp_path) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": np.zeros((5, 32))}, "finite float32"),
        ({"embeddings": np.full((5, 32), np.nan, dtype=np.float32)}, "finite float32"),
        ({"embeddings": np.zeros((0, 32), dtype=np.float32)}, "at least one snippet"),
        ({"places": sequence(5, "recording").places}, "places must be"),
        ({"bias": np.zeros(4, dtype=np.float32)}, "bias must be"),
    ],
)
def test_a_sequence_that_is_none_is_refused(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer, pytest.raises(ValueError, match=message):
        writer.put(document("a"), replace(sequence(), **change))


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        CollectionWriter(tmp_path, NETWORK),
        pytest.raises(CollectionLockedError, match=f"process {os.getpid()} is writing"),
    ):
        CollectionWriter(tmp_path, NETWORK)


def test_a_writer_with_another_network_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with pytest.raises(NetworkMismatchError, match="name small; in use: name large"):
        CollectionWriter(tmp_path, replace(NETWORK, name="large"))
    fill(tmp_path, "b")


def test_a_file_where_the_collection_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CollectionError, match="expected a directory"):
        CollectionWriter(tmp_path / "file", NETWORK)


def test_a_full_disk_leaves_the_old_generation_and_the_writer_usable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a")
    with CollectionWriter(tmp_path, NETWORK) as open_writer:
        open_writer.put(document("b"), sequence())
        with monkeypatch.context() as patch:
            patch.setattr(writer, "save", lambda index, path: (_ for _ in ()).throw(OSError("disk full")))
            with pytest.raises(CollectionError, match="disk full"):
                open_writer.commit()
        assert ids(tmp_path) == ["a"]
        open_writer.commit()
    assert ids(tmp_path) == ["a", "b"]


STEPS = ["put_generation", "save", "fsync", "replace", "after replace", "delete_generation", "unlink"]


def kill_at(step: str, patch: pytest.MonkeyPatch) -> None:
    """Has the process die when it gets to `step` of a commit."""

    def die(*args: object, **more: object) -> None:
        raise Killed

    def replace_and_die(source: Path, target: Path) -> None:
        source.rename(target)
        raise Killed

    match step:
        case "put_generation" | "delete_generation":
            patch.setattr(store.Transaction, step, die)
        case "save":
            patch.setattr(writer, "save", die)
        case "fsync" | "replace":
            patch.setattr(os, step, die)
        case "after replace":
            patch.setattr(os, "replace", replace_and_die)
        case "unlink":
            patch.setattr(Path, "unlink", die)


@pytest.mark.parametrize("step", STEPS)
def test_dying_at_any_step_of_a_commit_leaves_the_old_or_the_new_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fill(tmp_path, "a", "b")
    with CollectionWriter(tmp_path, NETWORK) as writer, monkeypatch.context() as patch:
        writer.put(document("c"), sequence())
        writer.remove("a")
        kill_at(step, patch)
        with pytest.raises(Killed):
            writer.commit()
    in_force = STEPS.index(step) > STEPS.index("replace")
    assert ids(tmp_path) == (["b", "c"] if in_force else ["a", "b"])

    with CollectionWriter(tmp_path, NETWORK) as writer:
        assert writer.put(document("c"), None) == ("unchanged" if in_force else "added")
        if not in_force:
            writer.remove("a")
        writer.commit()
    assert ids(tmp_path) == ["b", "c"]
    assert (stored(tmp_path), len(list(tmp_path.glob("*.faiss")))) == (2, 1)


def test_dying_while_the_collection_is_made_lets_the_next_writer_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in ("put_generation", "fsync", "replace"):
        with monkeypatch.context() as patch:
            kill_at(step, patch)
            with pytest.raises(Killed):
                CollectionWriter(tmp_path / step, NETWORK)
        fill(tmp_path / step, "a")
        assert ids(tmp_path / step) == ["a"]


CHILD = """
import sys
sys.path[:0] = sys.argv[2:]
from collection_samples import NETWORK, document, sequence
from engine.collection import CollectionWriter
with CollectionWriter(sys.argv[1], NETWORK) as writer:
    for number in range(100_000):
        writer.put(document(f"d{number}"), sequence(50))
        writer.flush()
        print("staged", number, flush=True)
        if number % 3 == 2:
            writer.commit()
            print("committed", number, flush=True)
"""


@pytest.mark.parametrize("lines", [2, 9, 30])
def test_a_killed_process_loses_nothing_it_said_was_written(tmp_path: Path, lines: int) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(ROOT), str(ROOT / "tests")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().split() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
    committed = max((int(number) for what, number in said if what == "committed"), default=-1)
    staged = max(int(number) for what, number in said if what == "staged")
    assert len(ids(tmp_path)) >= committed + 1
    with CollectionWriter(tmp_path, NETWORK) as writer:
        for number in range(staged + 1):
            writer.put(document(f"d{number}"), None)
        writer.commit()
    assert len(ids(tmp_path)) >= staged + 1
