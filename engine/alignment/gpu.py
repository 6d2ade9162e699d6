"""The GPU backend: kernels of our own (`gpu.cu`), which CuPy compiles for the NVIDIA GPU it finds.

What this module does differently from `definition`:
- Embeddings lie in the GPU's memory as one array of float16 or, with `int8`, of bytes. Each `Packed` is sent once and
  stays there until Python frees the `Packed`. Rounding float32 to float16 changes costs by about 1e-5.
- The kernel `fused` computes local costs on tensor cores and uses them before they leave the chip; D is never stored.
  A block of threads aligns one document, and each thread handles a few neighbouring snippets. Each query row is split
  into two float16 rows whose products add up to the float32 product. Documents that need the same number of threads and
  of cells per thread share a launch. If few documents have one size, they join the next larger size, because a launch
  with few documents takes as long as a launch with many.
- With `int8` newer GPUs store totals in 16 bits, two per register, as multiples of 1/4096 above the minimum of the row
  above. Costs then differ by up to 3e-4. 16 bits need jumps, because the penalty bounds the differences between totals,
  and paths that may start and end anywhere in the document and leave out no query row; otherwise totals are float32.
- The kernel `simple` handles what `fused` cannot: classic steps, costs divided by the length of the path, and
  documents of more than 2560 snippets (5120 with totals of 16 bits). Its local costs go through memory, so it is
  thirteen times slower with wide steps.
- Several queries share one launch per size. Paths are traced on the CPU: a search needs only about ten of them.

If the GPU has too little memory or fails, the CPU does the work and the log says why.
"""

import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.alignment import AlignMany, Alignments, check_query, definition
from engine.alignment.definition import QUANTA, STEPS, rounded
from engine.config import Alignment
from engine.errors import DeviceError
from engine.values import DIMENSION, Embeddings, Packed

logger = logging.getLogger(__name__)

DeviceArray = Any
"""A cupy.ndarray, which has no types."""

