"""The definition on an NVIDIA GPU, by kernels of our own (`gpu.cu`) that CuPy compiles for the GPU it finds.

What this module does differently:
- Embeddings lie in the GPU's memory as one array, float16 or, with `int8`, bytes. Each `Packed` is sent once and stays
  there until the `Packed` is forgotten here. Rounding float32 to float16 changes costs by about 1e-5.
- The kernel `fused` computes local costs on tensor cores and uses them before they leave the chip, so nothing of D is
  stored. A block of threads aligns one document, and each thread has a few neighbouring snippets. Each query row is
  split into two float16 rows whose products add up to those of float32. Documents that need as many threads and cells
  a thread share a launch. A few documents of one size join the next larger size, because a launch of few takes as long
  as a launch of many.
- With `int8` newer GPUs hold totals in 16 bits, two to a register: multiples of 1/4096, relative to the minimum of the
  row above. Costs then differ by up to 3e-4. This needs jumps, whose penalty bounds how far totals lie apart, and a
  document that may start and end anywhere; otherwise totals are float32.
- The kernel `simple` handles what `fused` does not: classic steps, costs divided by the length of the path, and
  documents of more than 2560 snippets (5120 as bytes). Its local costs go through memory, so it is about ten times
  slower.
- Several queries share one launch per size. Paths are traced on the CPU: a search needs only about ten of them.

If the GPU has too little memory or fails, the CPU does the work and the log says why.
"""

import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.alignment import AlignMany, Alignments, check_query, definition
from engine.alignment.definition import QUANTA, STEPS, rounded
from engine.config import Alignment
from engine.errors import DeviceError
from engine.values import DIMENSION, Embeddings, Packed

logger = logging.getLogger(__name__)

Kernel = Literal["fused", "simple"]
DeviceArray = Any
"""A cupy.ndarray, which has no types."""

LANES = 32
WARPS = 8
"""Maximum number of warps in a block; with this many, a thread may use 255 registers."""
MIN_WORDS = 3
MAX_WORDS = {(False, False): 10, (True, False): 14, (False, True): 6, (True, True): 10}
"""Minimum and maximum number of words that a thread holds. The maximum depends on whether embeddings are bytes and
whether a word holds the totals of two cells; it is what the compiler fits into 255 registers."""
HALVES_UNIT = 4096
"""Totals of 16 bits are multiples of 1 / HALVES_UNIT."""
ROWS = 8
"""Query rows whose costs `fused` computes together; a query is padded to a multiple."""
FEW = 264
"""Number of documents too small to fill a GPU: two for each multiprocessor of an H100."""
CHUNK_BYTES = 1 << 28
"""Memory that `simple` uses for the costs of some documents."""
BLOCK_ROWS = 1 << 20
"""Number of embeddings converted to float32 at a time."""
THREADS = 128
MIN_CAPABILITY = 80
"""Lowest compute capability whose tensor cores have the product that `gpu.cu` uses: 8.0."""
PAIRWISE = 90
"""Lowest compute capability with one instruction that compares two pairs of 16-bit numbers; older GPUs need several."""
TOLERANCE, HALVES_TOLERANCE = 1e-4, 3e-4
"""Tolerated difference from the definition's costs: float32 sums in another order and float16 documents; for totals of
16 bits also the rounding of each local cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """Documents that `fused` aligns in one launch."""

    warps: int
    words: int
    """Words of a row of D that each thread holds."""
    documents: DeviceArray
    """int32 (k,), numbers of documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Launches:
    """All documents of a `Packed`, by the launch that aligns them."""

    sizes: tuple[_Size, ...]
    long: NDArray[np.int64]
    """Documents too long for `fused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resident:
    """The arrays of a `Packed` in the GPU's memory."""

    embeddings: DeviceArray
    bias: DeviceArray
    offsets: DeviceArray
    lengths: NDArray[np.int64]
    """Lengths of the documents in snippets, in the host's memory."""
    launches: dict[bool, _Launches]
    """The launches, by whether a word holds two cells."""
    longest: float
    """Length of the longest embedding; 1 up to rounding."""
    bias_range: NDArray[np.float32]
    """Minimum and maximum of the bias."""


