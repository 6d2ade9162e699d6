"""Indexes of snippets: small ones are exact, large ones are searched on disk, and damaged files are refused."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from collection_samples import embeddings, packed
from engine import neighbours
from engine.neighbours import AmendedIndex, FaissIndex, GpuIndex, Segment, blocks, cells, gpu, interface
from engine.values import Packed


def stored(tmp_path: Path) -> Path:
    path = tmp_path / "index.faiss"
    neighbours.save(neighbours.build(packed(embeddings(50)), threads=1), path)
    return path


def on_disk(made: FaissIndex, folder: Path) -> FaissIndex:
    """The index, saved and mapped from a file that has lost its name."""
    path = folder / "mapped.faiss"
    neighbours.save(made, path)
    with path.open("rb") as file:
        path.unlink()
        return neighbours.load(file)


def test_threads_share_the_query_without_changing_the_result() -> None:
    built, query = neighbours.build(packed(embeddings(500)), threads=1), embeddings(3 * interface.MIN_SHARE + 1, 1)
    for one, three in zip(*(neighbours.nearest(built, query, 5, threads=threads) for threads in (1, 3)), strict=True):
        np.testing.assert_allclose(one, three, atol=1e-6)


def test_the_nearest_are_those_of_largest_inner_product() -> None:
    rows, query = embeddings(300, seed=1), embeddings(4, seed=2)
    similarities, found = neighbours.nearest(neighbours.build(packed(rows), threads=1), query, 10, threads=1)
    truth = query @ rows.T
    np.testing.assert_array_equal(found, np.argsort(-truth, axis=1)[:, :10])
    np.testing.assert_allclose(similarities, -np.sort(-truth, axis=1)[:, :10], rtol=1e-5)


def test_an_index_of_float16_rows_holds_them_as_they_are() -> None:
    rows = embeddings(10).astype(np.float16)
    np.testing.assert_array_equal(neighbours.build(packed(rows), threads=1).raw.reconstruct_n(0, 10), rows)


def test_there_are_no_more_neighbours_than_snippets() -> None:
    similarities, found = neighbours.nearest(
        neighbours.build(packed(embeddings(3)), threads=1), embeddings(2), 25, threads=1
    )
    assert similarities.shape == found.shape == (2, 3)


def test_an_empty_index_finds_nothing() -> None:
    empty = neighbours.build(packed(np.empty((0, 32), dtype=np.float32)), threads=1)
    assert neighbours.nearest(empty, embeddings(2), 5, threads=1)[1].tolist() == [[-1], [-1]]


def test_a_large_index_compares_a_part_and_finds_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "EXACT_ROWS", 100)
    rows = embeddings(20_000)
    built = neighbours.build(packed(rows), threads=2)
    assert cells.cell_count(20_000) == 64
    assert abs(built.raw.nlist - 64) <= 4
    assert built.ntotal == sum(built.raw.invlists.list_size(cell) for cell in range(built.raw.nlist)) == 20_000
    assert np.mean(neighbours.nearest(built, rows[:500], 1, threads=1, probes=4)[1][:, 0] == np.arange(500)) > 0.95
    near = neighbours.nearest(built, rows[:20], 25, threads=1)[
        1
    ]  # all 64 cells: only rounding to bytes loses neighbours
    truth = np.argsort(-rows[:20] @ rows.T, axis=1)[:, :25]
    assert np.mean([len(np.intersect1d(*pair)) / 25 for pair in zip(near, truth, strict=True)]) > 0.95


def test_the_index_of_some_documents_is_made_in_blocks_of_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = embeddings(1000)
    documents = Packed(
        embeddings=rows, bias=np.zeros(1000, np.float32), offsets=np.array([0, 10, 10, 400, 405, 990, 1000])
    )
    whole = neighbours.build(documents, threads=1)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 20)
    np.testing.assert_array_equal(
        neighbours.build(documents, threads=1).raw.reconstruct_n(0, 1000), whole.raw.reconstruct_n(0, 1000)
    )


def test_an_extended_index_holds_what_is_there_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "EXACT_ROWS", 100)
    was, new = embeddings(5000), embeddings(800, 1)
    mapped = on_disk(neighbours.build(packed(was), threads=1), tmp_path)
    stays = np.ones(5000, dtype=bool)
    stays[100:900] = stays[4990:] = False
    now = np.where(stays, np.cumsum(stays) - 1, -1)
    extended = neighbours.extend(mapped, now, packed(new), threads=2)
    rows = np.concatenate([was[stays], new])
    assert (
        extended.ntotal == sum(extended.raw.invlists.list_size(cell) for cell in range(extended.raw.nlist)) == len(rows)
    )
    np.testing.assert_array_equal(neighbours.nearest(extended, rows, 1, threads=1)[1][:, 0], np.arange(len(rows)))
    assert np.mean(neighbours.nearest(extended, new, 1, threads=1, probes=1)[1][:, 0] >= stays.sum()) > 0.95
    again = on_disk(extended, tmp_path)
    for one, other in zip(
        *(neighbours.nearest(i, new[:9], 7, threads=1, probes=4) for i in (extended, again)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_an_index_is_extended_while_its_cells_are_as_many_as_they_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = neighbours.build(packed(embeddings(200)), threads=1)
    monkeypatch.setattr(cells, "EXACT_ROWS", 100)
    built = neighbours.build(packed(embeddings(5000)), threads=1)
    assert [neighbours.extendable(built, rows) for rows in (90, 2000, 4500, 6000, 9000)] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert not neighbours.extendable(flat, 200)


def test_a_large_index_is_searched_where_it_lies_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "EXACT_ROWS", 100)
    built, query = neighbours.build(packed(embeddings(5000)), threads=1), embeddings(9, 1)
    mapped = on_disk(built, tmp_path)
    for probes in (1, 4):
        for one, other in zip(
            *(neighbours.nearest(i, query, 7, threads=2, probes=probes) for i in (built, mapped)), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_an_amended_index_finds_what_an_index_of_the_documents_as_they_are_finds() -> None:
    rows, query = embeddings(100), embeddings(5, 1)
    was, new = packed(rows[:60]), packed(rows[60:])
    segments = (
        # Six documents of ten snippets; the second and the fifth are removed, and four documents are added.
        Segment(
            index=neighbours.build(was, threads=1),
            offsets=np.arange(0, 61, 10),
            starts=np.array([0, -1, 10, 20, -1, 30]),
        ),
        Segment(index=neighbours.build(new, threads=1), offsets=np.arange(0, 41, 10), starts=np.arange(40, 80, 10)),
    )
    now = np.concatenate([rows[:10], rows[20:40], rows[50:]])
    found = neighbours.nearest(AmendedIndex(segments), query, 30, threads=1)
    expected = neighbours.nearest(neighbours.build(packed(now), threads=1), query, 30, threads=1)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one[:, :20], other[:, :20], atol=1e-6)
    everything = neighbours.nearest(AmendedIndex(segments), query, 1000, threads=1)[1]
    assert all(sorted(row[row >= 0].tolist()) == list(range(80)) for row in everything)


def test_rows_of_a_removed_document_displace_no_others() -> None:
    rows = embeddings(40)
    index = neighbours.build(packed(np.concatenate([rows[:10], rows])), threads=1)  # documents of ten; the first: twice
    segment = Segment(index=index, offsets=np.arange(0, 51, 10), starts=np.array([-1, 0, 10, 20, 30]))
    found = neighbours.nearest(AmendedIndex((segment,)), rows[:6], 5, threads=1)
    expected = neighbours.nearest(neighbours.build(packed(rows), threads=1), rows[:6], 5, threads=1)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("k", "asked"), [(25, 50), (256, 512), (300, 512), (600, 600)])
def test_no_more_rows_are_asked_for_than_a_gpu_finds(k: int, asked: int) -> None:
    index = SimpleNamespace(
        ntotal=10_000, search=lambda query, k, probes: (np.zeros((1, k), np.float32), np.arange(k)[None])
    )
    segment = Segment(index=index, offsets=np.array([0, 10, 10_000]), starts=np.array([-1, 0]))  # type: ignore[arg-type]
    assert segment.search(embeddings(1), k, 8)[0].shape == (1, asked)


def test_a_saved_index_comes_back_even_after_its_name_is_gone(tmp_path: Path) -> None:
    path = stored(tmp_path)
    with path.open("rb") as file:
        path.unlink()
        np.testing.assert_array_equal(neighbours.load(file).raw.reconstruct_n(0, 50), embeddings(50))


def test_saving_tells_size_and_checksum(tmp_path: Path) -> None:
    path = tmp_path / "index.faiss"
    size, sha256 = neighbours.save(neighbours.build(packed(embeddings(50)), threads=1), path)
    assert size == path.stat().st_size
    with path.open("rb") as file:
        assert sha256 == neighbours.checksum(file)


def test_saving_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="FAISS cannot write the index"):
        neighbours.save(neighbours.build(packed(embeddings(2)), threads=1), tmp_path / "none" / "index.faiss")


@pytest.mark.parametrize("keep", [0, 3, 40, 1000])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = stored(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with path.open("rb") as file, pytest.raises(ValueError, match="FAISS cannot read the index"):
        neighbours.load(file)


class FailingCopy:
    """A copy of an index on a GPU that has failed."""

    def search(self, query: object, k: int, params: object) -> None:
        raise RuntimeError("the GPU is gone")


@pytest.fixture
def emulated_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """FAISS with one GPU. It copies an index to `copy`, or raises `copy`; `original` is the index that it copied."""
    emulated: dict[str, Any] = {"copy": None}

    def copied(resources: object, device: int, original: Any) -> Any:
        emulated["original"] = original
        if isinstance(emulated["copy"], Exception):
            raise emulated["copy"]
        return emulated["copy"] or original

    resources = type("Resources", (), {"setTempMemory": lambda self, size: None})
    for name, value in {
        "get_num_gpus": lambda: 1,
        "StandardGpuResources": resources,
        "index_cpu_to_gpu": copied,
    }.items():
        monkeypatch.setattr(faiss, name, value, raising=False)
    monkeypatch.setattr(gpu, "MIN_ROWS", 50)
    return emulated


def test_a_large_index_goes_to_the_gpu_and_finds_the_same(emulated_gpu: dict[str, Any]) -> None:
    built, query = neighbours.build(packed(embeddings(500)), threads=1), embeddings(30, 1)
    card = neighbours.on_gpu(built)
    assert isinstance(card, GpuIndex)
    for one, other in zip(*(neighbours.nearest(one, query, 5, threads=2) for one in (card, built)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_cells_are_found_without_a_graph_on_the_gpu(
    emulated_gpu: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "EXACT_ROWS", 100)
    query = embeddings(30, 1)
    mapped = on_disk(neighbours.build(packed(embeddings(5000)), threads=1), tmp_path)
    card = neighbours.on_gpu(mapped)
    assert isinstance(faiss.downcast_index(emulated_gpu["original"].quantizer), faiss.IndexFlat)
    on_card, on_cpu = (neighbours.nearest(one, query, 25, threads=1, probes=16) for one in (card, mapped))
    for one, other in zip(on_card, on_cpu, strict=True):
        np.testing.assert_array_equal(one, other)
    few, many = (neighbours.nearest(card, query, 25, threads=1, probes=probes)[0].sum() for probes in (1, 16))
    assert few < many


@pytest.mark.parametrize(("flat", "most"), [(True, gpu.MAX_K), (False, gpu.MAX_CELLS_K)], ids=["flat", "cells"])
def test_the_cpu_is_asked_for_more_than_a_gpu_finds(
    emulated_gpu: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    flat: bool,
    most: int,
) -> None:
    monkeypatch.setattr(cells, "EXACT_ROWS", 3000 if flat else 100)
    built, query = neighbours.build(packed(embeddings(3000)), threads=1), embeddings(3, 1)
    emulated_gpu["copy"] = FailingCopy()
    card = neighbours.on_gpu(built)
    found = neighbours.nearest(card, query, most + 1, threads=1)[1]
    np.testing.assert_array_equal(found, built.search(query, most + 1)[1])
    assert "the GPU is gone" not in caplog.text


@pytest.mark.parametrize(
    ("rows", "budget", "copy", "cause"),
    [
        (40, 1 << 30, None, "fewer than 50 rows"),
        (500, 1000, None, "it needs 0.0 GiB"),
        (500, 1 << 30, RuntimeError("out of memory"), "cannot hold it: out of memory"),
    ],
)
def test_an_index_that_the_gpu_should_not_or_cannot_hold_stays_and_says_why(
    emulated_gpu: dict[str, Any], rows: int, budget: int, copy: object, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    emulated_gpu["copy"] = copy
    built = neighbours.build(packed(embeddings(rows)), threads=1)
    with caplog.at_level(logging.INFO):
        assert neighbours.on_gpu(built, budget_bytes=budget) is built
    assert cause in caplog.text


def test_a_lost_gpu_leaves_the_search_to_the_cpu(
    emulated_gpu: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    emulated_gpu["copy"] = FailingCopy()
    built, query = neighbours.build(packed(embeddings(500)), threads=1), embeddings(3, 1)
    card = neighbours.on_gpu(built)
    among_others = AmendedIndex((Segment(index=card, offsets=np.array([0, 500]), starts=np.array([0])),))
    fell_back = [card.fell_back, among_others.fell_back]
    for _ in range(2):
        np.testing.assert_array_equal(neighbours.nearest(card, query, 5, threads=1)[1], built.search(query, 5)[1])
    assert caplog.text.count("the GPU is gone") == 1
    assert fell_back == [False, False]
    assert [card.fell_back, among_others.fell_back, built.fell_back] == [True, True, False]


@pytest.mark.skipif(neighbours.gpus() == 0, reason="FAISS finds no GPU")
@pytest.mark.parametrize("rows", [200_000, 1_100_000])
def test_the_gpu_finds_what_the_cpu_does(rows: int) -> None:
    built, query = neighbours.build(packed(embeddings(rows)), threads=8), embeddings(100, 1)
    card = neighbours.on_gpu(built)
    assert isinstance(card, GpuIndex)
    for k in (25, gpu.MAX_CELLS_K):
        found = (neighbours.nearest(one, query, k, threads=1, probes=1024)[1] for one in (card, built))
        shared = sum(len(np.intersect1d(*rows)) for rows in zip(*found, strict=True))
        assert shared > 0.999 * k * len(query)
    assert not card.fell_back
