"""How fast are alignment, nearest neighbours and embedding on a GPU?

    python -m bench.gpu [--quick] [--only NAME ...] [--json FILE]

A cell is one query snippet against one document snippet. TCUPS are 10^12 cells a second, dot products included.
Embeddings are random unit vectors, float16 in the documents. Lengths of documents are log-normal about 400 snippets.
Times are medians of the wall-clock times of whole calls, after a first call that compiles: from a query in the host's
memory to all costs and ends in the host's memory. The documents are on the GPU.

- ceilings: upper bounds of the GPU: bytes copied and float16 products per second.
- settings: steps, jumps, rests, and bytes with totals of 16 and of 32 bits, at one size. `off by` is the largest
  difference from a cost of the CPU.
- latency: 50 s of audio among collections of several sizes, on the GPU and on the CPU.
- sweep: query lengths and collection sizes. batches: several queries at once.
- peers: the CPU backend, and torch on the same GPU with the same recurrence, row by row.
- faiss: neighbours on the GPU against the CPU. encoder: embeddings and snippets per second against the CPU.

share_of_limit is the share of 15 TCUPS: what the H100's tensor cores reach if they compute 32-d float16 products and
nothing else. For bytes the limit is 30 TCUPS. Without a GPU or a package, a line says so and the section is left out.
"""

import argparse
import itertools
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib import report
from engine import process
from engine.alignment import Alignments, cpu, gpu
from engine.config import Alignment
from engine.errors import DeviceError
from engine.values import DIMENSION, Embeddings, Packed

ROWS = (10, 20, 50, 92, 200, 400)
"""Lengths of the query in snippets; 92 snippets are 50 s of audio."""
USUAL, SHORT = 92, 24
SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
QUICK_SIZES = SIZES[:3]
CPU_CELLS = 100_000_000
"""Maximum number of cells for each thread of a CPU that is measured."""
LIMIT_TCUPS, BYTES_LIMIT_TCUPS = 15.0, 30.0
MEDIAN_LENGTH, SPREAD, MIN_LENGTH, MAX_LENGTH = 400, 0.5, 30, 1200
"""Lengths of documents, in snippets. The spread is the standard deviation of the logarithm."""
POOL = 1 << 20
"""Number of random embeddings, which are repeated to fill a collection."""
SECONDS, REPEATS = 0.3, 5
"""Seconds over which a call is repeated, and least number of calls."""
COMPILERS = 16
"""Number of processes that compile kernels at the same time."""
WIDE, SLOPE, BYTES = Alignment(), Alignment(steps="slope"), Alignment(int8=True)
TRIED: tuple[tuple[Alignment, bool], ...] = (
    (WIDE, True),
    (replace(WIDE, jump_penalty=np.inf), True),
    (replace(WIDE, rest_price=0.75), True),
    (SLOPE, True),
    (BYTES, True),
    (BYTES, False),
    (replace(SLOPE, int8=True), True),
    (Alignment(steps="classic", jump_penalty=np.inf), True),
)
"""Settings of the alignment, and whether totals may have 16 bits."""

Row = dict[str, Any]


