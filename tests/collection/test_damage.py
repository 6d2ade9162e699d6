"""A damaged collection is refused by name, whatever was done to which file of it."""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collection_samples import NETWORK, document, fill, sequence
from engine.collection import Collection, CollectionWriter, manifest, reader
from engine.errors import CollectionDamagedError, CollectionVersionError

FILES = ["manifest.json", "sequences.lmdb", "scores-000001.faiss"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path, "a", "b", "c", n=200)
    return tmp_path


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << position % 8
    file.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("opening", [Collection.open, lambda path: CollectionWriter(path, NETWORK)])
def test_a_deleted_file_is_told(path: Path, name: str, opening: Callable[[Path], object]) -> None:
    (path / name).unlink()
    with pytest.raises(CollectionDamagedError, match=name):
        opening(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_told(path: Path, name: str, keep: float) -> None:
    os.truncate(path / name, int((path / name).stat().st_size * keep))
    with pytest.raises(CollectionDamagedError, match=name):
        Collection.open(path)


@pytest.mark.parametrize("name", ["manifest.json", "scores-000001.faiss"])
def test_a_flipped_bit_is_told_wherever_it_is(path: Path, name: str) -> None:
    whole = (path / name).read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 100):
        flip(path / name, int(position))
        with pytest.raises((CollectionDamagedError, CollectionVersionError), match=r"checksum|parse|version|format"):
            Collection.open(path)
        (path / name).write_bytes(whole)


def test_a_flipped_bit_of_the_store_is_told_or_changes_nothing(path: Path) -> None:
    with Collection.open(path) as collection:
        truth = [(document, collection.sequence(document.id).embeddings) for document in collection.documents]
    whole = (path / "sequences.lmdb").read_bytes()
    told = 0
    for position in np.random.default_rng(0).integers(0, len(whole), 150):
        flip(path / "sequences.lmdb", int(position))
        try:
            with Collection.open(path) as collection:
                for document, embeddings in truth:
                    assert collection.document(document.id) == document
                    np.testing.assert_array_equal(collection.sequence(document.id).embeddings, embeddings)
        except CollectionDamagedError:
            told += 1
        (path / "sequences.lmdb").write_bytes(whole)
    assert told > 50


def test_a_store_cut_short_after_the_commit_is_told_too(path: Path) -> None:
    size = (path / "sequences.lmdb").stat().st_size
    with CollectionWriter(path, NETWORK) as writer:
        writer.put(document("late"), sequence(2000))
    os.truncate(path / "sequences.lmdb", size)
    with pytest.raises(CollectionDamagedError, match=r"sequences\.lmdb"):
        Collection.open(path)


def test_a_store_of_another_collection_is_told(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    fill(other, "x", "y", "z", n=300)
    (path / "sequences.lmdb").write_bytes((other / "sequences.lmdb").read_bytes())
    with pytest.raises(CollectionDamagedError, match="does not hold generation 1"):
        Collection.open(path)


def test_a_writer_does_not_start_anew_where_the_manifest_was_lost(path: Path) -> None:
    (path / "manifest.json").unlink()
    with pytest.raises(CollectionDamagedError, match=r"manifest\.json is missing"):
        CollectionWriter(path, NETWORK)


def test_a_newer_format_is_told_from_damage(path: Path) -> None:
    content = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({"format": content["format"], "version": 5, "other": "things"}))
    with pytest.raises(CollectionVersionError, match="format version 5, this program reads up to 4"):
        Collection.open(path)


@pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"format": "x", "version": 1}', "\0", "[" * 100_000])
def test_a_manifest_that_is_none_is_told(path: Path, content: str) -> None:
    (path / "manifest.json").write_text(content)
    with pytest.raises(CollectionDamagedError, match=r"manifest\.json"):
        Collection.open(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_folder_in_the_place_of_the_manifest_is_told_and_not_waited_for(
    path: Path, make: Callable[[Path], None]
) -> None:
    (path / "manifest.json").unlink()
    make(path / "manifest.json")
    with pytest.raises(CollectionDamagedError, match=r"manifest\.json is not a file"):
        Collection.open(path)


def test_a_manifest_with_a_field_missing_is_told(path: Path) -> None:
    content = json.loads((path / "manifest.json").read_text())
    del content["checksum"], content["kinds"]["recording"]
    (path / "manifest.json").write_text(json.dumps(content | {"checksum": manifest._checksum(content)}))
    with pytest.raises(CollectionDamagedError, match="missing or wrong field"):
        Collection.open(path)


def test_a_large_collection_is_verified_by_check_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_VERIFIED_BYTES", 0)
    file = path / "scores-000001.faiss"
    flip(file, file.stat().st_size - 1)
    with Collection.open(path) as collection, pytest.raises(CollectionDamagedError, match=r"scores-000001\.faiss"):
        collection.check()


def test_a_large_index_that_cannot_be_read_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_VERIFIED_BYTES", 0)
    flip(path / "scores-000001.faiss", 0)
    with (
        Collection.open(path) as collection,
        pytest.raises(CollectionDamagedError, match="FAISS cannot read the index"),
    ):
        collection.index("score")


def test_an_index_with_other_snippets_is_told(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    fill(other, "x", n=7)
    strange = (other / "scores-000001.faiss").read_bytes()
    (path / "scores-000001.faiss").write_bytes(strange)
    found = manifest.Manifest.read(path)
    theirs = manifest.Manifest.read(other).kinds["score"].index
    replace(found, kinds=found.kinds | {"score": replace(found.kinds["score"], index=theirs)}).write(path)
    with (
        Collection.open(path) as collection,
        pytest.raises(CollectionDamagedError, match="expected 600 snippets, got 7"),
    ):
        collection.check()


def test_a_leftover_that_was_damaged_is_not_taken_in(path: Path) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        writer.put(document("late", content_hash="x"), sequence(200, seed=7))
    file = path / "sequences.lmdb"
    needle = struct.pack("<32e", *sequence(200, seed=7).embeddings[100])
    flip(file, file.read_bytes().index(needle))
    with CollectionWriter(path, NETWORK) as writer:
        assert writer.needs_embedding(document("late", content_hash="x"))
        writer.commit()
    with Collection.open(path) as collection:
        assert len(collection.documents) == 3
