"""The GPU's alignment: its kernels on the CPU, what the compiler says of them, and, where there is a card, on that."""

import itertools
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cuda_compiler import compile_cuda, compiler
from emulated_cupy import COMPILER, DeviceFailure, EmulatedCupy, OutOfMemory
from engine import alignment
from engine.alignment import Alignments, cpu, definition, gpu
from engine.config import Alignment
from engine.errors import DeviceError
from engine.values import DIMENSION, Embeddings, Packed

SOURCE = Path(gpu.__file__).with_suffix(".cu")
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
        ("wide", "slope", "classic"), (False, True), ("query", "path"), (np.inf, 2.0, 0.25)
    )
]
emulated = pytest.mark.skipif(COMPILER is None, reason="there is no g++ to compile the kernels for the CPU")


def sequences(lengths: list[int], rng: np.random.Generator, *, ties: bool) -> Packed:
    """Random embeddings; with `ties` small multiples of 1/4, so that sums are exact and many are equal."""
    count = sum(lengths)
    if ties:
        values = (rng.integers(-1, 2, (count, DIMENSION)) / 2).astype(np.float32)
        bias = (rng.integers(0, 3, count) / 4).astype(np.float32)
    else:
        values = rng.standard_normal((count, DIMENSION)).astype(np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        bias = rng.random(count, dtype=np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Packed(embeddings=values.astype(np.float16), bias=bias, offsets=offsets)


def queries(lengths: list[int], rng: np.random.Generator, *, ties: bool) -> list[Embeddings]:
    packed = sequences(lengths, rng, ties=ties)
    return np.split(packed.embeddings.astype(np.float32), packed.offsets[1:-1])


def refuse(asked: object, documents: Packed, settings: Alignment) -> tuple[Alignments, ...]:
    raise AssertionError("the CPU was asked")


def emulation(most_cells: int = 4, cupy: EmulatedCupy | None = None, *, three_way: bool = True) -> gpu.Gpu:
    return gpu.Gpu(cupy or EmulatedCupy(), refuse, most_cells=most_cells, three_way=three_way)


def assert_same(found: Alignments, expected: Alignments, *, exact: bool) -> None:
    """Costs alike, and the same ends, unless another is as cheap within the tolerance (random costs do not tie)."""
    if exact:
        np.testing.assert_array_equal(found.costs, expected.costs)
    else:
        np.testing.assert_allclose(found.costs, expected.costs, rtol=1e-6, atol=gpu.TOLERANCE)
    np.testing.assert_array_equal(found.ends, expected.ends)


@emulated
@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_kernels_on_the_cpu_equal_the_definition(settings: Alignment, ties: bool) -> None:
    rng = np.random.default_rng(0)
    documents = sequences([3, 0, 1, 40, 2, 7], rng, ties=ties)
    asked = queries([1, 11], rng, ties=ties)
    expected = definition.align_many(asked, documents, settings)
    for found, wanted in zip(emulation().align_many(asked, documents, settings), expected, strict=True):
        assert_same(found, wanted, exact=ties)


@emulated
@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("cells", [*range(gpu.FEWEST_CELLS, gpu.MOST_CELLS + 1), gpu.MOST_BYTE_CELLS])
def test_documents_of_any_length_equal_the_cpus_whatever_a_thread_holds(cells: int, ties: bool) -> None:
    rng = np.random.default_rng(cells)
    limits = [gpu.LANES * cells * warps for warps in (1, 2, gpu.WARPS)]
    lengths = [*rng.integers(1, 300, 2).tolist(), *limits, limits[-1] + 1, 0]
    documents, asked = sequences(lengths, rng, ties=ties), queries([rng.integers(2, 25), 8], rng, ties=ties)
    settings = Alignment(jump_penalty=0.25, bias_weight=0.5, int8=cells > gpu.MOST_CELLS)
    expected = cpu.align_many(asked, documents, settings)
    for found, wanted in zip(emulation(cells).align_many(asked, documents, settings), expected, strict=True):
        assert_same(found, wanted, exact=ties)


@emulated
def test_local_costs_below_zero_and_minima_of_two_make_no_difference() -> None:
    rng = np.random.default_rng(0)
    documents = sequences([60, 5, 200], rng, ties=True)
    documents = replace(documents, bias=documents.bias - 9)
    asked, settings = queries([14], rng, ties=True)[0], Alignment(bias_weight=1.0, jump_penalty=0.25)
    expected = cpu.align(asked, documents, settings)
    assert expected.costs.max() < -1
    for three_way in (True, False):
        assert_same(emulation(three_way=three_way).align(asked, documents, settings), expected, exact=True)


@emulated
def test_a_packed_is_sent_once_and_forgotten_with_its_owner() -> None:
    rng = np.random.default_rng(0)
    documents, asked = sequences([5, 70], rng, ties=True), queries([4], rng, ties=True)[0]
    cupy = EmulatedCupy()
    card = emulation(cupy=cupy)
    sent = []
    for _ in range(3):
        card.align(asked, documents, Alignment())
        sent.append(cupy.sent)
    assert sent[2] - sent[1] == sent[1] - sent[0] < sent[0]
    del documents
    assert not card._residents


@emulated
def test_a_query_of_float32_loses_no_digits() -> None:
    rng = np.random.default_rng(0)
    documents = sequences([300] * 5, rng, ties=False)
    asked = rng.standard_normal((6, DIMENSION)).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    found, expected = (one.align(asked, documents, Alignment()) for one in (emulation(), cpu))
    np.testing.assert_allclose(found.costs, expected.costs, atol=1e-6)


@pytest.mark.parametrize(("failure", "lost"), [(OutOfMemory, False), (DeviceFailure, True)])
def test_what_the_card_cannot_do_the_cpu_does(
    failure: type[Exception], lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    documents, asked = sequences([5, 70], rng, ties=True), queries([4], rng, ties=True)[0]
    cupy = EmulatedCupy()
    card = gpu.Gpu(cupy, cpu.align_many)
    cupy.fails = failure("it said so")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_same(card.align(asked, documents, Alignment()), cpu.align(asked, documents, Alignment()), exact=True)
    assert [record.message.endswith("it said so") for record in caplog.records] == [True] * (1 if lost else 2)


def test_each_document_is_in_one_launch_that_holds_it() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 3000, 20_000)
    launches, longest = list(gpu.sizes(lengths, gpu.MOST_CELLS)), gpu.LANES * gpu.WARPS * gpu.MOST_CELLS
    for warps, cells, documents in launches:
        assert lengths[documents].max() <= warps * cells * gpu.LANES <= longest
        assert len(documents) >= gpu.FEW or (warps, cells) == launches[-1][:2]
    found = np.sort(np.concatenate([documents for _, _, documents in launches]))
    np.testing.assert_array_equal(found, np.flatnonzero((lengths > 0) & (lengths <= longest)))


@pytest.mark.skipif(compiler() is None, reason="neither NVRTC nor nvcc is installed")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize(
    "options", ["-DCELLS=3 -DWIDE=1 -DJUMPS=1 -DBYTES=0 -DTHREE=1", "-DCELLS=10 -DWIDE=0 -DJUMPS=0 -DBYTES=1 -DTHREE=0"]
)
def test_the_kernels_compile_for_cards_that_are_not_here(architecture: str, options: str) -> None:
    assert len(compile_cuda(SOURCE, architecture, options.split())) > 10_000


def card_or_skip() -> alignment.Backend:
    try:
        return alignment.choose("gpu")
    except DeviceError as exc:
        pytest.skip(str(exc))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_card_equals_the_cpu_on_many_documents(settings: Alignment) -> None:
    backend, rng = card_or_skip(), np.random.default_rng()
    documents = sequences(rng.integers(1, 3000, 400).tolist(), rng, ties=False)
    asked = queries(rng.integers(1, 300, 4).tolist(), rng, ties=False)
    for query, found in zip(asked, backend.align_many(asked, documents, settings), strict=True):
        expected = cpu.align(query, documents, settings, threads=4)
        same = np.isclose(found.costs, expected.costs, rtol=1e-5, atol=gpu.TOLERANCE)
        # Of ways alike to the seventh digit either is taken: it may end elsewhere, or pass another number of cells.
        assert np.count_nonzero(~same) <= (8 if settings.normalise == "path" else 0)
        assert np.count_nonzero(found.ends != expected.ends) <= 4


@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("longest", [90, 300, 1000])
def test_the_card_equals_the_cpu_on_a_few_documents(longest: int, ties: bool) -> None:
    backend, rng = card_or_skip(), np.random.default_rng(longest)
    documents = sequences([longest, *rng.integers(0, longest, 9).tolist()], rng, ties=ties)
    asked = queries([1, 17, 92], rng, ties=ties)
    expected = cpu.align_many(asked, documents, Alignment())
    for found, wanted in zip(backend.align_many(asked, documents, Alignment()), expected, strict=True):
        assert_same(found, wanted, exact=ties)


def test_without_a_card_gpu_is_refused_and_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(fallback: object) -> gpu.Gpu:
        raise DeviceError("no card")

    monkeypatch.setattr(gpu, "open_card", none)
    with pytest.raises(DeviceError, match="no card"):
        alignment.choose("gpu")
    assert (alignment.choose().name, alignment.choose().reason) == ("cpu", "no card")
