import io
import re
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import pytest

from indexer.errors import CorpusError
from indexer.training import packing
from indexer.training.material import Corpus, Print, Rendition, decoded, encoded, load_print, load_recording, save

FILES = ["a.0", "a.1", "b.0"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two pieces of which one has two prints and two recordings, and one validation piece."""
    rng = np.random.default_rng(0)
    for split, name in [*(("train", name) for name in FILES), ("val", "c.0")]:
        quarters = np.cumsum(rng.integers(1, 8, 300) / 4)
        columns = np.cumsum(rng.random(300) * 60).astype(np.float32)
        strip = np.full((88, int(columns[-1]) + 60), 250, np.uint8)
        strip[20:60:8] = 30
        piece, _ = name.split(".")
        save(
            Print(piece=piece, quarters=quarters, strip=strip, columns=columns),
            corpus_file(tmp_path, split, "prints", name),
        )
        magnitudes = rng.gamma(0.2, size=(92, 400)).astype(np.float32)
        save(
            Rendition(
                piece=piece,
                beat_quarter=quarters,
                beat_frame=np.linspace(3, 390, 300, dtype=np.float32),
                published=encoded(np.repeat(magnitudes, 5, axis=1)),
                quarter_tone=np.zeros((184, 0), np.uint8),
            ),
            corpus_file(tmp_path, split, "recordings", name),
        )
    return tmp_path / "corpus"


def corpus_file(folder: Path, split: str, kind: str, name: str) -> Path:
    return folder / "corpus" / split / kind / f"{name}.npz"


def test_a_corpus_comes_out_of_its_parts_nearly_as_it_was(corpus: Path, tmp_path: Path) -> None:
    parts = packing.pack(corpus, tmp_path / "parts", "published", 10**9)
    assert packing.unpack(parts, tmp_path / "again") == 8
    for name in FILES:
        before = load_print(corpus / "train/prints" / f"{name}.npz")
        after = load_print(tmp_path / "again/train/prints" / f"{name}.npz")
        assert after.piece == before.piece
        np.testing.assert_array_equal(after.quarters, before.quarters)
        np.testing.assert_allclose(after.columns, before.columns, atol=1 / 16)
        assert after.strip.shape == before.strip.shape
        assert before.strip.shape[1] > 8192, "several images"
        assert np.abs(after.strip.astype(float) - before.strip).mean() < 12
        heard = load_recording(corpus / "train/recordings" / f"{name}.npz")
        again = load_recording(tmp_path / "again/train/recordings" / f"{name}.npz")
        np.testing.assert_allclose(again.beat_frame, heard.beat_frame, atol=1 / 128)
        loud, packed = decoded()[heard.published], decoded()[again.published]
        assert np.corrcoef(loud.ravel(), packed.ravel())[0, 1] > 0.9
        assert packed.mean() == pytest.approx(loud.mean(), rel=0.1)
    pieces = Corpus(tmp_path / "again/train", "published").refresh()
    assert [(piece.name, len(piece.prints), len(piece.recordings)) for piece in pieces] == [("a", 2, 2), ("b", 1, 1)]


def test_parts_are_small_and_the_first_ones_make_a_corpus(corpus: Path, tmp_path: Path) -> None:
    whole = packing.pack(corpus, tmp_path / "whole", "published", 10**9)
    size = whole[0].stat().st_size
    parts = packing.pack(corpus, tmp_path / "parts", "published", size // 2)
    assert len(parts) > 1
    assert all(part.stat().st_size <= size // 2 for part in parts)
    files = [record["file"] for part in parts for record in msgpack.Unpacker(io.BytesIO(part.read_bytes()))]
    assert [re.sub(r"\w+/(?=\w\.)", "", file) for file in files] == [
        "val/c.0.npz",
        "val/c.0.npz",
        "train/a.0.npz",
        "train/a.0.npz",
        "train/b.0.npz",
        "train/b.0.npz",
        "train/a.1.npz",
        "train/a.1.npz",
    ]


def test_packing_again_packs_only_what_was_made_since(corpus: Path, tmp_path: Path) -> None:
    late = corpus / "train/prints/a.1.npz"
    late.rename(tmp_path / "late.npz")
    first = packing.pack(corpus, tmp_path / "parts", "published", 10**9)
    (tmp_path / "late.npz").rename(late)
    second = packing.pack(corpus, tmp_path / "parts", "published", 10**9)
    assert [part.name for part in first + second] == ["part.000", "part.001"]
    assert packing.pack(corpus, tmp_path / "parts", "published", 10**9) == []
    assert packing.unpack(first, tmp_path / "again") == 7
    assert packing.unpack(first + second, tmp_path / "again") == 1


def test_a_new_part_takes_the_place_of_no_other_one(corpus: Path, tmp_path: Path) -> None:
    parts = packing.pack(corpus, tmp_path / "parts", "published", 1)
    kept = {part: part.read_bytes() for part in parts[1:]}
    parts[0].unlink()
    (again,) = packing.pack(corpus, tmp_path / "parts", "published", 10**9)
    assert again.name == f"part.{len(parts):03d}"
    assert {part: part.read_bytes() for part in kept} == kept


DAMAGE: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda data: data[:-100], "part.000: cut off: "),
    (lambda data: data + b"\xc1", "part.000: damaged, or no part of a corpus"),
    (lambda data: b"PK" + data, "part.000: damaged, or no part of a corpus: it holds something else"),
    (lambda data: data.replace(b"val/prints/c", b"../prints/cc"), "part.000: damaged, or no part of a corpus"),
    (lambda data: data.replace(b"RIFF", b"FFIR"), "part.000: val/prints/c.0.npz is damaged"),
]


def test_a_damaged_part_is_named(corpus: Path, tmp_path: Path) -> None:
    (part,) = packing.pack(corpus, tmp_path / "parts", "published", 10**9)
    whole = part.read_bytes()
    for number, (damage, cause) in enumerate(DAMAGE):
        part.write_bytes(damage(whole))
        with pytest.raises(CorpusError, match=re.escape(cause)):
            packing.unpack([part], tmp_path / f"again{number}")


def test_other_files_in_a_corpus_are_left_out_and_none_at_all_is_an_error(corpus: Path, tmp_path: Path) -> None:
    for file in ("test/prints/a.0.npz", "train/drafts/a.0.npz"):
        (corpus / file).parent.mkdir(parents=True)
        (corpus / file).write_bytes(b"no print")
    (corpus / "train/prints/b.0.npz").rename(corpus / "train/prints/b c. d.npz")  # a file without a number
    (part,) = packing.pack(corpus, tmp_path / "parts", "published", 10**9)
    assert packing.unpack([part], tmp_path / "again") == 8
    assert (tmp_path / "again/train/prints/b c. d.npz").exists()
    with pytest.raises(CorpusError, match="nothing: expected prints and recordings in the folders train and val"):
        packing.pack(tmp_path / "nothing", tmp_path / "parts", "published", 10**9)


def test_a_folder_of_parts_has_one_kind_of_spectrogram(corpus: Path, tmp_path: Path) -> None:
    packing.pack(corpus, tmp_path / "parts", "published", 10**9)
    with pytest.raises(CorpusError, match=r"part\.000: expected 'quarter_tone' spectrograms, got 'published'"):
        packing.pack(corpus, tmp_path / "parts", "quarter_tone", 10**9)
    with pytest.raises(CorpusError, match=r"recordings of '.' have no 'quarter_tone' spectrogram"):
        packing.pack(corpus, tmp_path / "others", "quarter_tone", 10**9)


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_of_a_corpus_is_named(corpus: Path, tmp_path: Path, data: bytes) -> None:
    (corpus / "train/prints/a.1.npz").write_bytes(data)
    with pytest.raises(CorpusError, match=r"a\.1\.npz: damaged, or no print"):
        Corpus(corpus / "train", "published").refresh()


def test_a_recording_in_the_place_of_a_print_is_named(corpus: Path) -> None:
    (corpus / "train/recordings/a.1.npz").rename(corpus / "train/prints/a.2.npz")
    with pytest.raises(CorpusError, match=r"a\.2\.npz: damaged, or no print"):
        Corpus(corpus / "train", "published").refresh()
