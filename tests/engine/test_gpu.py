"""The GPU backend: its kernels emulated on the CPU, their compilation, and their results on a GPU if there is one."""

import itertools
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuda_compiler import compile_cuda, compiler
from emulated_cupy import COMPILER, DeviceFailure, EmulatedCupy, OutOfMemory
from engine import alignment
from engine.alignment import Alignments, cpu, definition, gpu
from engine.config import Alignment, StepSet
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
] + [
    Alignment(steps=steps, jump_penalty=penalty, rest_price=price, bias_weight=0.5, int8=penalty == 0.25)
    for steps, penalty, price in itertools.product(("wide", "slope", "classic"), (np.inf, 2.0, 0.25), (0.75, 1.25))
]
emulated = pytest.mark.skipif(COMPILER is None, reason="there is no g++ to compile the kernels for the CPU")


def sequences(lengths: list[int], rng: np.random.Generator, *, ties: bool) -> Packed:
    """Documents of random embeddings; with `ties` numbers are multiples of 1/4: sums are exact, and many tie."""
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


def fail(queries: object, documents: Packed, settings: Alignment) -> tuple[Alignments, ...]:
    raise AssertionError("the GPU backend fell back to the CPU")


def emulation(max_words: int = 4, cupy: EmulatedCupy | None = None, *, halves: bool = True) -> gpu.Gpu:
    return gpu.Gpu(cupy or EmulatedCupy(), fail, max_words=max_words, halves=halves)


def assert_same(found: Alignments, expected: Alignments, *, exact: bool, tolerance: float = gpu.TOLERANCE) -> None:
    """Asserts that costs are equal (within a tolerance, unless `exact`) and ends too; random costs do not tie."""
    if exact:
        np.testing.assert_array_equal(found.costs, expected.costs)
    else:
        np.testing.assert_allclose(found.costs, expected.costs, rtol=1e-6, atol=tolerance)
    np.testing.assert_array_equal(found.ends, expected.ends)


def tolerance_of(settings: Alignment) -> float:
    return gpu.HALVES_TOLERANCE if settings.int8 else gpu.TOLERANCE


@emulated
@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_kernels_on_the_cpu_equal_the_definition(settings: Alignment, ties: bool) -> None:
    rng = np.random.default_rng(0)
    documents = sequences([3, 0, 1, 40, 2, 7], rng, ties=ties)
    asked = queries([1, 11], rng, ties=ties)
    expected = definition.align_many(asked, documents, settings)
    for found, wanted in zip(emulation().align_many(asked, documents, settings), expected, strict=True):
        assert_same(found, wanted, exact=ties, tolerance=tolerance_of(settings))


@emulated
@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize(
    ("words", "int8"),
    [*((words, False) for words in range(gpu.MIN_WORDS, gpu.MAX_WORDS + 1)), (gpu.MAX_WORDS, True)],
)
def test_documents_of_any_length_equal_the_cpus_whatever_a_thread_holds(words: int, int8: bool, ties: bool) -> None:
    rng = np.random.default_rng(words)
    limits = [gpu.LANES * words * warps for warps in (1, 2, gpu.WARPS)]
    lengths = [*rng.integers(1, 300, 2).tolist(), *limits, limits[-1] + 1, 0]
    documents, asked = sequences(lengths, rng, ties=ties), queries([rng.integers(2, 25), 8], rng, ties=ties)
    device, usual = emulation(words, halves=False), Alignment(jump_penalty=0.25, bias_weight=0.5)
    for price in (np.inf, 0.75):
        settings = replace(usual, int8=int8, rest_price=price)
        expected = cpu.align_many(asked, documents, settings)
        for found, wanted in zip(device.align_many(asked, documents, settings), expected, strict=True):
            assert_same(found, wanted, exact=ties)


@emulated
def test_long_documents_that_lie_apart_are_aligned_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, settings, widths = np.random.default_rng(0), Alignment(), []
    documents, asked = sequences([800, 5, 900, 7, 850, 0], rng, ties=True), queries([9, 4], rng, ties=True)
    device = emulation(gpu.MIN_WORDS)
    part = device._part

    def recorded(*arguments: Any) -> Any:
        made = part(*arguments)
        widths.append(made.width)
        return made

    monkeypatch.setattr(device, "_part", recorded)
    monkeypatch.setattr(gpu, "CHUNK_BYTES", 4 * 9 * 1749)
    expected = cpu.align_many(asked, documents, settings)
    for found, wanted in zip(device.align_many(asked, documents, settings), expected, strict=True):
        assert_same(found, wanted, exact=True)
    assert widths == [1700, 850]


