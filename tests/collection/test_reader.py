"""What a reader finds in a collection, and that it keeps finding it."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collection_samples import NETWORK, document, fill, sequence
from engine.collection import Collection, CollectionWriter, reader, writer
from engine.collection.manifest import Manifest
from engine.collection.store import encode
from engine.config import FrontEnd
from engine.errors import CollectionDamagedError, CollectionMissingError, DocumentMissingError, NetworkMismatchError
from engine.neighbours import nearest


def test_a_document_comes_back_as_it_was_put(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with Collection.open(tmp_path, NETWORK) as collection:
        assert collection.document("a") == replace(document("a"), snippets=5)
        assert collection.documents == (collection.document("a"),)


def test_a_system_comes_back_with_the_turn_of_its_page(tmp_path: Path) -> None:
    turned = tuple(replace(system, turn=270) for system in document("a").systems)
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(replace(document("a"), systems=turned), sequence())
        writer.commit()
    with Collection.open(tmp_path) as collection:
        assert collection.document("a").systems == turned


def test_numpy_scalars_in_a_document_come_back_as_numbers(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(replace(document("a"), duration_s=np.float32(0.5), pages=np.int64(3)), sequence())
        writer.commit()
    with Collection.open(tmp_path) as collection:
        assert (collection.document("a").duration_s, collection.document("a").pages) == (0.5, 3)


@pytest.mark.parametrize("kind", ["score", "recording"])
def test_a_sequence_comes_back_with_embeddings_rounded_to_float16(tmp_path: Path, kind: str) -> None:
    fill(tmp_path, "a", kind=kind)
    put = sequence(5, kind)
    with Collection.open(tmp_path) as collection:
        found = collection.sequence("a")
    assert found.embeddings.dtype == np.float32
    np.testing.assert_array_equal(found.embeddings, put.embeddings.astype(np.float16))
    np.testing.assert_array_equal(found.places, put.places)
    np.testing.assert_array_equal(found.bias, put.bias)


def test_documents_of_a_kind_are_packed_in_the_order_they_were_added(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("z"), sequence(3, seed=1))
        writer.put(document("r", "recording"), sequence(4, "recording", seed=2))
        writer.put(document("a"), sequence(2, seed=3))
        writer.commit()
    with Collection.open(tmp_path) as collection:
        packed = collection.packed("score")
        assert [document.id for document in collection.of_kind("score")] == ["z", "a"]
        assert packed.offsets.tolist() == [0, 3, 5]
        assert packed.embeddings.dtype == np.float16
        np.testing.assert_array_equal(packed.embeddings[3:], collection.sequence("a").embeddings)
        np.testing.assert_array_equal(packed.bias[:3], collection.sequence("z").bias)


def test_row_i_of_the_index_is_snippet_i_of_the_packed_documents(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as open_writer:
        for seed, id in enumerate("ab"):
            open_writer.put(document(id), sequence(7, seed=seed))
        open_writer.commit()
    with Collection.open(tmp_path) as collection:
        packed = collection.packed("score")
        rows = nearest(collection.index("score"), packed.embeddings.astype(np.float32), 1, threads=1)[1]
    assert rows.ravel().tolist() == list(range(14))


def test_what_an_older_index_lacks_is_found_and_what_it_has_too_much_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_ADDED_SNIPPETS", 30)
    with CollectionWriter(tmp_path, NETWORK) as open_writer:
        for number in range(20):
            open_writer.put(document(f"d{number}"), sequence(10, seed=number))
        open_writer.commit()
        open_writer.remove("d3")
        open_writer.put(document("d7", content_hash="new"), sequence(9, seed=77), replace=True)
        open_writer.put(document("e"), sequence(8, seed=88))
        assert open_writer.commit() == 2
    assert [path.name for path in tmp_path.glob("*.faiss")] == ["scores-000001.faiss"]
    with Collection.open(tmp_path) as collection:
        collection.check()
        packed, index = collection.packed("score"), collection.index("score")
        rows = nearest(index, packed.embeddings.astype(np.float32), 1, threads=1)[1]
        assert rows.ravel().tolist() == list(range(180 + 9 + 8))
        gone = sequence(10, seed=7).embeddings
        near = nearest(index, gone, 3, threads=1)[0]
        assert near[near > 0.999].size == 0
    fill(tmp_path, "f", n=20)
    assert [path.name for path in tmp_path.glob("*.faiss")] == ["scores-000003.faiss"]


def test_sequences_left_on_disk_are_those_packed(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "c", n=7)
    with Collection.open(tmp_path) as collection:
        chosen = np.array([2, 0])
        stored, packed = collection.stored("score").take(chosen), collection.packed("score").take(chosen)
    for one, other in zip(*((p.embeddings, p.bias, p.offsets) for p in (stored, packed)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_collection_of_the_first_format_is_read_and_written_on(tmp_path: Path) -> None:
    path = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "version1", path)
    with Collection.open(path, NETWORK) as collection:
        collection.check()
        assert [(one.id, one.kind) for one in collection.documents] == [
            ("a", "score"),
            ("c", "score"),
            ("r", "recording"),
        ]
        assert collection.document("c") == replace(document("c"), snippets=5)
        np.testing.assert_array_equal(
            collection.sequence("r").embeddings, sequence(6, "recording", seed=9).embeddings.astype(np.float16)
        )
        found = nearest(collection.index("score"), sequence(5, seed=2).embeddings, 1, threads=1)[1]
        assert found.ravel().tolist() == [5, 6, 7, 8, 9]
    fill(path, "d")
    with Collection.open(path) as collection:
        collection.check()
        assert (collection.ids("score"), collection.ids("recording")) == (("a", "c", "d"), ("r",))


def test_a_collection_of_the_second_format_is_read_and_documents_are_still_stored_as_in_it(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "version2", tmp_path / "old")
    with Collection.open(tmp_path / "old", NETWORK) as collection:
        collection.check()
        assert collection.document("a") == replace(document("a"), snippets=5)
        assert [(entry.id, entry.content_hash) for entry in collection.entries] == [("a", "f"), ("r", "g")]
    checksum = "ef0b33a0869d3cde07e841ffea738b83c76de98168cc1efe10f8ff65a9adf05e"
    assert encode(3, document("a"), sequence()).entry.checksum.hex() == checksum


def test_a_collection_of_the_third_format_names_the_file_that_a_build_wrote(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "version3", tmp_path / "old")
    with Collection.open(tmp_path / "old", NETWORK) as collection:
        assert collection.check().sizes == {"sequences-000002.lmdb": 57344}
        assert [(entry.number, entry.id) for entry in collection.entries] == [(0, "a"), (2, "r")]
    fill(tmp_path / "old", "d")
    with Collection.open(tmp_path / "old") as collection:
        collection.check()
        assert (collection.ids("score"), collection.ids("recording")) == (("a", "d"), ("r",))


def test_a_collection_of_the_fourth_format_keeps_pictures(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "version4", tmp_path / "old")
    with Collection.open(tmp_path / "old", NETWORK) as collection:
        collection.check()
        assert (collection.media("a", 1), collection.media("a", 2)) == (b"a picture", None)


@pytest.mark.parametrize("name", ["../other.lmdb", "/etc/passwd", "a/b.lmdb"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "c", "a")
    replace(Manifest.read(tmp_path / "c"), lmdb=name).write(tmp_path / "c")
    with pytest.raises(CollectionDamagedError, match="expected the name of a file in the collection"):
        Collection.open(tmp_path / "c")


def test_a_check_says_what_it_verified_and_what_no_generation_uses(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "version1", tmp_path / "old")
    with Collection.open(tmp_path / "old") as collection:
        checked = collection.check()
    assert list(checked.sizes) == ["sequences.lmdb"]
    assert checked.unused == ("recordings-000002.faiss", "scores-000002.faiss")


def test_a_check_in_the_background_lets_others_read_and_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two parts of the work, others take the lock, and load the index from the same open file."""
    monkeypatch.setattr("engine.neighbours.files.CHUNK_BYTES", 100)
    fill(tmp_path, "a", "b", n=50)
    reads: list[int] = []
    with Collection.open(tmp_path) as collection, ThreadPoolExecutor(1) as pool:

        def read() -> None:
            reads.append(len(pool.submit(collection.sequence, "a").result(10)))
            if len(reads) == 5:
                pool.submit(collection.index, "score").result(10)

        collection.check(read)
        assert len(reads) > 10
        index_file = next(tmp_path.glob("*.faiss"))
        index_file.write_bytes(index_file.read_bytes()[:-1] + b"?")
        with pytest.raises(CollectionDamagedError, match="does not match its checksum"):
            collection.check()
        with pytest.raises(KeyboardInterrupt):
            collection.check(between=_stop)


