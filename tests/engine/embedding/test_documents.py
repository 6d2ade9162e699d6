import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from engine.embedding.documents import content_hash, embed, kind_of, name_of, page_files, read, size_of
from engine.errors import AudioError, MediaError, PageError
from fake_encoder import FakeEncoder
from media import write_page, write_recording


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode())
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [(f"a.{suffix}", "score") for suffix in "pdf TIF HEIC webp jp2 avif".split()]
    + [(f"a.{suffix}", "recording") for suffix in "flac M4A mkv mov m4b mp2 mka webm amr wma".split()],
)
def test_a_file_is_of_the_kind_its_suffix_says(tmp_path: Path, name: str, kind: str) -> None:
    assert kind_of(touched(tmp_path / name)) == kind


def test_a_folder_of_page_images_is_a_score_whatever_notes_lie_beside_them(tmp_path: Path) -> None:
    for name in ("p10.png", "p2.png", "notes.txt", ".hidden.pdf"):
        touched(tmp_path / name)
    assert kind_of(tmp_path) == "score"
    assert [file.name for file in page_files(tmp_path)] == ["p2.png", "p10.png"]


@pytest.mark.parametrize("other", ["a.pdf", "a.wav", "more/p3.png"])
def test_a_folder_with_more_than_page_images_is_no_document(tmp_path: Path, other: str) -> None:
    touched(tmp_path / "p1.png")
    touched(tmp_path / other)
    with pytest.raises(MediaError, match="expected a folder of page images"):
        kind_of(tmp_path)


@pytest.mark.parametrize("name", ["a.docx", "a"])
def test_a_name_that_says_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match="neither a score nor a recording"):
        kind_of(touched(tmp_path / name))


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for opening in (kind_of, content_hash, lambda path: read(path, "score", FakeEncoder.identity.front_end)):
        with pytest.raises(MediaError, match="never opened"):
            opening(tmp_path / "pipe.png")


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        kind_of(tmp_path / "a.pdf")


def test_a_file_is_called_by_its_stem_and_a_folder_by_its_whole_name(tmp_path: Path) -> None:
    folder = tmp_path / "op.10"
    folder.mkdir()
    assert (name_of(tmp_path / "etude.3.pdf"), name_of(folder)) == ("etude.3", "op.10")


def test_a_content_hash_is_over_the_bytes_of_pages_in_order(tmp_path: Path) -> None:
    for name in ("p10.png", "p9.png", "notes.txt"):
        touched(tmp_path / name)
    assert content_hash(tmp_path) == hashlib.sha256(b"p9.pngp10.png").hexdigest()
    assert content_hash(tmp_path / "p9.png") == hashlib.sha256(b"p9.png").hexdigest()


def test_a_content_hash_is_over_the_pages_that_are_read_whatever_lies_beside_them(tmp_path: Path) -> None:
    for folder, page in (("one", b"first"), ("two", b"second")):
        touched(tmp_path / folder / "originals" / "raw.png")
        touched(tmp_path / folder / "take.wav")
        (tmp_path / folder / "p1.png").write_bytes(page)
        assert content_hash(tmp_path / folder) == hashlib.sha256(page).hexdigest()
        assert size_of(tmp_path / folder) == len(page)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PageError, match="found none"):
        content_hash(tmp_path / "empty")


def test_a_score_is_embedded_with_its_pages_and_systems(tmp_path: Path) -> None:
    document, sequence = embed(write_page(tmp_path / "etude.png", seed=0), "score", FakeEncoder())
    assert (document.id, document.kind, document.pages, len(document.systems)) == ("etude", "score", 1, 3)
    assert document.snippets == len(sequence) == len(sequence.places) == len(sequence.bias)
    assert sequence.places["system"][0] == 1
    assert sequence.places["end_system"][-1] == 3
    np.testing.assert_allclose(np.linalg.norm(sequence.embeddings, axis=1), 1.0, rtol=1e-5)


def test_a_part_of_a_recording_keeps_its_place_in_the_whole(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "take.flac", seed=0, seconds=12)
    document, sequence = embed(path, "recording", FakeEncoder(), 3.0, 9.0)
    assert document.duration_s == pytest.approx(6.0)
    assert sequence.places["start_s"] == pytest.approx([3.0, 3.5, 4.0, 4.5])
    assert sequence.places["end_s"] == pytest.approx([7.2, 7.7, 8.2, 8.7])


def test_the_second_half_is_embedded_as_it_is_within_the_whole(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "take.wav", seed=0, seconds=12)
    _, whole = embed(path, "recording", FakeEncoder())
    _, half = embed(path, "recording", FakeEncoder(), 6.0)
    np.testing.assert_allclose(half.embeddings, whole.embeddings[12:], atol=1e-3)


def test_a_recording_shorter_than_an_excerpt_is_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "short.wav", seed=0, seconds=2)
    with pytest.raises(AudioError, match=r"2\.0 s of audio are too short; an excerpt takes 4\.2 s"):
        embed(path, "recording", FakeEncoder())


def test_seconds_of_a_score_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="only recordings have seconds"):
        embed(write_page(tmp_path / "etude.png", seed=0), "score", FakeEncoder(), 1.0)
