"""Changes are durable, become one generation, and are served; what cannot be made is left out and told."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.audio import Recording, spectrogram
from engine.collection import Collection, CollectionWriter
from engine.embedding import documents
from engine.errors import CollectionLockedError
from engine.values import Document
from fake_encoder import FakeEncoder, engine_of
from server import changes
from server.changes import Addition
from server.errors import DocumentExists, DocumentMissing
from server.messages import Add, Remove
from server.sent import File, Media
from server.shelf import Shelf

ENCODER = FakeEncoder()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty collection."""
    with CollectionWriter(tmp_path / "c", ENCODER.identity):
        pass
    return tmp_path / "c"


@pytest.fixture
def shelf(path: Path) -> Iterator[Shelf]:
    shelf = Shelf(path, engine_of(ENCODER))
    yield shelf
    shelf.close()


def addition(id: str, seed: int = 0, **words: Any) -> Addition:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, 6 * 22050).astype(np.float32)
    medium = Recording(spectrogram=spectrogram(samples), start_s=0.0, duration_s=6.0)
    media = Media(kind="recording", files=(File(name=f"take {seed}.flac", data=bytes([seed])),))
    given = {"title": "", "composer": "", "work": "", "replace": False} | words
    return Addition(wanted=Add(id=id, media=media, **given), medium=medium)


def made(path: Path, shelf: Shelf, *wanted: changes.Change) -> list[Any]:
    return changes.make(path, list(wanted), ENCODER, shelf, threads=1)


def ids(shelf: Shelf) -> list[str]:
    with shelf.taken() as generation:
        return [document.id for document in generation.collection.documents]


def test_changes_made_together_are_one_generation_that_is_served(path: Path, shelf: Shelf) -> None:
    outcomes = made(path, shelf, addition("a"), addition("b", seed=1, title="B", composer="C"), Remove(ids=("a",)))
    assert outcomes == [
        {"document": "a", "status": "added", "snippets": 4, "generation": 1},
        {"document": "b", "status": "added", "snippets": 4, "generation": 1},
        {"removed": 1, "generation": 1},
    ]
    assert (shelf.generation, ids(shelf)) == (1, ["b"])
    with Collection.open(path, ENCODER.identity) as collection:
        collection.check()
        document = collection.document("b")
    assert (document.title, document.composer, document.source, document.duration_s) == ("B", "C", "take 1.flac", 6.0)
    assert document.content_hash == hashlib.sha256(bytes([1])).hexdigest()


def test_a_build_while_the_collection_is_served_leaves_the_answers_whole(path: Path, shelf: Shelf) -> None:
    """The build writes the LMDB file anew and deletes the old one, which the server still reads."""
    made(path, shelf, addition("a"), addition("b", seed=1))
    with shelf.taken() as before:
        with CollectionWriter(path, ENCODER.identity) as writer:
            writer.remove("b")
            writer.build()
        assert not (path / "sequences.lmdb").exists()
        assert len(before.collection.sequence("b")) == 4
        before.collection.check()
        assert shelf.reload()
        assert len(before.collection.sequence("b")) == 4
    assert (shelf.generation, ids(shelf)) == (2, ["a"])
    made(path, shelf, addition("c", seed=2))
    assert ids(shelf) == ["a", "c"]


def test_what_is_there_already_is_not_added_again(path: Path, shelf: Shelf) -> None:
    made(path, shelf, addition("a"))
    (again,) = made(path, shelf, addition("a"))
    assert (again["status"], again["generation"]) == ("unchanged", 1)
    (renamed,) = made(path, shelf, addition("a", title="A"))
    assert (renamed["status"], renamed["generation"]) == ("changed", 2)


def test_an_id_is_taken_over_only_if_that_is_said(path: Path, shelf: Shelf) -> None:
    made(path, shelf, addition("a"))
    refused, other = made(path, shelf, addition("a", seed=1), addition("b", seed=1))
    assert isinstance(refused, DocumentExists)
    assert str(refused) == (
        "'a' is the recording made from take 0.flac; the recording take 1.flac is another document; "
        "say replace, or another id"
    )
    assert other["status"] == "added"
    (replaced,) = made(path, shelf, addition("a", seed=1, replace=True))
    assert replaced["status"] == "changed"
    assert sorted(ids(shelf)) == ["a", "b"]


def test_of_documents_to_remove_all_must_be_there(path: Path, shelf: Shelf) -> None:
    made(path, shelf, addition("a"), addition("b"))
    (refused,) = made(path, shelf, Remove(ids=("a", "z")))
    assert isinstance(refused, DocumentMissing)
    assert str(refused) == "no document 'z'; nothing is removed"
    assert ids(shelf) == ["a", "b"]


def test_nothing_is_changed_while_another_writes(path: Path, shelf: Shelf) -> None:
    with (
        CollectionWriter(path, ENCODER.identity),
        pytest.raises(CollectionLockedError, match=r"process \d+ is writing"),
    ):
        made(path, shelf, addition("a"))
    assert made(path, shelf, addition("a"))[0]["generation"] == 1


def test_a_generation_stays_open_as_long_as_somebody_uses_it(path: Path, shelf: Shelf) -> None:
    with shelf.taken() as old:
        made(path, shelf, addition("a"))
        assert (old.number, shelf.generation) == (0, 1)
        assert old.collection.documents == ()
        assert old.users == 1
    assert old.users == 0


def test_reloading_takes_up_what_others_have_committed(path: Path, shelf: Shelf) -> None:
    assert not shelf.reload()
    with CollectionWriter(path, ENCODER.identity) as writer:
        (sequence,) = documents.sequences([addition("a").medium], ENCODER)
        writer.put(documents.described(Document(id="a", kind="recording"), addition("a").medium, sequence), sequence)
        writer.commit()
    assert (shelf.generation, shelf.reload(), shelf.generation) == (0, True, 1)
    assert ids(shelf) == ["a"]