class GpuBench:
    """The sections of the bench. The method of each section returns the rows of its table."""

    def __init__(self, cupy: Any, *, quick: bool) -> None:
        self.cupy, self.quick = cupy, quick
        self.sizes = QUICK_SIZES if quick else SIZES
        self.rng = np.random.default_rng()
        self.device = gpu.Gpu(cupy, refuse)
        self._collections: dict[int, Packed] = {}

    def collection(self, snippets: int) -> Packed:
        """Documents of random length and content, always the same for one size."""
        if snippets not in self._collections:
            self._collections[snippets] = collection(snippets, self.rng)
        return self._collections[snippets]

    def ceilings(self) -> Iterator[Row]:
        cupy = self.cupy
        one, other = (cupy.ones(1 << 29, dtype=cupy.float32) for _ in range(2))
        copied = self.device_seconds(lambda: cupy.copyto(one, other))
        a, b = (cupy.random.standard_normal((8192, 8192), dtype=cupy.float32).astype(cupy.float16) for _ in range(2))
        multiplied = self.device_seconds(lambda: a @ b)
        yield {"copied TB/s": 2 * one.nbytes / copied / 1e12, "float16 TFLOP/s": 2 * 8192**3 / multiplied / 1e12}

    def device_seconds(self, run: Callable[[], object]) -> float:
        def once() -> None:
            run()
            self.cupy.cuda.Device().synchronize()

        return float(np.median(seconds(once)))

    def settings(self) -> Iterator[Row]:
        packed, query = self.collection(self.sizes[:4][-1]), unit_rows(USUAL, self.rng)
        with ProcessPoolExecutor(COMPILERS, mp_context=get_context("spawn")) as pool:
            wait([pool.submit(compile_kernels, *tried) for tried in TRIED])
        for settings, halves in TRIED:
            device = gpu.Gpu(self.cupy, refuse, halves=halves)
            row: Row = {"steps": settings.steps, "jumps": bool(np.isfinite(settings.jump_penalty))}
            row |= {"rests": settings.rests, "int8": settings.int8, "totals": 16 if settings.int8 and halves else 32}
            try:
                expected = cpu.align(query, packed, settings, threads=16)
                row["off by 1e-6"] = 1e6 * worst(device.align(query, packed, settings), expected)
                row |= rate(seconds(partial(device.align, query, packed, settings)), query, packed, settings)
            except DeviceError as exc:
                row["off by 1e-6"] = str(exc)
            yield row

    def latency(self) -> Iterator[Row]:
        for snippets, int8 in itertools.product(self.sizes, (False, True)):
            packed, settings, times = self.collection(snippets), Alignment(int8=int8), []
            for _ in range(60):
                query = unit_rows(USUAL, self.rng)
                started = time.perf_counter()
                self.device.align(query, packed, settings).costs.argmin()
                times.append((time.perf_counter() - started) * 1000)
            p50, p95 = np.percentile(times[10:], [50, 95])
            row: Row = {"snippets": snippets, "documents": len(packed), "int8": int8}
            row |= {"p50 ms": float(p50), "p95 ms": float(p95)}
            for threads in (1, 16):
                if snippets * USUAL <= CPU_CELLS * threads:
                    row[f"CPU {threads} ms"] = median_ms(partial(cpu.align, query, packed, settings, threads=threads))
            yield row

    def sweep(self) -> Iterator[Row]:
        for snippets, int8 in itertools.product(self.sizes[2:], (False, True)):
            packed, settings = self.collection(snippets), Alignment(int8=int8)
            for length in (USUAL,) if int8 else ROWS:
                query = unit_rows(length, self.rng)
                times = seconds(partial(self.device.align, query, packed, settings))
                row: Row = {"snippets": snippets, "documents": len(packed), "query": length, "int8": int8}
                yield row | rate(times, query, packed, settings)

    def batches(self) -> Iterator[Row]:
        packed = self.collection(1_000_000)
        for count in (1, 2, 4, 8, 16, 32, 64):
            queries = [unit_rows(USUAL, self.rng) for _ in range(count)]
            times = seconds(partial(self.device.align_many, queries, packed, WIDE))
            row: Row = {"queries": count, "queries/s": count / float(np.median(times))}
            yield row | rate(times, np.concatenate(queries), packed, WIDE)

    def peers(self) -> Iterator[Row]:
        packed, query = self.collection(1_000_000), unit_rows(USUAL, self.rng)
        peers: dict[str, Callable[[], Any]] = {
            "GPU": partial(self.device.align, query, packed, WIDE),
            "CPU, a thread": partial(cpu.align, query, packed, WIDE),
            "CPU, 16 threads": partial(cpu.align, query, packed, WIDE, threads=16),
        }
        for who, run in peers.items():
            yield {"who": who} | rate(seconds(run), query, packed, WIDE)
        by = by_torch(query, packed, WIDE)
        if not np.allclose(by(), cpu.align(query, packed, WIDE).costs, atol=1e-3):
            raise ValueError("torch computes other costs than the CPU")
        yield {"who": "torch on the GPU"} | rate(seconds(by), query, packed, WIDE)

    def faiss(self) -> Iterator[Row]:
        from engine import neighbours
        from engine.search.plan import affordable

        if neighbours.gpus() == 0:
            raise DeviceError("FAISS finds no GPU")
        for count in (200_000, 1_000_000, *(() if self.quick else (4_000_000,))):
            started = time.perf_counter()
            built = neighbours.build(self.collection(count), threads=16)
            built_s = time.perf_counter() - started
            device = neighbours.on_gpu(built)
            for length in (SHORT, USUAL):
                query, budget = unit_rows(length, self.rng), affordable(length)
                search = partial(neighbours.nearest, neighbours=budget.neighbours, probes=budget.probes)
                row: Row = {"rows": count, "cells": built.cells, "build s": built_s, "query": length}
                row |= {"neighbours": budget.neighbours, "probes": budget.probes}
                row["on the GPU"] = isinstance(device, neighbours.GpuIndex)
                found, expected = (search(one, query, threads=1)[1] for one in (device, built))
                shared = (len(np.intersect1d(*pair)) for pair in zip(found, expected, strict=True))
                row["share of the CPU's"] = sum(shared) / expected.size
                row["GPU ms"] = median_ms(partial(search, device, query, threads=1))
                for threads in (1, 16):
                    row[f"CPU {threads} ms"] = median_ms(partial(search, built, query, threads=threads))
                yield row | {"fell back": device.fell_back}

    def encoder(self) -> Iterator[Row]:
        from engine.audio import BANDS
        from engine.embedding.encoder import Encoder

        on_gpu, on_cpu = Encoder.load(device="cuda"), Encoder.load(device="cpu", threads=16)
        front_end, count = on_gpu.identity.front_end, 2048 if self.quick else 8192
        shape = count, front_end.strip_rows, front_end.snippet_px
        snippets = np.where(self.rng.random(shape, dtype=np.float32) < 0.1, 0, 255).astype(np.uint8)
        excerpts = self.rng.random((count, BANDS[front_end.bands], front_end.excerpt_frames), dtype=np.float32)
        for name, inputs in (("score", snippets), ("recording", excerpts)):
            expected, found = (getattr(one, name)(inputs[:512]) for one in (on_cpu, on_gpu))
            row: Row = {"pathway": name, "least cosine": float((expected * found).sum(axis=1).min())}
            for who, one, some in (("GPU", on_gpu, inputs), ("CPU", on_cpu, inputs[:512])):
                row[f"{who} snippets/s"] = len(some) / median_ms(partial(getattr(one, name), some)) * 1000
            for size in (1, 24):
                row[f"GPU ms of {size}"] = median_ms(partial(getattr(on_gpu, name), inputs[:size]))
            yield row


