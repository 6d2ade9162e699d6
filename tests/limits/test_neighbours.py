"""How indexes are made and searched, as shipped: each limit is reached, and then passed by one."""

from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from collection_samples import embeddings, packed
from engine import neighbours
from engine.neighbours import CellIndex, FlatIndex, GpuIndex, cells, gpu
from engine.neighbours.blocks import blocks
from engine.neighbours.interface import Neighbours
from engine.values import Embeddings, Packed

GIB = 1 << 30

Built = tuple[CellIndex, Embeddings, dict[str, Any]]


def empty(*lengths: int) -> Packed:
    """Documents of so many snippets, all zero, which share one in memory."""
    total = sum(lengths)
    rows = np.broadcast_to(np.zeros((1, 32), np.float16), (total, 32))
    offsets = np.cumsum([0, *lengths])
    return Packed(embeddings=rows, bias=np.broadcast_to(np.float32(0), (total,)), offsets=offsets)


# --- cells ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (0, 0),
        (250_000, 0),
        (250_001, 1024),
        (434_446, 1024),  # 2^10.5 cells of 300
        (434_447, 2048),
        (27_804_570, 65_536),  # 2^16.5
        (27_804_571, 131_072),
    ],
)
def test_an_index_has_cells_of_some_300_rows_from_a_quarter_of_a_million_on(rows: int, count: int) -> None:
    assert cells.cell_count(rows) == count


def test_what_is_flat_and_what_has_cells_is_decided_by_the_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "build", lambda documents, *, threads: "cells")
    monkeypatch.setattr(neighbours.flat, "build", lambda documents: "flat")
    assert [neighbours.build(empty(100_000, rows), threads=1) for rows in (150_000, 150_001)] == ["flat", "cells"]


@pytest.fixture(scope="module")
def built() -> Built:
    """An index of 64 cells, its rows, and what its centroids were learnt from."""
    rows, told = embeddings(20_000), {}

    def learnt(sample: Embeddings, count: int) -> tuple[Embeddings, Any]:
        told.update(sample=len(sample), count=count)
        return learn(sample, count)

    with pytest.MonkeyPatch.context() as patch:
        learn = cells.learn
        patch.setattr(cells, "learn", learnt)
        patch.setattr(cells, "EXACT_ROWS", 100)
        index = neighbours.build(packed(rows), threads=1)
    assert isinstance(index, CellIndex)
    return index, rows, told


def test_a_centroid_is_learnt_from_40_rows(built: Built) -> None:
    assert built[2] == {"sample": 40 * 64, "count": 64}


def test_nine_rows_in_ten_lie_in_the_cell_whose_centroid_is_nearest(
    built: Built,
) -> None:
    index, rows, _ = built
    centroids = index.raw.quantizer.reconstruct_n(0, index.raw.nlist)
    nearest = np.argmax(rows @ centroids.T, axis=1)
    lists = index.raw.invlists
    own = [faiss.rev_swig_ptr(lists.get_ids(cell), lists.list_size(cell)).copy() for cell in range(index.raw.nlist)]
    found = np.empty(len(rows), np.int64)
    for cell, numbers in enumerate(own):
        found[numbers] = cell
    assert np.mean(found == nearest) > 0.9


def test_the_graph_over_the_centroids_has_16_links_a_node_and_was_built_with_80_in_view(
    built: Built,
) -> None:
    graph = faiss.downcast_index(built[0].raw.quantizer).hnsw
    assert (graph.nb_neighbors(1), graph.efConstruction) == (16, 80)


def test_64_cells_are_searched_unless_the_caller_says_otherwise(
    built: Built,
) -> None:
    asked: list[int] = []

    class Asked(FlatIndex):
        def search(self, query: Embeddings, k: int, probes: int = 0) -> Neighbours:
            asked.append(probes)
            return super().search(query, k, probes)

    neighbours.nearest(Asked(), embeddings(2), 1, threads=1)
    assert (asked, built[0].raw.nprobe) == ([64], 64)


# --- work shared and cut up -------------------------------------------------------------------------------------------


def test_six_query_snippets_are_worth_a_thread() -> None:
    parts: list[int] = []

    class Shared(FlatIndex):
        def search(self, query: Embeddings, k: int, probes: int = 0) -> Neighbours:
            parts.append(len(query))
            return super().search(query, k, probes)

    index = Shared(neighbours.build(packed(embeddings(5)), threads=1).raw)
    for length, expected in ((11, [11]), (12, [6, 6]), (17, [8, 9]), (18, [6, 6, 6])):
        parts.clear()
        neighbours.nearest(index, embeddings(length), 1, threads=3)
        assert sorted(parts) == expected


def test_a_block_has_262_144_rows_of_whole_documents() -> None:
    sizes = [[len(block) for block in blocks(empty(1 << 17, last, 5))] for last in (1 << 17, (1 << 17) + 1)]
    assert sizes == [[1 << 18, 5], [1 << 17, (1 << 17) + 6]]


# --- GPUs -------------------------------------------------------------------------------------------------------------


class Counted(FlatIndex):
    """An index of so many rows, of which none is in memory."""

    def __init__(self, rows: int, row_bytes: int = 128) -> None:
        self._rows = rows
        self.raw = type("Raw", (), {"sa_code_size": lambda self: row_bytes})()

    @property
    def ntotal(self) -> int:
        return self._rows


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpus", lambda: 1)
    monkeypatch.setattr(gpu, "GpuIndex", lambda index: "on the GPU")


@pytest.mark.usefixtures("one_gpu")
@pytest.mark.parametrize(
    ("rows", "row_bytes", "moved"),
    [
        (99_999, 120, False),
        (100_000, 120, True),
        (8 * GIB // 128, 120, True),  # with 8 bytes for its number
        (8 * GIB // 128 + 1, 120, False),
    ],
)
def test_an_index_of_a_hundred_thousand_rows_and_eight_gib_goes_to_the_gpu(
    rows: int, row_bytes: int, moved: bool
) -> None:
    assert (neighbours.on_gpu(Counted(rows, row_bytes)) == "on the GPU") == moved


@pytest.mark.parametrize(("number", "most"), [(0, 2048), (3, 512)], ids=["flat", "cells"])
def test_a_search_on_the_gpu_has_256_mib_of_memory_and_finds_2048_neighbours_or_512_in_cells(
    number: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch: list[int] = []
    resources = type("Resources", (), {"setTempMemory": lambda self, size: scratch.append(size)})
    monkeypatch.setattr(faiss, "StandardGpuResources", resources, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda resources, device, original: "copy", raising=False)
    asked: list[tuple[str, int, int]] = []

    class Noted(FlatIndex):
        cells = number

        def search(self, query: Embeddings, k: int, probes: int = 0) -> Neighbours:
            asked.append(("copy" if self.raw == "copy" else "original", k, probes))
            none: NDArray[np.int64] = np.empty((0, k), np.int64)
            return none.astype(np.float32), none

    card = GpuIndex(Noted())
    for k, probes in ((most, 2048), (most + 1, 1), (1, 2049)):
        card.search(embeddings(1), k, probes)
    assert scratch == [256 << 20]
    assert asked == [("copy", most, 2048), ("original", most + 1, 1), ("original", 1, 2049)]
