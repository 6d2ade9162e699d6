"""What was removed is gone from the files of a collection after `build`, byte by byte."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collection_samples import NETWORK, document, fill, sequence
from engine.collection import Collection, CollectionWriter
from engine.collection.store import Entry, Store, Transaction
from engine.errors import CollectionDamagedError, CollectionError
from engine.values import Document

SIZES = (1, 2, 5, 20, 60, 300)
"""Snippets of a document: LMDB keeps small values in shared pages, and large ones in pages of their own."""


def secret(number: int, content_hash: str = "f") -> Document:
    """A document whose every name says that it is secret."""
    made = document(f"secret-id-{number}", content_hash=f"secret-hash-{content_hash}-{number}")
    return replace(made, title="Secret Title", composer="Secret Composer", source=f"/secret/path/{number}.pdf")


def everything(path: Path) -> bytes:
    """All names and bytes in the folder."""
    return b"\0".join(file.name.encode() + b"\0" + file.read_bytes() for file in sorted(path.rglob("*")))


def traces(path: Path) -> list[str]:
    """What of the secret documents can be read in the folder."""
    found = everything(path)
    words = [word for word in (b"secret", b"Secret") if word in found]
    rows = [seed for seed in range(2 * len(SIZES)) if any(row in found for row in rows_of(seed))]
    return [*(word.decode() for word in words), *(f"embeddings {seed}" for seed in rows)]


def rows_of(seed: int) -> list[bytes]:
    """The first and the last embedding of a secret document, as they are stored."""
    rows = secrets_of(seed).embeddings.astype("<f2")
    return [rows[0].tobytes(), rows[-1].tobytes()]


def secrets_of(seed: int):  # type: ignore[no-untyped-def]
    return sequence(SIZES[seed % len(SIZES)], seed=1000 + seed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Secret documents among others, of several commits."""
    with CollectionWriter(tmp_path / "c", NETWORK) as writer:
        for number, size in enumerate(SIZES):
            writer.put(document(f"a{number}"), sequence(size, seed=number))
            writer.put(secret(number), secrets_of(number))
            writer.put(document(f"b{number}"), sequence(size, seed=100 + number))
            writer.commit()
    return tmp_path / "c"


def test_what_is_removed_is_gone_from_every_file_after_a_build(path: Path) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        for number in range(len(SIZES)):
            writer.put(secret(number, "changed"), secrets_of(len(SIZES) + number))  # its first content has to go too
        writer.commit()
        for number in range(len(SIZES)):
            writer.remove(f"secret-id-{number}")
        writer.commit()
        assert traces(path), "the documents could have been found"
        writer.build()
    assert traces(path) == []
    with Collection.open(path, NETWORK) as collection:
        collection.check()
        assert collection.count == 2 * len(SIZES)
        for number, size in enumerate(SIZES):
            kept = collection.sequence(f"a{number}").embeddings
            np.testing.assert_array_equal(kept, sequence(size, seed=number).embeddings.astype(np.float16))


def test_what_is_removed_by_the_build_itself_is_gone_too(path: Path) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        for number in range(len(SIZES)):
            writer.remove(f"secret-id-{number}")
        writer.build()
        assert traces(path) == []
        writer.put(document("new"), sequence(3))
        writer.commit()
    with Collection.open(path, NETWORK) as collection:
        collection.check()
        assert collection.count == 2 * len(SIZES) + 1


def test_a_document_that_a_killed_writer_staged_is_gone_after_its_removal_and_survives_without(path: Path) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        for number in range(len(SIZES)):
            writer.remove(f"secret-id-{number}")
        writer.commit()
        writer.put(secret(0, "staged"), secrets_of(0))
        writer.put(document("staged"), sequence(4))
    with CollectionWriter(path, NETWORK) as writer:
        writer.remove("secret-id-0")
        writer.build()
        assert traces(path) == []
        assert not writer.needs_embedding(document("staged"))
        writer.put(document("staged"), None)
        writer.commit()
    with Collection.open(path) as collection:
        assert len(collection.sequence("staged")) == 4


def test_a_build_takes_back_the_space_of_what_was_removed(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", n=5000)
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.remove("b")
        writer.commit()
        before = (tmp_path / "sequences.lmdb").stat().st_size
        writer.build()
    assert (tmp_path / "sequences-000003.lmdb").stat().st_size < 0.7 * before


def test_readers_keep_their_generation_during_a_build_and_later_ones_see_the_new_one(path: Path) -> None:
    with Collection.open(path) as before:
        with CollectionWriter(path, NETWORK) as writer:
            writer.remove("secret-id-5")
            writer.build()
            with Collection.open(path) as after:  # while the writer is open too
                assert "secret-id-5" not in after.ids("score")
                assert after.generation == before.generation + 1
        assert "secret-id-5" in before.ids("score")
        np.testing.assert_array_equal(
            before.sequence("secret-id-5").embeddings, secrets_of(5).embeddings.astype(np.float16)
        )
        before.check()


def test_numbers_of_removed_documents_are_not_given_again_after_a_build(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.remove("b")
        writer.build()
    fill(tmp_path, "c")
    with Collection.open(tmp_path) as collection:
        assert [entry.number for entry in collection.entries] == [0, 2]


def test_a_damaged_document_is_not_copied_into_a_new_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with CollectionWriter(path, NETWORK) as writer:

        def damaged(txn: Transaction, entry: Entry) -> None:
            raise CollectionDamagedError(path, "does not match its checksum")

        with monkeypatch.context() as patch:
            patch.setattr(Transaction, "verify", damaged)
            with pytest.raises(CollectionDamagedError):
                writer.build()
        assert [file.name for file in path.glob("*.lmdb")] == ["sequences.lmdb"]
        assert writer.build() == len(SIZES) + 2


def test_a_large_copy_is_written_in_several_transactions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.collection.store.COPY_BATCH_BYTES", 1000)
    with CollectionWriter(path, NETWORK) as writer:
        writer.build()
    with Collection.open(path) as collection:
        collection.check()
        assert collection.count == 3 * len(SIZES)


def test_a_lost_manifest_is_told_beside_a_file_of_a_later_name_too(path: Path) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        writer.build()
    (path / "manifest.json").unlink()
    with pytest.raises(CollectionDamagedError, match=r"manifest\.json is missing beside sequences-000007\.lmdb"):
        CollectionWriter(path, NETWORK)
    assert not (path / "sequences.lmdb").exists()


def test_files_that_no_writer_made_stay(path: Path) -> None:
    for name in ("sequences-old.lmdb", "sequences.lmdb.bak", "other.lmdb"):
        (path / name).write_bytes(b"mine")
    (path / "sequences-000099.lmdb").write_bytes(b"of a killed writer")
    (path / "sequences-000099.lmdb-lock").write_bytes(b"of a killed writer")
    with CollectionWriter(path, NETWORK) as writer:
        writer.build()
    assert sorted(file.name for file in path.glob("*.lmdb*")) == [
        "other.lmdb",
        "sequences-000007.lmdb",
        "sequences-000007.lmdb-lock",
        "sequences-old.lmdb",
        "sequences.lmdb.bak",
    ]


def test_a_full_disk_while_the_file_is_written_anew_leaves_none_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise CollectionError(path, "sequences-000007.lmdb cannot be written: No space left on device")

    with CollectionWriter(path, NETWORK) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "copy", full)
            with pytest.raises(CollectionError, match="No space left"):
                writer.build()
        assert [file.name for file in path.glob("*.lmdb")] == ["sequences.lmdb"]
        writer.remove("a0")
        writer.commit()