SECTIONS = ("ceilings", "settings", "latency", "peers", "sweep", "batches", "faiss", "encoder")


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    environment = report.environment()
    print(report.heading(environment))
    try:
        gpu.open_gpu(refuse)
        environment["device"] = gpu.name_of_gpu()
    except DeviceError as exc:
        print(f"nothing is measured: {exc}")
        return
    print(environment["device"])
    import cupy

    bench = GpuBench(cupy, quick=options.quick)
    sections: dict[str, list[Row]] = {}
    for name in options.only or SECTIONS:
        started, rows = time.perf_counter(), sections.setdefault(name, [])
        try:
            for row in getattr(bench, name)():
                rows.append(row)
                if options.json:  # after each row: a time limit may end the section
                    report.save(options.json, environment=environment, **figures(sections), sections=sections)
        except Exception as exc:  # the remaining sections are still worth running
            rows.append({"left out": f"{type(exc).__name__}: {exc}"})
            traceback.print_exc()
        print(
            f"\n{name} ({time.perf_counter() - started:.0f} s, to {time.strftime('%X')})",
            report.table(rows),
            sep="\n",
            flush=True,
        )


def figures(sections: dict[str, list[Row]]) -> dict[str, Any]:
    """The figures by which GPUs are compared: of the largest collection, and of 50 s of audio; float16, then bytes."""
    found: dict[str, Any] = {}
    for suffix, int8 in (("", False), ("_int8", True)):
        usual = [row for row in sections.get("sweep", []) if row.get("query") == USUAL and row["int8"] == int8]
        if usual:
            found |= {f"{name}{suffix}": usual[-1][name] for name in ("tcups", "cells", "share_of_limit")}
        timed = [row for row in sections.get("latency", []) if row.get("int8") == int8]
        found[f"latency_ms{suffix}"] = {str(row["snippets"]): row["p50 ms"] for row in timed}
    return found


def refuse(queries: Sequence[Embeddings], documents: Packed, settings: Alignment) -> tuple[Alignments, ...]:
    raise DeviceError("the GPU failed; the log says how")


