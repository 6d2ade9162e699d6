"""Hashes on disk: built, opened, looked up."""

from dataclasses import replace
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pytest

from collection_samples import embeddings
from engine.errors import CollectionDamagedError, CollectionVersionError
from engine.fingerprint import FingerprintSettings, histograms, ranking
from engine.hash_index import HashIndex, build
from engine.hashing import POSTING
from engine.values import Packed

ROWS = 2000
EVERY_CELL = 1 << 14


def packed(rows: int = ROWS, bias: float = 0.0) -> Packed:
    """Documents of 100 snippets."""
    offsets = np.arange(0, rows + 1, 100, dtype=np.int64)
    return Packed(embeddings=embeddings(rows), bias=np.full(rows, bias, np.float32), offsets=offsets)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hashes") / "scores.hashes"
    build(packed(), path)
    return path


def test_a_snippet_lies_in_the_cell_it_is_most_like(path: Path) -> None:
    with HashIndex.open(path) as index:
        hits = index.lookup(embeddings(ROWS)[::50], probes=1)
    own = hits.rows == 50 * hits.query
    assert hits.query[own].tolist() == list(range(ROWS // 50))
    assert hits.weights[own].mean() == pytest.approx(1, abs=0.03)


def test_weights_are_the_similarities_nearly_and_without_bias(path: Path) -> None:
    query = embeddings(20, seed=1)
    with HashIndex.open(path) as index:
        hits = index.lookup(query, probes=EVERY_CELL)
    true = query @ embeddings(ROWS).T
    errors = hits.weights - true[hits.query, hits.rows]
    clear = true[hits.query, hits.rows] > 0.3  # below, those are missing whose estimate is negative
    assert np.abs(errors[clear]).mean() < 0.12
    assert abs(errors[clear].mean()) < 0.03
    assert clear.sum() > 0.95 * (true > 0.3).sum()


def test_more_probes_find_all_that_fewer_find(path: Path) -> None:
    query = embeddings(5, seed=1)
    with HashIndex.open(path) as index:
        few, many = (index.lookup(query, probes=probes) for probes in (2, 8))
    found = {(n, row): weight for n, row, weight in zip(many.query, many.rows, many.weights, strict=True)}
    assert len(many.rows) > len(few.rows)
    for n, row, weight in zip(few.query, few.rows, few.weights, strict=True):
        assert found[n, row] == pytest.approx(weight, abs=1e-6)


def test_hits_stand_in_the_order_of_the_query(path: Path) -> None:
    with HashIndex.open(path) as index:
        assert np.diff(index.lookup(embeddings(9, seed=1)).query).min() >= 0


def test_the_bias_is_taken_off_unless_the_query_is_of_the_same_kind(tmp_path: Path) -> None:
    build(packed(bias=0.5), tmp_path / "hashes")
    query = embeddings(ROWS)[:1]
    with HashIndex.open(tmp_path / "hashes") as index:
        with_bias, without = (index.lookup(query, probes=1, use_bias=use) for use in (True, False))
    assert without.weights.max() - with_bias.weights.max() == pytest.approx(0.5, abs=1e-3)
    assert len(with_bias.rows) < len(without.rows)


def test_a_blurred_passage_is_found_by_hashes_alone(path: Path) -> None:
    query = embeddings(ROWS)[720:760] + 0.8 * embeddings(40, seed=1)
    query = (query / np.linalg.norm(query, axis=1, keepdims=True)).astype(np.float32)
    with HashIndex.open(path) as index:
        hits = index.lookup(query, probes=4)
    votes = histograms(hits, packed().offsets, len(query), FingerprintSettings())
    assert ranking(votes)[0] == 7


def test_the_same_snippets_give_the_same_file_and_half_precision_will_do(tmp_path: Path, path: Path) -> None:
    _, checksum = build(packed(), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    half = replace(packed(), embeddings=embeddings(ROWS).astype(np.float16))
    assert build(half, tmp_path / "half")[1] != checksum
    with HashIndex.open(tmp_path / "half") as index:
        assert index.rows == ROWS


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    build(packed(100), tmp_path / "hashes")
    size, checksum = build(packed(200), tmp_path / "hashes")
    assert size == (tmp_path / "hashes").stat().st_size
    assert len(checksum) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["hashes"]


@pytest.mark.parametrize("rows", [0, 100])
def test_few_snippets_or_none_can_be_hashed(tmp_path: Path, rows: int) -> None:
    build(packed(rows), tmp_path / "hashes")
    with HashIndex.open(tmp_path / "hashes") as index:
        assert len(index.lookup(embeddings(100)[:1]).rows) == (0 if rows == 0 else pytest.approx(50, abs=20))


def test_a_file_open_twice_stays_open_until_both_are_closed(path: Path) -> None:
    first, second = HashIndex.open(path), HashIndex.open(path)
    first.close()
    assert len(second.lookup(embeddings(1)).rows) > 0
    second.close()
    with HashIndex.open(path) as index:
        assert index is not second


def test_a_file_that_is_missing_or_something_else_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(CollectionDamagedError, match="missing cannot be opened"):
        HashIndex.open(tmp_path / "missing")
    (tmp_path / "text").write_bytes(b"no hashes" * 9999)
    with pytest.raises(CollectionDamagedError, match="text cannot be opened"):
        HashIndex.open(tmp_path / "text")


def test_another_format_and_a_newer_version_are_told_apart(tmp_path: Path) -> None:
    build(packed(100), tmp_path / "hashes")
    for header, error in (
        ({"format": "other"}, CollectionDamagedError),
        ({"format": "scorefind hashes", "version": 99}, CollectionVersionError),
    ):
        with lmdb.open(str(tmp_path / "hashes"), subdir=False, max_dbs=2, lock=False) as env:
            database = env.open_db(b"header")
            with env.begin(write=True) as txn:
                txn.put(b"header", msgpack.packb(header), db=database)
        with pytest.raises(error, match="hashes"):
            HashIndex.open(tmp_path / "hashes")


def test_a_row_beyond_those_there_are_is_damage(tmp_path: Path) -> None:
    build(packed(100), tmp_path / "hashes")
    posting = np.array([(100, 0, 1, 0)], POSTING).tobytes()
    for value, cause in ((posting, "expected 100 snippets, got number 100"), (posting[:-1], "postings of 12 bytes")):
        with lmdb.open(str(tmp_path / "hashes"), subdir=False, max_dbs=2, lock=False) as env:
            database = env.open_db(b"cells")
            with env.begin(write=True) as txn:
                txn.put((0).to_bytes(4, "big"), value, db=database)
        with HashIndex.open(tmp_path / "hashes") as index, pytest.raises(CollectionDamagedError, match=cause):
            index.lookup(embeddings(1), probes=EVERY_CELL)
