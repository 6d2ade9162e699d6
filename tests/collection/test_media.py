"""Pictures and sound that a collection keeps: stored, carried, verified and erased with their documents."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from PIL import Image

from collection_samples import document, sequence
from engine import media as engine_media
from engine.collection import Collection, CollectionWriter, backup
from engine.collection.manifest import VERSION, WITHOUT_MEDIA, Manifest
from engine.errors import CollectionDamagedError
from fake_encoder import FakeEncoder, fake_loader
from indexer import ingest
from indexer.build import build
from indexer.sources import discover
from media import write_page, write_recording

NETWORK = FakeEncoder.identity
PICTURES = {1: b"first page " * 50, 2: b"second page " * 50}


def kept(path: Path, id: str = "a") -> dict[int, bytes]:
    with Collection.open(path) as collection:
        collection.check()
        found = {item: collection.media(id, item) for item in range(4)}
    return {item: data for item, data in found.items() if data is not None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A collection with a document that has media, and one without."""
    with CollectionWriter(tmp_path / "c", NETWORK) as writer:
        writer.put(document("a", content_hash="1"), sequence(), media=PICTURES)
        writer.put(document("b", content_hash="2"), sequence())
        writer.commit()
    return tmp_path / "c"


def test_media_are_kept_with_their_document(path: Path) -> None:
    assert kept(path) == PICTURES
    assert kept(path, "b") == {}


def test_only_a_collection_with_media_needs_the_newer_version(path: Path, tmp_path: Path) -> None:
    with CollectionWriter(tmp_path / "plain", NETWORK) as writer:
        writer.put(document("a"), sequence())
        writer.commit()
    versions = [
        f'"version": {version}' in (place / "manifest.json").read_text()
        for place, version in ((path, VERSION), (tmp_path / "plain", WITHOUT_MEDIA))
    ]
    assert versions == [True, True]
    assert Manifest.read(path).media


def test_a_new_title_leaves_the_media(path: Path) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        assert writer.put(replace(document("a", content_hash="1"), title="New"), None) == "changed"
        writer.commit()
    assert kept(path) == PICTURES


def test_media_come_to_content_that_is_there_without(path: Path) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        same = document("b", content_hash="2")
        assert not writer.needs_embedding(same)
        assert writer.needs_embedding(same, media=True)
        assert not writer.needs_embedding(document("a", content_hash="1"), media=True)
        writer.put(same, sequence(), media=PICTURES)
        writer.commit()
    assert kept(path, "b") == PICTURES


def test_a_backup_and_a_build_carry_the_media(path: Path, tmp_path: Path) -> None:
    backup(path, tmp_path / "copy")
    assert kept(tmp_path / "copy") == PICTURES
    with CollectionWriter(path, NETWORK) as writer:
        build(writer, threads=1)
    assert kept(path) == PICTURES


def test_what_is_removed_is_gone_from_the_file_after_a_build(path: Path) -> None:
    with CollectionWriter(path, NETWORK) as writer:
        writer.remove("a")
        build(writer, threads=1)
    assert all(PICTURES[1][:40] not in file.read_bytes() for file in path.iterdir())
    assert not Manifest.read(path).media


def test_media_leave_the_file_with_their_document(path: Path) -> None:
    """Their place is free at once; without this they would stay until the next build."""
    with CollectionWriter(path, NETWORK) as writer:
        number = writer._working["a"].number
        writer.remove("a")
        writer.commit()
        with writer._store.reading() as txn:
            assert list(txn.media_items(number)) == []


def test_damaged_and_missing_media_are_told(path: Path) -> None:
    store = path / Manifest.read(path).lmdb
    content = store.read_bytes()
    checksum = hashlib.sha256(PICTURES[2]).digest()
    for old, new in ((PICTURES[2], PICTURES[2][:-2] + b"!!"), (checksum, b"0" * 32)):
        store.write_bytes(content.replace(old, new))
        with pytest.raises(CollectionDamagedError, match="media"):
            Collection.open(path)


def test_files_are_added_with_their_media(tmp_path: Path) -> None:
    page, take = write_page(tmp_path / "page.png", 1), write_recording(tmp_path / "take.wav", 1, 20)
    sources = discover([page, take]).sources
    ingest.add(tmp_path / "c", sources, fake_loader())
    summary = ingest.add(tmp_path / "c", sources, fake_loader(), keep_media=True)
    assert sorted(summary.changed) == ["page", "take"]
    page.unlink()
    take.unlink()
    with Image.open(io.BytesIO(kept(tmp_path / "c", "page")[1])) as picture:
        assert (picture.format, picture.width) == ("WEBP", engine_media.PICTURE_PX)
    sound = kept(tmp_path / "c", "take")[engine_media.SOUND]
    assert len(sound) < 200_000
    heard, rate = soundfile.read(io.BytesIO(sound))
    assert len(heard) / rate == pytest.approx(20, abs=0.1)
    assert sorted(ingest.add(tmp_path / "c", (), fake_loader(), keep_media=True).unchanged) == []