def compile_kernels(settings: Alignment, halves: bool) -> None:
    """Compiles the kernels that these settings need; CuPy keeps them on disk, where other processes find them."""
    import cupy

    gpu.MIN_LAUNCH = 1  # so that a small collection needs the kernels of a large one
    documents = collection(200_000, np.random.default_rng())
    gpu.Gpu(cupy, refuse, halves=halves).align(unit_rows(1, np.random.default_rng()), documents, settings)


def unit_rows(count: int, rng: np.random.Generator) -> Embeddings:
    values = rng.standard_normal((count, DIMENSION), dtype=np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def collection(snippets: int, rng: np.random.Generator) -> Packed:
    """Documents of random length that hold `snippets` snippets together."""
    count = 2 * snippets // MEDIAN_LENGTH + 10
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_LENGTH), SPREAD, count), MIN_LENGTH, MAX_LENGTH).astype(np.int64)
    ends = np.cumsum(lengths)
    offsets = np.concatenate([np.zeros(1, np.int64), ends[ends < snippets], np.array([snippets])])
    pool = unit_rows(min(snippets, POOL), rng).astype(np.float16)
    bias = rng.random(len(pool), dtype=np.float32)
    return Packed(embeddings=np.resize(pool, (snippets, DIMENSION)), bias=np.resize(bias, snippets), offsets=offsets)


def seconds(run: Callable[[], Any]) -> list[float]:
    """Seconds that each of several calls takes, after a first call that is not counted."""
    run()
    times: list[float] = []
    while len(times) < REPEATS or sum(times) < SECONDS:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


def median_ms(run: Callable[[], Any]) -> float:
    """Milliseconds of a call, the median of several."""
    return float(np.median(seconds(run))) * 1000


def rate(times: Sequence[float], query: Embeddings, packed: Packed, settings: Alignment) -> dict[str, Any]:
    """The table cells for time and cells per second. query: all queries one after the other, if there are several."""
    cells, median = len(query) * int(packed.offsets[-1]), float(np.median(times))
    tcups, limit = cells / median / 1e12, BYTES_LIMIT_TCUPS if settings.int8 else LIMIT_TCUPS
    return {"cells": cells, "ms": median * 1000, "tcups": tcups, "share_of_limit": tcups / limit}


def worst(found: Alignments, expected: Alignments) -> float:
    """The largest difference from the expected costs; infinity if a path is found where none exists, or the reverse."""
    path = np.isfinite(expected.costs)
    if not np.array_equal(np.isfinite(found.costs), path):
        return np.inf
    return float(np.abs(found.costs[path] - expected.costs[path]).max())


def by_torch(query: Embeddings, packed: Packed, settings: Alignment) -> Callable[[], NDArray[np.float32]]:
    """Alignment with wide steps and jumps by torch: one row of many documents at a time, costs by one product."""
    import torch
    from torch.nn.functional import pad

    lengths = np.diff(packed.offsets)
    groups = np.array_split(np.argsort(lengths), max(1, len(lengths) // 1024))
    resident = []
    for group in groups:
        longest = int(lengths[group].max())
        values, base = np.zeros((len(group), longest, DIMENSION), np.float16), np.full((len(group), longest), np.inf)
        for place, b in enumerate(group):
            part = slice(packed.offsets[b], packed.offsets[b + 1])
            values[place, : lengths[b]] = packed.embeddings[part]
            base[place, : lengths[b]] = 1 + settings.bias_weight * packed.bias[part]
        resident.append((torch.from_numpy(values).cuda(), torch.from_numpy(base.astype(np.float32)).cuda()))

    def aligned(values: Any, base: Any) -> Any:
        rows = torch.from_numpy(query).cuda()
        costs = base - (rows @ values.float().reshape(-1, DIMENSION).T).reshape(len(rows), *base.shape)
        total = costs[0]
        charge = far_charge = torch.full_like(total, np.inf)
        for cost in costs[1:]:
            left = [pad(total, (n, 0), value=np.inf)[:, :-n] for n in (1, 2, 3)]
            best = total.amin(dim=1, keepdim=True) + settings.jump_penalty
            for way in (*left, charge, far_charge):
                best = torch.minimum(best, way)
            total, charge, far_charge = cost + best, left[0] + cost, charge + cost
        return total.amin(dim=1) / len(rows)

    def run() -> NDArray[np.float32]:
        with torch.inference_mode():
            found = torch.cat([aligned(*one) for one in resident]).cpu().numpy()
        costs = np.empty_like(found)
        costs[np.concatenate(groups)] = found
        return costs

    return run


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small collections only")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="NAME", help=", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
