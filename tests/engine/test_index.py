"""The FAISS index: exact while it is small, whole on disk, refused when it is not."""

from pathlib import Path

import numpy as np
import pytest

from collection_samples import embeddings
from engine import index


def stored(tmp_path: Path) -> Path:
    path = tmp_path / "index.faiss"
    index.save(index.build(embeddings(50), threads=1), path)
    return path


def test_threads_share_the_query_without_changing_the_result() -> None:
    built, query = index.build(embeddings(500), threads=1), embeddings(3 * index.SHARE + 1, 1)
    for one, three in zip(*(index.nearest(built, query, 5, threads=threads) for threads in (1, 3)), strict=True):
        np.testing.assert_allclose(one, three, atol=1e-6)


def test_the_nearest_are_those_of_largest_inner_product() -> None:
    rows, query = embeddings(300, seed=1), embeddings(4, seed=2)
    similarities, found = index.nearest(index.build(rows, threads=1), query, 10, threads=1)
    truth = query @ rows.T
    np.testing.assert_array_equal(found, np.argsort(-truth, axis=1)[:, :10])
    np.testing.assert_allclose(similarities, -np.sort(-truth, axis=1)[:, :10], rtol=1e-5)


def test_an_index_of_float16_rows_holds_them_as_they_are() -> None:
    rows = embeddings(10).astype(np.float16)
    np.testing.assert_array_equal(index.build(rows, threads=1).reconstruct_n(0, 10), rows)


def test_there_are_no_more_neighbours_than_snippets() -> None:
    similarities, found = index.nearest(index.build(embeddings(3), threads=1), embeddings(2), 25, threads=1)
    assert similarities.shape == found.shape == (2, 3)


def test_an_empty_index_finds_nothing() -> None:
    empty = index.build(np.empty((0, 32), dtype=np.float32), threads=1)
    assert index.nearest(empty, embeddings(2), 5, threads=1)[1].tolist() == [[-1], [-1]]


def test_a_large_index_compares_a_part_and_finds_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "EXACT_ROWS", 100)
    rows = embeddings(6400)
    built = index.build(rows, threads=1)
    assert index.choose(6400) == "IVF320,SQfp16"
    assert (built.nlist, built.nprobe) == (320, 20)
    assert np.mean(index.nearest(built, rows[:500], 1, threads=1)[1][:, 0] == np.arange(500)) > 0.99


def test_a_saved_index_comes_back_even_after_its_name_is_gone(tmp_path: Path) -> None:
    path = stored(tmp_path)
    with path.open("rb") as file:
        path.unlink()
        np.testing.assert_array_equal(index.load(file).reconstruct_n(0, 50), embeddings(50))


def test_saving_tells_size_and_checksum(tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    size, sha256 = index.save(index.build(embeddings(50), threads=1), path)
    assert size == path.stat().st_size
    with path.open("rb") as file:
        assert sha256 == index.checksum(file)


def test_saving_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="FAISS cannot write it"):
        index.save(index.build(embeddings(2), threads=1), tmp_path / "none" / "index.faiss")


@pytest.mark.parametrize("keep", [0, 3, 40, 1000])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = stored(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with path.open("rb") as file, pytest.raises(ValueError, match="FAISS cannot read it"):
        index.load(file)