def quarters(lengths: list[int], rng: np.random.Generator, *, opposed: bool) -> Packed:
    """Documents of unit embeddings whose products are multiples of 1/4, so sums are exact; `opposed`: 1 or -1."""
    values = np.zeros((sum(lengths), DIMENSION), dtype=np.float16)
    signs = rng.choice([-0.5, 0.5], (len(values), 1 if opposed else 4))
    places = np.tile(np.arange(4), (len(values), 1)) if opposed else np.argsort(rng.random(values.shape), axis=1)[:, :4]
    np.put_along_axis(values, places, np.broadcast_to(signs, places.shape).astype(np.float16), axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Packed(embeddings=values, bias=rng.integers(0, 3, len(values)).astype(np.float32) / 4, offsets=offsets)


@emulated
@pytest.mark.parametrize("opposed", [False, True], ids=["any", "opposed"])
@pytest.mark.parametrize("steps", ["wide", "slope"])
@pytest.mark.parametrize(("words", "penalty"), [(4, 2.0), (3, 0.25)])
def test_totals_of_16_bits_are_exact_where_costs_are(words: int, penalty: float, steps: StepSet, opposed: bool) -> None:
    rng = np.random.default_rng(words)
    half = gpu.LANES * words
    lengths = [1, 2, 5, half - 1, half, half + 1, 2 * half - 1, 2 * half, 3 * half, 4 * half + 3, 16 * half, 0]
    documents, asked = quarters(lengths, rng, opposed=opposed), quarters([1, 2, 9, 33], rng, opposed=opposed)
    settings = Alignment(steps=steps, jump_penalty=penalty, bias_weight=0.5, int8=True)
    some = np.split(asked.embeddings.astype(np.float32), asked.offsets[1:-1])
    device = emulation(words)
    for found, wanted in zip(
        device.align_many(some, documents, settings), cpu.align_many(some, documents, settings), strict=True
    ):
        assert_same(found, wanted, exact=True)
    assert [set(resident.launches) for resident in device._residents.values()] == [{True}]


@emulated
@pytest.mark.parametrize(
    ("settings", "halves"),
    [
        (Alignment(int8=True), True),
        (Alignment(), False),
        (Alignment(int8=True, jump_penalty=2.4), False),
        (Alignment(int8=True, jump_penalty=np.inf), False),
        (Alignment(int8=True, whole=True), False),
        (Alignment(int8=True, rest_price=0.9), False),
    ],
    ids=str,
)
def test_totals_have_16_bits_where_these_hold_them(settings: Alignment, halves: bool) -> None:
    rng = np.random.default_rng(0)
    documents, asked = sequences([40, 300], rng, ties=False), queries([30], rng, ties=False)[0]
    device = emulation()
    assert_same(
        device.align(asked, documents, settings),
        cpu.align(asked, documents, settings),
        exact=False,
        tolerance=tolerance_of(settings),
    )
    assert [set(resident.launches) for resident in device._residents.values()] == [{halves}]


@emulated
def test_local_costs_below_zero_make_no_difference() -> None:
    rng = np.random.default_rng(0)
    documents = sequences([60, 5, 200], rng, ties=True)
    documents = replace(documents, bias=documents.bias - 9)
    asked, settings = queries([14], rng, ties=True)[0], Alignment(bias_weight=1.0, jump_penalty=0.25)
    expected = cpu.align(asked, documents, settings)
    assert expected.costs.max() < -1
    assert_same(emulation().align(asked, documents, settings), expected, exact=True)


@emulated
def test_a_packed_is_sent_once_and_forgotten_with_its_owner() -> None:
    rng = np.random.default_rng(0)
    documents, asked = sequences([5, 70], rng, ties=True), queries([4], rng, ties=True)[0]
    cupy = EmulatedCupy()
    device = emulation(cupy=cupy)
    sent = []
    for _ in range(3):
        device.align(asked, documents, Alignment())
        sent.append(cupy.sent)
    assert sent[2] - sent[1] == sent[1] - sent[0] < sent[0]
    del documents
    assert not device._residents


@emulated
def test_a_query_of_float32_loses_no_digits() -> None:
    rng = np.random.default_rng(0)
    documents = sequences([300] * 5, rng, ties=False)
    asked = rng.standard_normal((6, DIMENSION)).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    found, expected = (one.align(asked, documents, Alignment()) for one in (emulation(), cpu))
    np.testing.assert_allclose(found.costs, expected.costs, atol=1e-6)


@pytest.mark.parametrize(("failure", "lost"), [(OutOfMemory, False), (DeviceFailure, True)])
def test_what_the_gpu_cannot_do_the_cpu_does(
    failure: type[Exception], lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    documents, asked = sequences([5, 70], rng, ties=True), queries([4], rng, ties=True)[0]
    cupy = EmulatedCupy()
    device = gpu.Gpu(cupy, cpu.align_many)
    cupy.fails = failure("it said so")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_same(
                device.align(asked, documents, Alignment()), cpu.align(asked, documents, Alignment()), exact=True
            )
    assert [record.message.endswith("it said so") for record in caplog.records] == [True] * (1 if lost else 2)
    assert device.fell_back() is lost


@emulated
@pytest.mark.parametrize("halves", [True, False])
def test_a_gpu_is_used_if_a_trial_comes_out_right(halves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu._try(emulation(halves=halves))
    monkeypatch.setattr(gpu, "_float16", lambda embeddings: np.zeros(embeddings.shape, np.float16))
    with pytest.raises(DeviceError, match="of a trial alignment"):
        gpu._try(emulation(halves=halves))


def test_each_document_is_in_one_launch_that_holds_it() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 3000, 20_000)
    most = gpu.MAX_WORDS
    launches, longest = list(gpu.sizes(lengths, most)), gpu.LANES * gpu.WARPS * most
    for warps, words, documents in launches:
        assert lengths[documents].max() <= warps * words * gpu.LANES <= longest
        assert len(documents) >= gpu.MIN_LAUNCH or (warps, words) == launches[-1][:2]
    found = np.sort(np.concatenate([documents for _, _, documents in launches]))
    np.testing.assert_array_equal(found, np.flatnonzero((lengths > 0) & (lengths <= longest)))


@pytest.mark.skipif(compiler() is None, reason="neither NVRTC nor nvcc is installed")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize(
    "options",
    [
        "-DWORDS=3 -DWIDE=1 -DJUMPS=1 -DBYTES=0 -DHALVES=0",
        "-DWORDS=10 -DWIDE=0 -DJUMPS=0 -DBYTES=1 -DHALVES=0",
        "-DWORDS=6 -DWIDE=0 -DJUMPS=1 -DBYTES=1 -DHALVES=1",
        "-DWORDS=10 -DWIDE=1 -DJUMPS=1 -DBYTES=1 -DHALVES=1",
    ],
)
def test_the_kernels_compile_for_gpus_that_are_not_here(architecture: str, options: str) -> None:
    assert len(compile_cuda(SOURCE, architecture, options.split())) > 10_000


def gpu_or_skip() -> alignment.Backend:
    try:
        return alignment.choose("gpu")
    except DeviceError as exc:
        pytest.skip(str(exc))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_gpu_equals_the_cpu_on_many_documents(settings: Alignment) -> None:
    backend, rng = gpu_or_skip(), np.random.default_rng()
    documents = sequences(rng.integers(1, 3000, 400).tolist(), rng, ties=False)
    asked = queries(rng.integers(1, 300, 4).tolist(), rng, ties=False)
    for query, found in zip(asked, backend.align_many(asked, documents, settings), strict=True):
        expected = cpu.align(query, documents, settings, threads=4)
        same = np.isclose(found.costs, expected.costs, rtol=1e-5, atol=tolerance_of(settings))
        # Rounding decides between paths whose costs differ in the seventh digit; their ends and lengths may differ.
        assert np.count_nonzero(~same) <= (8 if settings.normalise == "path" else 0)
        assert np.count_nonzero(found.ends != expected.ends) <= (20 if settings.int8 else 4)


@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("longest", [90, 300, 1000])
def test_the_gpu_equals_the_cpu_on_a_few_documents(longest: int, ties: bool) -> None:
    backend, rng = gpu_or_skip(), np.random.default_rng(longest)
    documents = sequences([longest, *rng.integers(0, longest, 9).tolist()], rng, ties=ties)
    asked = queries([1, 17, 92], rng, ties=ties)
    expected = cpu.align_many(asked, documents, Alignment())
    for found, wanted in zip(backend.align_many(asked, documents, Alignment()), expected, strict=True):
        assert_same(found, wanted, exact=ties)


@pytest.mark.parametrize("longest", [90, 1300, 5000])
def test_the_gpu_equals_the_cpu_on_a_few_documents_by_totals_of_16_bits(longest: int) -> None:
    backend, rng, settings = gpu_or_skip(), np.random.default_rng(longest), Alignment(int8=True, bias_weight=0.5)
    documents = quarters([longest, *rng.integers(0, longest, 9).tolist()], rng, opposed=False)
    asked = quarters([92], rng, opposed=False).embeddings.astype(np.float32)
    assert_same(backend.align(asked, documents, settings), cpu.align(asked, documents, settings), exact=True)


def test_without_a_gpu_it_is_refused_and_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(fallback: object) -> gpu.Gpu:
        raise DeviceError("no GPU")

    monkeypatch.setattr(gpu, "open_gpu", none)
    with pytest.raises(DeviceError, match="no GPU"):
        alignment.choose("gpu")
    assert (alignment.choose().name, alignment.choose().reason) == ("cpu", "no GPU")