class Gpu:
    """One GPU. Any number of threads may call its methods; it works for one of them at a time."""

    def __init__(
        self,
        cupy: Any,
        fallback: AlignMany,
        *,
        kernel: Kernel = "fused",
        max_words: int | None = None,
        three_way: bool = True,
        halves: bool | None = None,
    ) -> None:
        """Reads the kernels; they are compiled when they are first used.

        cupy: the module.
        fallback: aligns what the GPU cannot.
        kernel: `simple` uses that kernel for everything, to measure what `fused` gains.
        max_words: maximum number of words that a thread holds, MIN_WORDS or more; None: as many as registers hold.
        three_way: compute minima of three values at once, else of two.
        halves: use totals of 16 bits where possible; None: if embeddings are bytes.
        """
        self._cupy, self._fallback = cupy, fallback
        self._fuses, self._max_words = kernel == "fused", max_words
        self._three_way, self._halves = three_way, halves
        self._source = (resources.files("engine.alignment") / "gpu.cu").read_text(encoding="utf-8")
        self._kernels: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._residents: dict[tuple[int, bool], _Resident] = {}
        self._lock = threading.Lock()
        self._lost = False

    def align(self, query: Embeddings, documents: Packed, settings: Alignment) -> Alignments:
        """Aligns a query with all documents, like `definition.align`."""
        return self.align_many([query], documents, settings)[0]

    def align_many(
        self, queries: Sequence[Embeddings], documents: Packed, settings: Alignment
    ) -> tuple[Alignments, ...]:
        """As `definition.align_many`."""
        for query in queries:
            check_query(query)
        cuda = self._cupy.cuda
        failures = cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError, cuda.compiler.CompileException
        if not self._lost and queries and len(documents) > 0:
            try:
                with self._lock:
                    return self._align(queries, documents, settings)
            except cuda.memory.OutOfMemoryError as exc:
                self._cupy.get_default_memory_pool().free_all_blocks()
                logger.warning("%d documents are aligned on the CPU: %s", len(documents), exc)
            except failures as exc:
                self._lost = True
                logger.error("the GPU failed; from here on the CPU aligns: %s", exc)
        return self._fallback(queries, documents, settings)

    def _align(self, queries: Sequence[Embeddings], documents: Packed, settings: Alignment) -> tuple[Alignments, ...]:
        resident = self._resident(documents, settings.int8)
        shape = len(queries), len(documents)
        costs = self._cupy.full(shape, np.inf, dtype=np.float32)
        ends = self._cupy.full(shape, -1, dtype=np.int32)
        if self._fuses and settings.steps != "classic" and settings.normalise == "query":
            rest = self._fused(queries, resident, settings, costs, ends)
        else:
            rest = np.flatnonzero(np.diff(documents.offsets) > 0)
        for first, last in _runs(rest, documents.offsets, CHUNK_BYTES // (4 * max(map(len, queries)))):
            for query, *found in zip(queries, costs, ends, strict=True):
                self._simple(query, resident, documents.offsets, (first, last), settings, *found)
        found_costs, found_ends = self._cupy.asnumpy(costs), self._cupy.asnumpy(ends)
        return tuple(Alignments(costs=c, ends=e) for c, e in zip(found_costs, found_ends, strict=True))

    def _fused(
        self,
        queries: Sequence[Embeddings],
        resident: _Resident,
        settings: Alignment,
        costs: DeviceArray,
        ends: DeviceArray,
    ) -> NDArray[np.int64]:
        """Puts costs and ends, (queries, documents), where they are known; returns the documents that are left."""
        rows = np.array([len(query) for query in queries], dtype=np.int32)
        filled = -(-rows // ROWS) * ROWS
        factors = np.zeros((filled.sum(), DIMENSION), dtype=np.float32)
        first_rows = (np.cumsum(filled) - filled).astype(np.int32)
        for first, query in zip(first_rows, queries, strict=True):
            factors[first : first + len(query)] = -(rounded(query) if settings.int8 else query)
        asarray = self._cupy.asarray
        asked = asarray(_factors(factors, settings.int8)), asarray(first_rows), asarray(rows)
        product = float(np.linalg.norm(factors, axis=1).max()) * resident.longest
        bias = settings.bias_weight * resident.bias_range
        shift = _shift(product, bias)
        dearest = 1 + product + float(bias.max()) + shift
        wanted = settings.int8 if self._halves is None else self._halves
        halves = wanted and not settings.whole and _fit_halves(settings.jump_penalty, dearest)
        flags = {"WIDE": settings.steps == "wide", "JUMPS": np.isfinite(settings.jump_penalty), "BYTES": settings.int8}
        flags |= {"THREE": self._three_way, "HALVES": halves}
        beyond = settings.jump_penalty + dearest + 4 / HALVES_UNIT if halves else np.inf
        launches = self._launches(resident, settings.int8, halves)
        for size in reversed(launches.sizes):  # the largest take longest
            options = [f"-DWORDS={size.words}", *(f"-D{name}={int(flag)}" for name, flag in flags.items())]
            shared = size.warps * size.words * LANES * ROWS * 4
            self._kernel("fused", options, WARPS * size.words * LANES * ROWS * 4)(
                (len(size.documents), len(queries)),
                (size.warps * LANES,),
                (
                    *(resident.embeddings, resident.bias, resident.offsets, size.documents, *asked),
                    *map(np.float32, (settings.bias_weight, settings.jump_penalty, shift, beyond)),
                    *(np.int32(settings.whole), np.int64(costs.shape[1]), costs, ends),
                ),
                shared_mem=shared,
            )
        return launches.long

    def _simple(
        self,
        query: Embeddings,
        resident: _Resident,
        offsets: NDArray[np.int64],
        run: tuple[int, int],
        settings: Alignment,
        costs: DeviceArray,
        ends: DeviceArray,
    ) -> None:
        """Puts costs and ends, (documents,), of those from run[0] up to run[1]."""
        cupy, (first, last) = self._cupy, offsets[list(run)]
        width, options = int(last - first), [f"-DBYTES={int(settings.int8)}"]
        negated = cupy.asarray(-(rounded(query) if settings.int8 else query))
        local, memory = cupy.empty((len(query), width), np.float32), cupy.empty((4, width, 2), np.float32)
        self._kernel("local_costs", options)(
            (-(-width // THREADS),),
            (THREADS,),
            (
                *(resident.embeddings, resident.bias, np.int64(first), np.int64(last), negated, np.int32(len(query))),
                *(np.float32(settings.bias_weight), local),
            ),
        )
        numbers = cupy.asarray(np.arange(*run, dtype=np.int32))
        steps = list(STEPS).index(settings.steps)
        self._kernel("simple", options)(
            (len(numbers),),
            (THREADS,),
            (
                *(local, np.int64(first), np.int64(width), resident.offsets, numbers, np.int32(len(query))),
                *(np.float32(settings.jump_penalty), np.int32(steps), np.int32(settings.whole)),
                *(np.int32(settings.normalise == "path"), memory, costs, ends),
            ),
        )

    def _kernel(self, name: str, options: Sequence[str], shared_bytes: int = 0) -> Any:
        key = name, tuple(options)
        if key not in self._kernels:
            module = self._cupy.RawModule(code=self._source, options=("-std=c++17", *options))
            self._kernels[key] = module.get_function(name)
            if shared_bytes:
                self._kernels[key].max_dynamic_shared_size_bytes = shared_bytes
        return self._kernels[key]

    def _resident(self, documents: Packed, int8: bool) -> _Resident:
        key = id(documents), int8
        if key not in self._residents:
            asarray = self._cupy.asarray
            embeddings = self._bytes(documents) if int8 else asarray(_float16(documents.embeddings))
            bias = documents.bias if len(documents.bias) > 0 else np.zeros(1, dtype=np.float32)
            self._residents[key] = _Resident(
                embeddings=embeddings,
                bias=asarray(documents.bias),
                offsets=asarray(documents.offsets),
                lengths=np.diff(documents.offsets),
                launches={},
                longest=_longest(embeddings) / (float(QUANTA) if int8 else 1),
                bias_range=np.array([bias.min(), bias.max()]),
            )
            weakref.finalize(documents, self._residents.pop, key, None).atexit = False
        return self._residents[key]

    def _bytes(self, documents: Packed) -> DeviceArray:
        """Returns the embeddings rounded like `definition.rounded`, in the GPU's memory: int8 (n, 32)."""
        stored = self._cupy.full(documents.embeddings.shape, 0, dtype=np.int8)
        for start in range(0, len(stored), BLOCK_ROWS):
            part = self._cupy.asarray(_float16(documents.embeddings[start : start + BLOCK_ROWS])).astype(np.float32)
            stored[start : start + BLOCK_ROWS] = (part * QUANTA).round().clip(1 - QUANTA, QUANTA - 1).astype(np.int8)
        return stored

    def _launches(self, resident: _Resident, int8: bool, halves: bool) -> _Launches:
        if halves not in resident.launches:
            asarray = self._cupy.asarray
            words = -(-resident.lengths // 2) if halves else resident.lengths
            most = self._max_words or MAX_WORDS[int8, halves]
            some = (
                _Size(warps=warps, words=each, documents=asarray(numbers))
                for warps, each, numbers in sizes(words, most)
            )
            long = np.flatnonzero(words > LANES * WARPS * most)
            resident.launches[halves] = _Launches(sizes=tuple(some), long=long)
        return resident.launches[halves]


def open_gpu(fallback: AlignMany) -> Gpu:
    """Returns the first GPU that CuPy finds, after a small trial alignment on it gave the right costs.

    fallback: aligns what the GPU cannot.
    Raises DeviceError if no GPU works.
    """
    try:
        import cupy
    except ImportError as exc:
        raise DeviceError(f"CuPy cannot be imported ({exc}); install scorefind[gpu]") from exc
    try:
        capability = int(cupy.cuda.Device(0).compute_capability)
        if capability < MIN_CAPABILITY:
            raise DeviceError(f"expected compute capability {MIN_CAPABILITY / 10} or more, got {capability / 10}")
        halves = None if capability >= PAIRWISE else False
        _try(Gpu(cupy, _refuse, halves=halves))
    except DeviceError:
        raise
    except Exception as exc:  # drivers, compilers and libraries that do not fit each other fail in many ways
        raise DeviceError(f"CuPy {cupy.__version__} finds no GPU that works: {exc}") from exc
    return Gpu(cupy, fallback, halves=halves)


def name_of_gpu() -> str:
    """Describes the GPU that `open_gpu` has found, for people: name, memory, version of CuPy."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    free, total = (amount / 2**30 for amount in cupy.cuda.runtime.memGetInfo())
    return f"{properties['name'].decode()}, {free:.1f} of {total:.1f} GiB free, CuPy {cupy.__version__}"


def sizes(lengths: NDArray[np.int64], max_words: int) -> Iterator[tuple[int, int, NDArray[np.int32]]]:
    """Warps, words a thread and the documents of each launch of `fused`, the least first.

    lengths: int64 (B,) words of each document; those without any, and those too long, are left out.
    """
    warps = -(-lengths // (LANES * max_words))
    words = np.maximum(MIN_WORDS, -(-lengths // (LANES * np.maximum(warps, 1))))
    keys = np.where((lengths > 0) & (warps <= WARPS), warps * (max_words + 1) + words, 0)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    borders = np.searchsorted(keys[order], np.unique(keys[keys > 0]), side="right").tolist()
    start = int(np.count_nonzero(keys == 0))
    for border in borders:
        if border - start >= FEW or border == len(keys):
            last = order[border - 1]
            yield int(warps[last]), int(words[last]), order[start:border]
            start = border


def _runs(numbers: NDArray[np.int64], offsets: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of neighbouring documents, of at most so many snippets or of one, that hold the given ones, which rise."""
    for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
        while len(run) > 0:
            taken = max(1, int(np.searchsorted(offsets[run + 1], offsets[run[0]] + most, side="right")))
            yield int(run[0]), int(run[taken - 1]) + 1
            run = run[taken:]


def _factors(rows: Embeddings, int8: bool) -> NDArray[Any]:
    """The rows, `rounded` for int8, as `fused` multiplies them: int8 (n, 32), or float16 (n, 4, 2, 8): of each eighth
    both halves of it."""
    if int8:
        return (rows * QUANTA).astype(np.int8)
    upper = rows.astype(np.float16)
    lower = (rows - upper.astype(np.float32)).astype(np.float16)
    return np.ascontiguousarray(np.stack([part.reshape(-1, 4, 8) for part in (upper, lower)], axis=2))


def _float16(embeddings: NDArray[Any]) -> NDArray[np.float16]:
    return np.ascontiguousarray(embeddings, dtype=np.float16)


def _longest(embeddings: DeviceArray) -> float:
    """The length of the longest, computed where they lie."""
    lengths = [0.0]
    for start in range(0, len(embeddings), BLOCK_ROWS):
        part = embeddings[start : start + BLOCK_ROWS].astype(np.float32)
        lengths.append(float((part * part).sum(axis=1).max()) ** 0.5)
    return max(lengths)


def _shift(largest_product: float, weighted_bias: NDArray[np.floating]) -> float:
    """What makes every local cost positive; a multiple of 1/4, so that sums that were exact stay so."""
    least = 1 - largest_product + float(weighted_bias.min())
    return max(0.0, float(np.ceil(4 * (1e-3 - least)) / 4))


def _fit_halves(penalty: float, dearest: float) -> bool:
    """Whether 16 bits hold all totals and charges; `gpu.cu` counts them."""
    return 4 * penalty + 3 * dearest < (1 << 16) / HALVES_UNIT - 0.01


def _try(gpu: Gpu) -> None:
    """Raises DeviceError if a kernel, or `fused` with totals of 16 bits, aligns otherwise than the definition."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, DIMENSION)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    documents = Packed(
        embeddings=values.astype(np.float16),
        bias=np.zeros(len(values), dtype=np.float32),
        offsets=np.array([0, 30, len(values)]),
    )
    for settings in (Alignment(), Alignment(steps="classic"), Alignment(int8=True)):
        found, expected = (align(values[5:14], documents, settings).costs for align in (gpu.align, definition.align))
        if not np.allclose(found, expected, atol=HALVES_TOLERANCE if settings.int8 else TOLERANCE):
            raise DeviceError(f"expected costs {expected} of a trial alignment, got {found}")


def _refuse(queries: Sequence[Embeddings], documents: Packed, settings: Alignment) -> tuple[Alignments, ...]:
    raise DeviceError("the GPU failed in a trial alignment; the log says how")
