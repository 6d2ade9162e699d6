"""Chains of documents: the definition, and the stages that compute the same."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.alignment import chain_definition
from engine.alignment.chains import Link, Stage, State, advanced, chain, links
from engine.alignment.definition import local_costs
from engine.config import Alignment
from engine.values import DIMENSION, Embeddings, Packed

RESTS = Alignment(rest_price=0.5, jump_penalty=0.75, bias_weight=0.25)


def _packed(lengths: list[int], rng: np.random.Generator) -> Packed:
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    bias = rng.integers(-4, 5, offsets[-1]).astype(np.float32) / 8
    return Packed(embeddings=_coarse(int(offsets[-1]), rng), bias=bias, offsets=offsets)


def _coarse(count: int, rng: np.random.Generator) -> Embeddings:
    """Embeddings whose products and their sums are exact in float32, with many ties."""
    embeddings = np.zeros((count, DIMENSION), dtype=np.float32)
    embeddings[:, :3] = rng.integers(-2, 3, (count, 3)) / 4
    return embeddings


def _defined(
    query: Embeddings, stages: list[Stage], documents: Packed, settings: Alignment, entry_price: float
) -> list[Link]:
    costs = local_costs(query, documents.embeddings, documents.bias, settings)
    owners = np.repeat(np.arange(len(documents)), np.diff(documents.offsets))
    first = 0
    for stage in stages:
        costs[first : first + stage.rows, ~np.isin(owners, stage.documents)] = np.inf
        first += stage.rows
    return chain_definition.best(costs, documents.offsets, settings, entry_price)[1]


def _same(links: list[Link], others: list[Link]) -> bool:
    pairs = [[(link.document, link.path.tolist()) for link in one] for one in (links, others)]
    return pairs[0] == pairs[1]


@pytest.mark.parametrize("seed", range(60))
def test_stages_compute_what_the_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    documents = _packed(rng.integers(1, 9, 4).tolist(), rng)
    stages = [Stage(rows=int(rng.integers(1, 7)), documents=np.flatnonzero(rng.random(4) < 0.8)) for _ in range(3)]
    query = _coarse(sum(stage.rows for stage in stages), rng)
    settings = Alignment(
        steps=("wide", "slope")[seed % 2],  # type: ignore[arg-type]
        rest_price=float(rng.integers(4, 9)) / 8,
        jump_penalty=float(rng.integers(0, 5)) / 4,
        bias_weight=0.25,
    )
    price = float(rng.integers(0, 6)) / 4
    assert _same(chain(query, stages, documents, settings, price), _defined(query, stages, documents, settings, price))


@pytest.mark.parametrize("seed", range(40))
def test_a_query_that_goes_on_has_the_chain_of_the_whole_query(seed: int) -> None:
    """Rows are settled after the first part. The chain is traced from the end of the second part, whose rows it has."""
    rng = np.random.default_rng(seed)
    documents = _packed(rng.integers(1, 9, 3).tolist(), rng)
    sizes = rng.integers(1, 7, 3).tolist()
    query, kept = _coarse(sum(sizes), rng), sizes[0] + sizes[1]
    settings = Alignment(steps=("wide", "slope")[seed % 2], rest_price=0.625, jump_penalty=0.75, bias_weight=0.25)  # type: ignore[arg-type]
    every = np.arange(3)
    whole = _defined(query, [Stage(rows=len(query), documents=every)], documents, settings, 0.5)
    begun, _ = advanced(
        State.begun(), query[:kept], sizes[0], Stage(rows=kept, documents=every), documents, settings, 0.5
    )
    rest = query[sizes[0] :]
    after, cells = advanced(begun, rest, 0, Stage(rows=len(rest), documents=every), documents, settings, 0.5)
    assert after is begun
    expected = [(one.document, *cell) for one in whole for cell in one.path.tolist() if cell[0] >= sizes[0]]
    assert [(document, row + sizes[0], snippet) for row, document, snippet, _ in cells.tolist()] == expected


def test_the_way_of_settled_rows_is_traced_with_the_others() -> None:
    rng = np.random.default_rng(0)
    documents, query = _packed([6, 5], rng), _coarse(12, rng)
    stage = Stage(rows=12, documents=np.arange(2))
    _, cells = advanced(State.begun(), query, 7, stage, documents, RESTS, 0.5)
    assert _same(links(cells), _defined(query, [stage], documents, RESTS, 0.5))


def test_settled_rows_are_fewer_than_the_query_has() -> None:
    rng = np.random.default_rng(0)
    documents, query = _packed([6, 5], rng), _coarse(12, rng)
    with pytest.raises(ValueError, match="fewer settled rows than the 12"):
        advanced(State.begun(), query, 12, Stage(rows=12, documents=np.arange(2)), documents, RESTS, 0.5)


def _one_hot(places: list[int]) -> Embeddings:
    embeddings: Embeddings = np.eye(DIMENSION, dtype=np.float32)[places]
    return embeddings


def _pieces() -> Packed:
    """Two documents, each of five snippets of its own."""
    return Packed(
        embeddings=_one_hot(list(range(10))),
        bias=np.zeros(10, np.float32),
        offsets=np.array([0, 5, 10], dtype=np.int64),
    )


def _parts(query: list[int], entry_price: float = 1.0) -> list[tuple[int, list[int], list[int]]]:
    """Document, query rows and snippets of each link of a query of one-hot snippets in stages of four rows."""
    rows: NDArray[np.float32] = _one_hot(query)
    counts = [min(4, len(rows) - first) for first in range(0, len(rows), 4)]
    stages = [Stage(rows=count, documents=np.arange(2)) for count in counts]
    links = chain(rows, stages, _pieces(), RESTS, entry_price)
    return [(link.document, link.path[:, 0].tolist(), link.path[:, 1].tolist()) for link in links]


def test_what_is_like_no_document_is_left_out_between_links() -> None:
    found = _parts([20, 21, 0, 1, 2, 3, 4, 22, 23, 24, 5, 6, 7, 8, 9, 25])
    assert found == [(0, [2, 3, 4, 5, 6], [0, 1, 2, 3, 4]), (1, [10, 11, 12, 13, 14], [0, 1, 2, 3, 4])]


def test_music_that_follows_without_a_pause_is_a_link_of_its_own() -> None:
    assert [part[0] for part in _parts([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])] == [0, 1]


def test_music_that_begins_again_is_one_link_with_a_jump() -> None:
    assert _parts([0, 1, 2, 0, 1, 2, 3, 4]) == [(0, list(range(8)), [0, 1, 2, 0, 1, 2, 3, 4])]


def test_less_than_an_entry_saves_is_left_out() -> None:
    assert _parts([20, 0, 21, 22], entry_price=1.0) == []
    assert len(_parts([20, 0, 1, 2, 21], entry_price=1.0)) == 1


def test_a_document_that_no_stage_lists_is_not_entered() -> None:
    stages = [Stage(rows=5, documents=np.array([1])), Stage(rows=5, documents=np.array([], dtype=np.int64))]
    links = chain(_one_hot([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), stages, _pieces(), RESTS, 1.0)
    assert links == []


def test_arguments_that_do_not_fit_are_refused() -> None:
    query, stages = _one_hot([0, 1]), [Stage(rows=3, documents=np.arange(2))]
    with pytest.raises(ValueError, match="stages of 2 rows together, got \\[3\\]"):
        chain(query, stages, _pieces(), RESTS, 1.0)
    with pytest.raises(ValueError, match="a price of rests"):
        chain(query, [Stage(rows=2, documents=np.arange(2))], _pieces(), Alignment(), 1.0)


def test_memory_does_not_grow_with_the_query() -> None:
    rng = np.random.default_rng(0)
    documents = _packed([500] * 8, rng)
    peaks = []
    for count in (2, 8):
        query, stages = _coarse(400 * count, rng), [Stage(rows=400, documents=np.arange(8))] * count
        chain(query, stages, documents, RESTS, 1.0)  # compiles the kernels
        tracemalloc.start()
        chain(query, stages, documents, RESTS, 1.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_rounding_does_not_grow_with_the_query() -> None:
    rng = np.random.default_rng(0)
    documents = _pieces()
    passage = [0, 1, 2, 3, 4] * 3
    query = np.concatenate([_one_hot(rng.integers(10, 32, 40_000).tolist()), _one_hot(passage)])
    stages = [Stage(rows=count, documents=np.arange(2)) for count in (20_000, 20_015)]
    (link,) = chain(query, stages, documents, RESTS, 1.0)
    assert link.path[:, 0].tolist() == list(range(40_000, 40_015))
