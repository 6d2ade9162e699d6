"""What is added is judged by one rule, whether `scorefind add` or a server adds it (`engine.collection.identity`)."""

import asyncio
import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import scorefind
from engine.collection import Collection, CollectionWriter
from engine.values import Document, Embeddings
from fake_encoder import FakeEncoder
from media import write_recording
from running_server import running
from server.errors import DocumentExists

Adding = Callable[..., str]
"""Adds a file under the id `take`: what became of it, `refused: CAUSE` if it was."""


class Embedding(FakeEncoder):
    """May be told that there is nothing to embed."""

    allowed = True

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        assert self.allowed, "embedded again"
        return super().recording(excerpts)


class Forbidden(Embedding):
    allowed = False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty collection."""
    with CollectionWriter(tmp_path / "collection", FakeEncoder.identity):
        pass
    return tmp_path / "collection"


@pytest.fixture(params=["scorefind add", "server"])
def adding(
    request: pytest.FixtureRequest, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Adding:
    def offline(file: Path, *, embeds: bool = True, replace: bool = False, **words: str) -> str:
        monkeypatch.setattr(scorefind, "encoder_loader", lambda *_: Embedding if embeds else Forbidden)
        manifest = tmp_path / "manifest.csv"
        with manifest.open("w", newline="") as out:
            csv.writer(out).writerows([["path", "id", *words], [file, "take", *words.values()]])
        scorefind.main(["add", str(path), "--jobs", "1", "--manifest", str(manifest), *(["--replace"] * replace)])
        out, err = capfd.readouterr()
        (status,) = re.findall(r"1 (added|changed|unchanged|failed)", out)
        return f"refused: {err}" if status == "failed" else status

    async def uploaded(file: Path, embeds: bool, **options: Any) -> str:
        async with running(path, encoder=Embedding()) as server, server.client() as client:
            monkeypatch.setattr(Embedding, "allowed", embeds)  # the server has warmed up
            return str((await client.add("take", file, **options))["status"])

    def online(file: Path, *, embeds: bool = True, **options: Any) -> str:
        monkeypatch.setattr(Embedding, "allowed", True)
        try:
            return asyncio.run(uploaded(file, embeds, **options))
        except DocumentExists as exc:
            return f"refused: {exc}"

    return offline if request.param == "scorefind add" else online


def held(path: Path) -> Document:
    """The document in force, of a sound collection."""
    with Collection.open(path) as collection:
        collection.check()
        return collection.document("take")


def generation(path: Path) -> int:
    with Collection.open(path) as collection:
        return collection.generation


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "take.flac", seed=1)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A file of the same name in another folder."""
    (tmp_path / "other").mkdir()
    return write_recording(tmp_path / "other" / "take.flac", seed=2, seconds=15)


def test_the_same_content_twice_changes_nothing_and_is_not_embedded_again(
    adding: Adding, path: Path, file: Path
) -> None:
    assert adding(file, title="A Take", composer="Anon") == "added"
    before, number = held(path), generation(path)
    assert adding(file, embeds=False) == "unchanged"
    assert adding(file, embeds=False, title="A Take") == "unchanged"
    assert (held(path), generation(path)) == (before, number)


def test_other_content_from_elsewhere_is_refused_with_both_named(
    adding: Adding, path: Path, file: Path, other: Path
) -> None:
    adding(file)
    before = held(path)
    refused = adding(other, embeds=False)
    assert refused.startswith("refused: ")
    assert f"'take' is the recording made from {before.source}; the recording " in refused
    assert "take.flac is another document" in refused
    assert held(path) == before


def test_other_content_replaces_what_is_held_if_that_is_said(
    adding: Adding, path: Path, file: Path, other: Path
) -> None:
    adding(file, title="A Take", composer="Anon")
    before = held(path)
    assert adding(other, replace=True) == "changed"
    after = held(path)
    assert after.content_hash != before.content_hash
    assert after.duration_s > before.duration_s
    assert (after.title, after.composer) == ("take", "")  # another document: words of the first are not its own


def test_new_words_alone_are_taken_over_without_embedding(adding: Adding, path: Path, file: Path) -> None:
    adding(file, composer="Anon")
    before = held(path)
    assert (before.title, before.composer) == ("take", "Anon")
    with Collection.open(path) as collection:
        embeddings = collection.sequence("take").embeddings
    assert adding(file, embeds=False, title="A Take") == "changed"
    after = held(path)
    assert (after.title, after.composer, after.snippets) == ("A Take", "Anon", before.snippets)
    with Collection.open(path) as collection:
        np.testing.assert_array_equal(collection.sequence("take").embeddings, embeddings)


def test_what_a_killed_writer_left_is_added_without_embedding(adding: Adding, path: Path, file: Path) -> None:
    adding(file)
    with Collection.open(path) as collection:
        document, sequence = collection.document("take"), collection.sequence("take")
    with CollectionWriter(path, FakeEncoder.identity) as writer:
        writer.remove("take")
        writer.commit()
        writer.put(document, sequence)  # and never committed
    assert adding(file, embeds=False) == "added"
    assert held(path).snippets == document.snippets


def test_an_edited_file_is_the_same_document_offline(
    path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scorefind, "encoder_loader", lambda *_: FakeEncoder)
    scorefind.main(["add", str(path), str(file), "--jobs", "1"])
    write_recording(file, seed=3)
    scorefind.main(["add", str(path), str(file), "--jobs", "1"])
    assert "0 added, 1 changed" in capsys.readouterr().out


def test_an_upload_does_not_forget_where_a_document_was_made(
    path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorefind, "encoder_loader", lambda *_: FakeEncoder)
    scorefind.main(["add", str(path), str(file), "--jobs", "1"])

    async def upload() -> dict[str, Any]:
        async with running(path) as server, server.client() as client:
            return await client.add("take", file)

    assert asyncio.run(upload())["status"] == "unchanged"
    assert held(path).source == str(file)
