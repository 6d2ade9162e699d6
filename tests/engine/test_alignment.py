"""Every alignment backend computes what `engine.alignment.definition` computes."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import alignment
from engine.alignment import Backend, BackendName, cpu, definition, kernels
from engine.config import Alignment, Normalisation, StepSet
from engine.errors import DeviceError
from engine.values import DIMENSION, Packed

BACKENDS: dict[str, tuple[BackendName, int]] = {
    "definition": ("definition", 1),
    "cpu": ("cpu", 1),
    "cpu-2-threads": ("cpu", 2),
    "gpu": ("gpu", 1),
}
STEP_SETS: tuple[StepSet, ...] = ("classic", "slope", "wide")
STEPS: dict[StepSet, list[tuple[int, int]]] = {
    "classic": [(1, 1), (1, 0), (0, 1)],
    "slope": [(1, 1), (2, 1), (1, 2)],
    "wide": [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3)],
}
NORMALISATIONS: tuple[Normalisation, ...] = ("query", "path")
SETTINGS = [
    Alignment(
        steps=steps,
        whole=whole,
        normalise=normalise,
        jump_penalty=penalty,
        bias_weight=0.0 if penalty == 2.0 else 0.5,
        int8=penalty == 0.25,
    )
    for steps, whole, normalise, penalty in itertools.product(
        STEP_SETS, (False, True), NORMALISATIONS, (np.inf, 2.0, 0.25, 0.0)
    )
] + [
    Alignment(steps=steps, jump_penalty=penalty, rest_price=price, bias_weight=0.5, int8=penalty == 0.25)
    for steps, penalty, price in itertools.product(STEP_SETS, (np.inf, 2.0, 0.25), (0.75, 1.25))
]
MULLER = np.abs(np.subtract.outer([3, 0, 6], [2, 4, 0, 4, 0, 0, 5, 2])).astype(np.float32)
"""Local costs |x - y| of X = (3, 0, 6) and Y = (2, 4, 0, 4, 0, 0, 5, 2); Müller, section 7.2."""
CLASSIC = Alignment(steps="classic", jump_penalty=np.inf)
SLOPE = Alignment(steps="slope", jump_penalty=np.inf)
PUBLISHED_DTW = Alignment(steps="classic", whole=True, normalise="path", jump_penalty=np.inf, bias_weight=0.0)
LENGTHS = [3, 0, 1, 7, 17, 2, 4, 5, 1, 12, 6, 0, 8, 9, 2, 10, 3, 11, 37, 5]
"""Lengths of documents in snippets. There are more documents than SIMD lanes, and their number is no multiple of 16."""

Floats = NDArray[np.float32]


@pytest.fixture(params=BACKENDS, scope="module")
def backend(request: pytest.FixtureRequest) -> Backend:
    name, threads = BACKENDS[request.param]
    try:
        return alignment.choose(name, threads=threads)
    except DeviceError as exc:
        pytest.skip(str(exc))


def described(settings: Alignment) -> str:
    form = "whole" if settings.whole else "part"
    return f"{settings.steps}-{form}-{settings.normalise}-{settings.jump_penalty}-{settings.rest_price}"


@pytest.fixture(params=SETTINGS, ids=described)
def settings(request: pytest.FixtureRequest) -> Alignment:
    chosen: Alignment = request.param
    return chosen


def with_costs(costs: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """A query and a document with exactly the given local costs (without bias), which must be small integers."""
    query = np.eye(len(costs), DIMENSION, dtype=np.float32)
    document = np.zeros((costs.shape[1], DIMENSION), dtype=np.float32)
    document[:, : len(costs)] = 1 - costs.T
    return query, document


def packed(*documents: Floats) -> Packed:
    lengths = [len(document) for document in documents]
    return Packed(
        embeddings=np.concatenate(documents),
        bias=np.zeros(sum(lengths), dtype=np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def random_pairs(lengths: list[int], rows: int, *, ties: bool, half: bool) -> tuple[Floats, Packed]:
    """A query and documents of random embeddings; with `ties` numbers are multiples of 1/4, so sums are exact."""
    rng = np.random.default_rng(0)

    def embeddings(count: int) -> Floats:
        if ties:
            return (rng.integers(-1, 2, (count, DIMENSION)) / 2).astype(np.float32)
        values: Floats = rng.standard_normal((count, DIMENSION)).astype(np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        return values

    total = sum(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    bias = rng.integers(0, 3, total) / 4 if ties else rng.random(total)
    values = embeddings(total)
    stored = values.astype(np.float16) if half else values
    return embeddings(rows), Packed(embeddings=stored, bias=bias.astype(np.float32), offsets=offsets)


def paths(
    rows: int, columns: int, steps: StepSet, jumps: bool, whole: bool, rests: bool
) -> Iterator[tuple[list[tuple[int, int]], int]]:
    """Every path through a small matrix that enters no cell twice: the cells it passes, and its number of jumps."""

    def grow(path: list[tuple[int, int]], jumped: int) -> Iterator[tuple[list[tuple[int, int]], int]]:
        i, j = path[-1]
        if (i == rows - 1 or rests) and (not whole or j == columns - 1):
            yield path, jumped
        for di, dj in STEPS[steps]:
            if i + di < rows and j + dj < columns:
                skipped = [(i + row, j + 1) for row in range(1, di)]
                yield from grow([*path, *skipped, (i + di, j + dj)], jumped)
        if jumps:
            for target in itertools.product(range(i + 1, rows if rests else min(i + 2, rows)), range(columns)):
                yield from grow([*path, target], jumped + 1)

    for start in itertools.product(range(rows if rests else 1), range(1 if whole else columns)):
        yield from grow([start], 0)


def test_subsequence_of_mullers_example_ends_at_index_6_with_cost_2(backend: Backend) -> None:
    query, document = with_costs(MULLER)
    found = backend.align(query, packed(document), CLASSIC)
    assert found.ends.tolist() == [6]
    assert found.costs[0] * 3 == 2


def test_path_of_mullers_example_is_the_books(backend: Backend) -> None:
    query, document = with_costs(MULLER)
    path = backend.path(query, document, np.zeros(8, dtype=np.float32), CLASSIC)
    assert path.tolist() == [[0, 3], [1, 4], [1, 5], [2, 6]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (2, 4), (4, 3), (3, 4)])
def test_definition_equals_brute_force_over_all_paths(shape: tuple[int, int], settings: Alignment) -> None:
    costs = np.random.default_rng(0).integers(0, 9, shape).astype(np.float32)
    settings = replace(settings, rest_price=4.0) if settings.rests else settings
    cost, _, path = definition.best(costs, settings)
    length = shape[0] if settings.normalise == "query" else max(1, len(path))
    jumps = np.isfinite(settings.jump_penalty)
    totals = [
        sum(costs[cell] for cell in cells)
        + (jumped * settings.jump_penalty if jumped else 0)
        + sum(settings.rest_price for _ in range(shape[0] - len({i for i, _ in cells})))
        for cells, jumped in paths(*shape, settings.steps, jumps, settings.whole, settings.rests)
    ]
    assert cost * length == pytest.approx(min(totals, default=np.inf))


@pytest.mark.parametrize(("rows", "half"), [(1, True), (2, False), (11, True)])
def test_cpu_equals_definition_to_the_bit_where_sums_are_exact(settings: Alignment, rows: int, half: bool) -> None:
    query, documents = random_pairs(LENGTHS, rows, ties=True, half=half)
    found, expected = (backend.align(query, documents, settings) for backend in (cpu, definition))
    np.testing.assert_array_equal(found.costs, expected.costs)
    np.testing.assert_array_equal(found.ends, expected.ends)


@pytest.mark.parametrize(("rows", "half"), [(7, False), (9, True)])
def test_cpu_equals_definition_up_to_rounding(settings: Alignment, rows: int, half: bool) -> None:
    query, documents = random_pairs(LENGTHS, rows, ties=False, half=half)
    found, expected = (backend.align(query, documents, settings) for backend in (cpu, definition))
    np.testing.assert_allclose(found.costs, expected.costs, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.ends, expected.ends)


def test_cpu_equals_definition_where_a_document_is_long() -> None:
    query, documents = random_pairs([kernels.LONG], 34, ties=True, half=True)
    found, expected = (backend.align(query, documents, Alignment()) for backend in (cpu, definition))
    np.testing.assert_array_equal(found.costs, expected.costs)
    np.testing.assert_array_equal(found.ends, expected.ends)


@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (9, 4), (19, 40)])
def test_cpu_paths_equal_the_definitions(settings: Alignment, shape: tuple[int, int], ties: bool) -> None:
    query, documents = random_pairs([shape[1]], shape[0], ties=ties, half=False)
    arguments = (query, documents.embeddings, documents.bias, settings)
    np.testing.assert_array_equal(cpu.path(*arguments), definition.path(*arguments))


@pytest.mark.parametrize("length", [16_000, 16_001, 16_040])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_the_path_through_a_lone_document_beyond_16000_snippets_is_that_of_the_query(length: int, half: bool) -> None:
    """Such a document makes a pack of its own, of which costs of 32 query rows are made together (`kernels.LONG`)."""
    document = random_pairs([length], 1, ties=False, half=half)[1]
    played = [*range(8_000, 8_037), *range(length - 41, length), *range(37)]
    query = (
        document.embeddings[played].astype(np.float32)
        + 0.02 * random_pairs([1], len(played), ties=False, half=False)[0]
    )
    path = cpu.path(query, document.embeddings, document.bias, Alignment())
    assert path.tolist() == [[row, snippet] for row, snippet in enumerate(played)]
    local = 1 - np.sum(query * document.embeddings[played].astype(np.float32), axis=1)
    expected = (local + Alignment().bias_weight * document.bias[played]).sum() + 2 * Alignment().jump_penalty
    found = cpu.align(query, document, Alignment())
    assert (found.costs[0] * len(played), found.ends[0]) == (pytest.approx(expected, rel=1e-3), 36)


@pytest.mark.parametrize("count", [1, 3, 17])
def test_a_document_costs_the_same_in_any_company(settings: Alignment, count: int) -> None:
    query, documents = random_pairs(LENGTHS, 13, ties=False, half=True)
    some = np.random.default_rng(0).permutation(len(documents))[:count]
    found, expected = (cpu.align(query, packed, settings) for packed in (documents.take(some), documents))
    np.testing.assert_array_equal(found.costs, expected.costs[some])
    np.testing.assert_array_equal(found.ends, expected.ends[some])


def test_a_query_costs_the_same_in_any_company(settings: Alignment) -> None:
    queries = [random_pairs([1], rows, ties=False, half=True)[0] for rows in (1, 13, 4, 40)]
    documents = random_pairs(LENGTHS, 1, ties=False, half=True)[1]
    for together, query in zip(cpu.align_many(queries, documents, settings, threads=2), queries, strict=True):
        alone = cpu.align(query, documents, settings)
        np.testing.assert_array_equal(together.costs, alone.costs)
        np.testing.assert_array_equal(together.ends, alone.ends)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_rounding_to_bytes_is_the_definitions_for_every_value(half: bool) -> None:
    values = np.linspace(-1, 1, 64 * DIMENSION, dtype=np.float32).reshape(64, DIMENSION)
    stored = values.astype(np.float16) if half else values
    query = (np.eye(DIMENSION, dtype=np.float32) - np.eye(DIMENSION, k=1, dtype=np.float32)).astype(np.float32)
    documents = replace(packed(*np.split(values, 64)), embeddings=stored)
    for row in query:
        found, expected = (
            backend.align(row[None], documents, Alignment(int8=True)).costs for backend in (cpu, definition)
        )
        np.testing.assert_array_equal(found, expected)


def test_rounding_to_bytes_changes_costs_little(backend: Backend) -> None:
    query, documents = random_pairs([30] * 5, 12, ties=False, half=True)
    rounded, exact = (backend.align(query, documents, Alignment(int8=int8)).costs for int8 in (True, False))
    assert (rounded != exact).any()
    np.testing.assert_allclose(rounded, exact, atol=0.01)


def test_a_path_costs_what_its_cells_and_jumps_cost(backend: Backend) -> None:
    settings = Alignment(steps="slope", jump_penalty=0.25)
    query, documents = random_pairs([30], 12, ties=True, half=False)
    local = definition.local_costs(query, documents.embeddings, documents.bias, settings)
    path = backend.path(query, documents.embeddings, documents.bias, settings)
    moves = np.diff(path, axis=0)
    jumps = sum(tuple(move) not in {(1, 0), (1, 1), (1, 2)} for move in moves.tolist())
    assert path[:, 0].tolist() == list(range(12))
    assert jumps > 0
    assert backend.align(query, documents, settings).costs[0] * 12 == pytest.approx(
        local[path[:, 0], path[:, 1]].sum() + 0.25 * jumps
    )


def test_a_repeat_the_document_does_not_write_out_is_found_by_a_jump(backend: Backend) -> None:
    played = [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]
    document = np.eye(6, DIMENSION, dtype=np.float32)
    path = backend.path(document[played], document, np.zeros(6, dtype=np.float32), Alignment(jump_penalty=0.5))
    assert path[:, 1].tolist() == played


def test_rows_that_fit_nowhere_rest_before_within_and_after_what_matches(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    document, noise = rows[:20], rows[20:]
    query = np.concatenate([noise[:5], document[3:9], noise[5:12], document[9:15], noise[12:]])
    settings = Alignment(jump_penalty=1.0, rest_price=0.25, bias_weight=0.0)
    played = [*range(5, 11), *range(18, 24)]
    path = backend.path(query, document, np.zeros(20, dtype=np.float32), settings)
    assert path.tolist() == [[row, snippet] for row, snippet in zip(played, range(3, 15), strict=True)]
    found = backend.align(query, packed(document), settings)
    assert found.ends.tolist() == [14]
    assert found.costs[0] * len(query) == pytest.approx(0.25 * 20 + 1.0, abs=1e-3)


def test_rests_that_cost_more_than_any_path_change_nothing(backend: Backend) -> None:
    query, documents = random_pairs(LENGTHS, 11, ties=True, half=True)
    found, expected = (
        backend.align(query, documents, Alignment(steps="classic", rest_price=price)) for price in (1e6, np.inf)
    )
    np.testing.assert_array_equal(found.costs, expected.costs)
    np.testing.assert_array_equal(found.ends, expected.ends)


@pytest.mark.parametrize("wrong", [{"whole": True}, {"normalise": "path"}, {"rest_price": -0.5}], ids=str)
def test_rests_where_nothing_can_be_left_out_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rest_price: expected (infinity|0 or more)"):
        Alignment(**{"rest_price": 0.5} | wrong)


def test_slope_steps_charge_the_skipped_query_row(backend: Backend) -> None:
    costs = np.array([[0, 9, 9], [9, 5, 9], [9, 0, 9], [9, 9, 0]])
    query, document = with_costs(costs)
    assert backend.align(query, packed(document), SLOPE).costs[0] * 4 == 5


def test_slope_steps_leave_a_document_snippet_out_for_nothing(backend: Backend) -> None:
    query, document = with_costs(np.array([[0, 9, 9], [9, 9, 0]]))
    assert backend.align(query, packed(document), SLOPE).costs[0] == 0


def test_wide_steps_follow_music_thrice_as_slow_or_as_fast(backend: Backend) -> None:
    slow = np.array([[0, 9], [9, 1], [9, 2], [9, 0]])
    for costs, cost in ((slow, 3), (np.array([[0, 9, 9, 9], [9, 9, 9, 0]]), 0)):
        query, document = with_costs(costs)
        wide = Alignment(steps="wide", jump_penalty=np.inf)
        assert backend.align(query, packed(document), wide).costs[0] * len(costs) == cost
        assert backend.align(query, packed(document), SLOPE).costs[0] * len(costs) > cost


def test_no_path_is_an_infinite_cost_without_an_end(backend: Backend) -> None:
    query, document = with_costs(np.ones((5, 2)))
    found = backend.align(query, packed(document, document[:0]), SLOPE)
    assert np.isinf(found.costs).all()
    assert found.ends.tolist() == [-1, -1]
    assert backend.path(query, document, np.zeros(2, dtype=np.float32), SLOPE).shape == (0, 2)


def test_no_documents_give_no_alignments(backend: Backend) -> None:
    query, document = with_costs(np.ones((5, 2)))
    assert backend.align(query, packed(document[:0]).take(np.array([], dtype=np.int64)), SLOPE).costs.shape == (0,)


@pytest.mark.parametrize(("whole", "normalise", "cost"), [(True, "path", 1), (True, "query", 1.5), (False, "path", 1)])
def test_the_cost_is_that_of_a_cell_or_of_a_query_row(
    backend: Backend, whole: bool, normalise: Normalisation, cost: float
) -> None:
    query, document = with_costs(np.array([[1, 9, 9], [9, 1, 1]]))
    settings = Alignment(steps="classic", whole=whole, normalise=normalise, jump_penalty=np.inf)
    assert backend.align(query, packed(document), settings).costs[0] == cost


def test_published_sdtw_is_librosas(backend: Backend) -> None:
    librosa_sequence = pytest.importorskip("librosa.sequence", reason="librosa is not installed")
    query, documents = random_pairs([40] * 18, 13, ties=False, half=True)
    settings = Alignment(steps="classic", jump_penalty=np.inf, bias_weight=0.0)
    found = backend.align(query, documents, settings)
    for b in range(18):
        document = documents.embeddings[40 * b : 40 * b + 40].astype(np.float32)
        totals, _ = librosa_sequence.dtw(C=1 - query @ document.T, subseq=True)
        assert found.costs[b] * 13 == pytest.approx(totals[-1].min(), abs=1e-4)
        assert found.ends[b] == totals[-1].argmin()


def test_published_dtw_is_librosas(backend: Backend) -> None:
    librosa_sequence = pytest.importorskip("librosa.sequence", reason="librosa is not installed")
    query, documents = random_pairs([30] * 18, 13, ties=False, half=True)
    found = backend.align(query, documents, PUBLISHED_DTW)
    for b in range(18):
        document = documents.embeddings[30 * b : 30 * b + 30].astype(np.float32)
        totals, path = librosa_sequence.dtw(C=1 - query @ document.T)
        assert found.costs[b] == pytest.approx(totals[-1, -1] / len(path), abs=1e-5)
        np.testing.assert_array_equal(backend.path(query, document, documents.bias[:30], PUBLISHED_DTW), path[::-1])


@pytest.mark.parametrize("query", [np.zeros((0, 32), np.float32), np.zeros((3, 31), np.float32), np.zeros((3, 32))])
def test_a_query_of_another_shape_or_type_is_refused(backend: Backend, query: NDArray[np.floating]) -> None:
    with pytest.raises(ValueError, match=r"query must be float32 \(N, 32\) with N >= 1"):
        backend.align(query, packed(np.zeros((2, 32), np.float32)), SLOPE)


def test_threads_share_many_documents_without_changing_the_result() -> None:
    query, documents = random_pairs([300, 0, 200, 5, 700] * 20, 60, ties=False, half=True)
    one = cpu.align(query, documents, Alignment())
    four = cpu.align(query, documents, Alignment(), threads=4)
    np.testing.assert_array_equal(one.costs, four.costs)
    np.testing.assert_array_equal(one.ends, four.ends)


def test_several_queries_at_once_are_aligned_as_each_alone(backend: Backend) -> None:
    queries = [random_pairs([1], rows, ties=True, half=False)[0] for rows in (1, 5, 8)]
    documents = random_pairs([9, 0, 40], 1, ties=True, half=True)[1]
    found = backend.align_many(queries, documents, Alignment())
    for one, query in zip(found, queries, strict=True):
        alone = backend.align(query, documents, Alignment())
        np.testing.assert_array_equal(one.costs, alone.costs)
        np.testing.assert_array_equal(one.ends, alone.ends)
    assert backend.align_many([], documents, Alignment()) == ()


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend must be auto, cpu, gpu or definition, got tpu"):
        alignment.choose("tpu")  # type: ignore[arg-type]