def _stop() -> None:
    raise KeyboardInterrupt


def test_a_kind_without_documents_has_an_empty_index(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with Collection.open(tmp_path) as collection:
        assert collection.index("recording").ntotal == 0
        assert len(collection.packed("recording")) == 0


def test_an_unknown_id_is_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with Collection.open(tmp_path) as collection, pytest.raises(DocumentMissingError, match="no document 'b'"):
        collection.document("b")


def test_a_document_is_found_by_the_id_that_a_terminal_shows(tmp_path: Path) -> None:
    fill(tmp_path, "line\nbreak", "b")
    with Collection.open(tmp_path) as collection:
        assert collection.document("line\\nbreak").id == "line\nbreak"


def test_a_place_without_a_collection_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CollectionMissingError, match="add documents"):
        Collection.open(tmp_path / "none")


def test_another_network_is_refused_naming_both(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with pytest.raises(NetworkMismatchError, match=r"made with hash abab.*in use: hash cdcd"):
        Collection.open(tmp_path, replace(NETWORK, hash="cd" * 32))


def test_another_front_end_is_refused_naming_what_differs(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    other = replace(NETWORK, front_end=FrontEnd(snippet_hop_px=25))
    with pytest.raises(NetworkMismatchError, match="made with snippet_hop_px 50; in use: snippet_hop_px 25"):
        Collection.open(tmp_path, other)


def test_a_reader_keeps_its_generation_while_newer_ones_are_committed(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")
    with Collection.open(tmp_path) as collection:
        with CollectionWriter(tmp_path, NETWORK) as writer:
            writer.remove("a")
            writer.commit()
        for id in ("c", "d", "e"):
            fill(tmp_path, id, n=9)
        assert len(list(tmp_path.glob("*.faiss"))) == 1
        assert [document.id for document in collection.documents] == ["a", "b"]
        assert collection.index("score").ntotal == len(collection.packed("score").embeddings) == 10
        collection.check()
    with Collection.open(tmp_path) as collection:
        assert [document.id for document in collection.documents] == ["b", "c", "d", "e"]


def test_readers_of_several_paths_to_one_collection_share_it(tmp_path: Path) -> None:
    fill(tmp_path / "real", "a")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with Collection.open(tmp_path / "real") as one:
        with Collection.open(tmp_path / "link") as other:
            assert other.document("a") == one.document("a")
        assert one.document("a").id == "a"


def test_a_collection_made_anew_at_the_same_path_is_another_one(tmp_path: Path) -> None:
    fill(tmp_path / "c", "a")
    with Collection.open(tmp_path / "c") as old:
        (tmp_path / "c").rename(tmp_path / "moved")
        fill(tmp_path / "c", "b")
        with Collection.open(tmp_path / "c") as new:
            assert ([d.id for d in old.documents], [d.id for d in new.documents]) == (["a"], ["b"])


def test_threads_read_one_collection_at_once(tmp_path: Path) -> None:
    ids = [f"d{i}" for i in range(20)]
    fill(tmp_path, *ids)
    failures: list[BaseException] = []
    with Collection.open(tmp_path) as collection:

        def read() -> None:
            try:
                for id in ids * 5:
                    assert len(collection.sequence(id)) == 5
                assert collection.index("score").ntotal == 100
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


@pytest.mark.parametrize("rows", [0, 1000], ids=["indexed", "no index"])
@pytest.mark.parametrize("build", [False, True])
def test_opening_follows_a_writer_that_commits_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, build: bool
) -> None:
    monkeypatch.setattr("engine.neighbours.cells.EXACT_ROWS", rows)
    fill(tmp_path, "a")
    read = reader.Manifest.read
    stale = read(tmp_path)
    fill(tmp_path, "b")
    if build:
        with CollectionWriter(tmp_path, NETWORK) as writing:
            writing.build()
    answers = [stale]
    monkeypatch.setattr(reader.Manifest, "read", lambda path: answers.pop() if answers else read(path))
    with Collection.open(tmp_path) as collection:
        assert [document.id for document in collection.documents] == ["a", "b"]