LANES = 32
"""Threads in a warp."""
WARPS = 8
"""Maximum number of warps in a block; with this many, a thread may use 255 registers."""
MIN_WORDS, MAX_WORDS = 3, 10
"""Minimum and maximum number of words that a thread holds. With more words of float16 or of two cells, the compiler
needs more than 255 registers. Words of one byte cell would leave room for 14, but on an H100 14 are slower than 8."""
HALVES_UNIT = 4096
"""Totals of 16 bits are multiples of 1 / HALVES_UNIT."""
ROWS = 8
"""Query rows whose costs `fused` computes together; a query is padded to a multiple of ROWS."""
MIN_LAUNCH = 264
"""Minimum number of documents that fill a GPU: two for each multiprocessor of an H100."""
CHUNK_BYTES = 1 << 28
"""Memory for the local costs of the documents that `simple` aligns in one launch."""
BLOCK_ROWS = 1 << 20
"""Number of embeddings converted to float32 at a time."""
THREADS = 128
"""Threads in a block of `local_costs` and `simple`."""
MIN_CAPABILITY = 80
"""Lowest compute capability whose tensor cores have the product that `gpu.cu` uses: 8.0."""
MIN_PAIRWISE_CAPABILITY = 90
"""Lowest compute capability with one instruction that compares two pairs of 16-bit numbers; older GPUs need several."""
TOLERANCE, HALVES_TOLERANCE = 1e-4, 3e-4
"""Tolerated differences from the definition's costs. TOLERANCE covers float32 sums in another order and float16
documents; HALVES_TOLERANCE also covers local costs rounded to 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """The documents of one launch of `fused`, and the shape of its blocks."""

    warps: int
    """Warps in each block."""
    words: int
    """Words of a row of D in each thread."""
    documents: DeviceArray
    """Indexes of the documents, int32 (k,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Documents that one launch of `simple` aligns. Their local costs lie side by side."""

    documents: DeviceArray
    """Indexes of the documents, int32 (k,)."""
    columns: DeviceArray
    """Column of the first snippet of each document, int64 (k,)."""
    width: int
    """Number of columns: the snippets of all documents."""
    longest: int
    """Snippets of the longest document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Launches:
    """All documents of a `Packed`, grouped by the launch that aligns them."""

    sizes: tuple[_Size, ...]
    long: NDArray[np.int64]
    """Indexes of the documents too long for `fused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resident:
    """The arrays of a `Packed` in the GPU's memory."""

    embeddings: DeviceArray
    bias: DeviceArray
    offsets: DeviceArray
    lengths: NDArray[np.int64]
    """Lengths of the documents in snippets, (documents,), in the host's memory."""
    launches: dict[bool, _Launches]
    """The launches, keyed by whether a word holds two cells."""
    longest: float
    """Euclidean length of the longest embedding; 1 up to rounding."""
    bias_range: NDArray[np.float32]
    """Minimum and maximum of the bias, (2,)."""


class Gpu:
    """Alignment on one GPU. Any number of threads may call the methods; a lock admits one thread at a time."""

    def __init__(
        self,
        cupy: Any,
        fallback: AlignMany,
        *,
        max_words: int = MAX_WORDS,
        halves: bool = True,
    ) -> None:
        """Reads the kernels; they are compiled when they are first used.

        cupy: the module `cupy`, or a stand-in for it in tests.
        fallback: aligns the documents on the CPU if the GPU fails.
        max_words: maximum number of words in a thread, MIN_WORDS or more.
        halves: whether totals have 16 bits where embeddings are bytes and 16 bits hold the totals.
        """
        self._cupy, self._fallback = cupy, fallback
        self._max_words, self._halves = max_words, halves
        self._source = (resources.files("engine.alignment") / "gpu.cu").read_text(encoding="utf-8")
        self._kernels: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._residents: dict[tuple[int, bool], _Resident] = {}
        self._lock = threading.Lock()
        self._lost = False

    def fell_back(self) -> bool:
        """Tells whether the GPU has failed, so that the CPU aligns. A lack of memory is no failure: it may pass."""
        return self._lost

    def align(self, query: Embeddings, documents: Packed, settings: Alignment) -> Alignments:
        """The cheapest alignment of the query with each document (`definition.align`)."""
        return self.align_many([query], documents, settings)[0]

    def align_many(
        self, queries: Sequence[Embeddings], documents: Packed, settings: Alignment
    ) -> tuple[Alignments, ...]:
        """The cheapest alignment of each query with each document (`definition.align_many`)."""
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
                logger.warning("the GPU has too little memory; the CPU aligns %d documents: %s", len(documents), exc)
            except failures as exc:
                self._lost = True
                logger.error("the GPU failed; from now on the CPU aligns: %s", exc)
        return self._fallback(queries, documents, settings)

    def _align(self, queries: Sequence[Embeddings], documents: Packed, settings: Alignment) -> tuple[Alignments, ...]:
        resident = self._resident(documents, settings.int8)
        shape = len(queries), len(documents)
        costs = self._cupy.full(shape, np.inf, dtype=np.float32)
        ends = self._cupy.full(shape, -1, dtype=np.int32)
        if settings.steps != "classic" and settings.normalise == "query":
            rest = self._fused(queries, resident, settings, costs, ends)
        else:
            rest = np.flatnonzero(resident.lengths > 0)
        for numbers in _parts(rest, resident.lengths, CHUNK_BYTES // (4 * max(map(len, queries)))):
            part = self._part(numbers, resident.lengths[numbers])
            for query, *results in zip(queries, costs, ends, strict=True):
                self._simple(query, resident, part, settings, *results)
        rows = zip(self._cupy.asnumpy(costs), self._cupy.asnumpy(ends), strict=True)
        return tuple(Alignments(costs=row_costs, ends=row_ends) for row_costs, row_ends in rows)

    def _fused(
        self,
        queries: Sequence[Embeddings],
        resident: _Resident,
        settings: Alignment,
        costs: DeviceArray,
        ends: DeviceArray,
    ) -> NDArray[np.int64]:
        """Aligns the documents that `fused` can, and returns the indexes of the others.

        costs, ends: results, (queries, documents); the rows of the other documents are left as they are.
        """
        rows = np.array([len(query) for query in queries], dtype=np.int32)
        filled = -(-rows // ROWS) * ROWS
        factors = np.zeros((filled.sum(), DIMENSION), dtype=np.float32)
        first_rows = (np.cumsum(filled) - filled).astype(np.int32)
        for first, query in zip(first_rows, queries, strict=True):
            factors[first : first + len(query)] = -(rounded(query) if settings.int8 else query)
        asarray = self._cupy.asarray
        operands = asarray(_factors(factors, settings.int8)), asarray(first_rows), asarray(rows)
        product = float(np.linalg.norm(factors, axis=1).max()) * resident.longest
        bias = settings.bias_weight * resident.bias_range
        shift = _shift(product, bias)
        max_cost = 1 + product + float(bias.max()) + shift
        allowed = self._halves and settings.int8
        halves = allowed and not (settings.whole or settings.rests) and _fit_halves(settings.jump_penalty, max_cost)
        jumps = settings.rests or np.isfinite(settings.jump_penalty)
        flags = {"WIDE": settings.steps == "wide", "JUMPS": jumps, "RESTS": settings.rests, "BYTES": settings.int8}
        flags["HALVES"] = halves
        beyond = settings.jump_penalty + max_cost + 4 / HALVES_UNIT if halves else np.inf
        launches = self._launches(resident, halves)
        for size in reversed(launches.sizes):  # the launch of the longest documents takes longest, so it starts first
            options = [f"-DWORDS={size.words}", *(f"-D{name}={int(flag)}" for name, flag in flags.items())]
            shared = size.warps * size.words * LANES * ROWS * 4
            self._kernel("fused", options, WARPS * size.words * LANES * ROWS * 4)(
                (len(size.documents), len(queries)),
                (size.warps * LANES,),
                (
                    *(resident.embeddings, resident.bias, resident.offsets, size.documents, *operands),
                    *map(np.float32, (settings.bias_weight, settings.jump_penalty, shift, beyond, settings.rest_price)),
                    *(np.int32(settings.whole), np.int64(costs.shape[1]), costs, ends),
                ),
                shared_mem=shared,
            )
        return launches.long

    def _simple(
        self,
        query: Embeddings,
        resident: _Resident,
        part: _Part,
        settings: Alignment,
        costs: DeviceArray,
        ends: DeviceArray,
    ) -> None:
        """Aligns the documents of a part with one query; writes their `costs` and `ends`, (documents,)."""
        cupy, rows, width, options = self._cupy, len(query), part.width, [f"-DBYTES={int(settings.int8)}"]
        negated = cupy.asarray(-(rounded(query) if settings.int8 else query))
        local, memory = cupy.empty((rows, width), np.float32), cupy.empty((4, width, 2), np.float32)
        where = resident.offsets, part.documents, part.columns, np.int64(width), np.int32(rows)
        self._kernel("local_costs", options)(
            (len(part.documents), -(-part.longest // THREADS)),
            (THREADS,),
            (resident.embeddings, resident.bias, *where, negated, np.float32(settings.bias_weight), local),
        )
        steps = list(STEPS).index(settings.steps)
        self._kernel("simple", options)(
            (len(part.documents),),
            (THREADS,),
            (
                *(local, *where),
                *(np.float32(settings.jump_penalty), np.float32(settings.rest_price), np.int32(steps)),
                *(np.int32(settings.whole), np.int32(settings.normalise == "path"), memory, costs, ends),
            ),
        )

    def _part(self, numbers: NDArray[np.int64], lengths: NDArray[np.int64]) -> _Part:
        """The documents of these numbers and lengths side by side."""
        columns = np.cumsum(lengths) - lengths
        return _Part(
            documents=self._cupy.asarray(numbers.astype(np.int32)),
            columns=self._cupy.asarray(columns),
            width=int(lengths.sum()),
            longest=int(lengths.max()),
        )

    def _kernel(self, name: str, options: Sequence[str], shared_bytes: int = 0) -> Any:
        """The kernel of this name, compiled with the options on its first use."""
        key = name, tuple(options)
        if key not in self._kernels:
            module = self._cupy.RawModule(code=self._source, options=("-std=c++17", *options))
            self._kernels[key] = module.get_function(name)
            if shared_bytes:
                self._kernels[key].max_dynamic_shared_size_bytes = shared_bytes
        return self._kernels[key]

    def _resident(self, documents: Packed, int8: bool) -> _Resident:
        """The arrays of the documents in the GPU's memory, sent there on their first use."""
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
        """The embeddings as `definition.rounded` rounds them, in the GPU's memory, int8 (n, 32)."""
        stored = self._cupy.full(documents.embeddings.shape, 0, dtype=np.int8)
        for start in range(0, len(stored), BLOCK_ROWS):
            part = self._cupy.asarray(_float16(documents.embeddings[start : start + BLOCK_ROWS])).astype(np.float32)
            stored[start : start + BLOCK_ROWS] = (part * QUANTA).round().clip(1 - QUANTA, QUANTA - 1).astype(np.int8)
        return stored

    def _launches(self, resident: _Resident, halves: bool) -> _Launches:
        """The launches that align the documents, computed on their first use."""
        if halves not in resident.launches:
            asarray = self._cupy.asarray
            words = -(-resident.lengths // 2) if halves else resident.lengths
            launches = (
                _Size(warps=warps, words=thread_words, documents=asarray(numbers))
                for warps, thread_words, numbers in sizes(words, self._max_words)
            )
            long = np.flatnonzero(words > LANES * WARPS * self._max_words)
            resident.launches[halves] = _Launches(sizes=tuple(launches), long=long)
        return resident.launches[halves]


def open_gpu(fallback: AlignMany) -> Gpu:
    """The first GPU that CuPy finds, after a small trial alignment on it gave the right costs.

    fallback: aligns the documents on the CPU if the GPU fails.
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
        halves = capability >= MIN_PAIRWISE_CAPABILITY
        _try(Gpu(cupy, _no_fallback, halves=halves))
    except DeviceError:
        raise
    except Exception as exc:  # drivers, compilers and libraries that do not fit each other fail in many ways
        raise DeviceError(f"CuPy {cupy.__version__} finds no GPU that works: {exc}") from exc
    return Gpu(cupy, fallback, halves=halves)


def name_of_gpu() -> str:
    """A description of the GPU that `open_gpu` returns, for people: name, memory, version of CuPy."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    free, total = (amount / 2**30 for amount in cupy.cuda.runtime.memGetInfo())
    return f"{properties['name'].decode()}, {free:.1f} of {total:.1f} GiB free, CuPy {cupy.__version__}"


def sizes(lengths: NDArray[np.int64], max_words: int) -> Iterator[tuple[int, int, NDArray[np.int32]]]:
    """Warps in a block, words in a thread, and document indexes of each launch of `fused`, the smallest blocks first.

    lengths: length of each document in words, int64 (B,). Documents that are empty or too long for a block are skipped.
    max_words: maximum number of words in a thread.
    """
    warps = -(-lengths // (LANES * max_words))
    words = np.maximum(MIN_WORDS, -(-lengths // (LANES * np.maximum(warps, 1))))
    keys = np.where((lengths > 0) & (warps <= WARPS), warps * (max_words + 1) + words, 0)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    borders = np.searchsorted(keys[order], np.unique(keys[keys > 0]), side="right").tolist()
    start = int(np.count_nonzero(keys == 0))
    for border in borders:
        if border - start >= MIN_LAUNCH or border == len(keys):
            last = order[border - 1]
            yield int(warps[last]), int(words[last]), order[start:border]
            start = border


def _parts(numbers: NDArray[np.int64], lengths: NDArray[np.int64], max_snippets: int) -> Iterator[NDArray[np.int64]]:
    """The given documents in parts, each of at most `max_snippets` snippets, or of one document.

    numbers: indexes of documents. lengths: snippets of every document.
    """
    ends = np.cumsum(lengths[numbers])
    start = before = 0
    while start < len(numbers):
        stop = max(start + 1, int(np.searchsorted(ends, before + max_snippets, side="right")))
        yield numbers[start:stop]
        start, before = stop, int(ends[stop - 1])


def _factors(rows: Embeddings, int8: bool) -> NDArray[Any]:
    """The rows as `fused` multiplies them: int8 (n, 32), or float16 (n, 4, 2, 8).

    The float16 array holds 8 dimensions of a row at a time: their upper digits, then their lower digits.
    rows: float32 (n, 32), for int8 already `rounded`.
    """
    if int8:
        return (rows * QUANTA).astype(np.int8)
    upper = rows.astype(np.float16)
    lower = (rows - upper.astype(np.float32)).astype(np.float16)
    return np.ascontiguousarray(np.stack([part.reshape(-1, 4, 8) for part in (upper, lower)], axis=2))


def _float16(embeddings: NDArray[Any]) -> NDArray[np.float16]:
    return np.ascontiguousarray(embeddings, dtype=np.float16)


def _longest(embeddings: DeviceArray) -> float:
    """Euclidean length of the longest embedding, computed on the GPU."""
    lengths = [0.0]
    for start in range(0, len(embeddings), BLOCK_ROWS):
        part = embeddings[start : start + BLOCK_ROWS].astype(np.float32)
        lengths.append(float((part * part).sum(axis=1).max()) ** 0.5)
    return max(lengths)


def _shift(largest_product: float, weighted_bias: NDArray[np.floating]) -> float:
    """A number that makes every local cost positive when added; a multiple of 1/4, so that exact sums stay exact."""
    min_cost = 1 - largest_product + float(weighted_bias.min())
    return max(0.0, float(np.ceil(4 * (1e-3 - min_cost)) / 4))


def _fit_halves(penalty: float, max_cost: float) -> bool:
    """Whether 16 bits hold all totals and charges; a comment in `gpu.cu` derives the bound."""
    return 4 * penalty + 3 * max_cost < (1 << 16) / HALVES_UNIT - 0.01


def _try(gpu: Gpu) -> None:
    """Raises DeviceError if costs of `fused`, `simple`, or `fused` with 16-bit totals differ from the definition's."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, DIMENSION)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    documents = Packed(
        embeddings=values.astype(np.float16),
        bias=np.zeros(len(values), dtype=np.float32),
        offsets=np.array([0, 30, len(values)]),
    )
    for settings in (Alignment(), Alignment(steps="classic"), Alignment(int8=True), Alignment(rest_price=0.5)):
        costs, expected = (align(values[5:14], documents, settings).costs for align in (gpu.align, definition.align))
        if not np.allclose(costs, expected, atol=HALVES_TOLERANCE if settings.int8 else TOLERANCE):
            raise DeviceError(f"expected costs {expected} of a trial alignment, got {costs}")


def _no_fallback(queries: Sequence[Embeddings], documents: Packed, settings: Alignment) -> tuple[Alignments, ...]:
    """Raises DeviceError: a trial alignment must not fall back to the CPU."""
    raise DeviceError("the GPU failed in a trial alignment; the log says how")
