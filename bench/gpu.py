"""How fast are alignment, nearest neighbours and embedding on a GPU?

    python -m bench.gpu [--quick] [--only NAME ...] [--json FILE]

A cell is one query snippet against one document snippet. TCUPS are 10^12 cells a second, dot products included.
Embeddings are random unit vectors, float16 in the documents. Lengths of documents are log-normal about 400 snippets.
Times are wall-clock times of whole calls, after a first call that compiles: from a query in the host's memory to all
costs and ends in the host's memory. The documents are on the GPU.

- ceilings: upper bounds of the GPU: bytes copied and float16 products per second.
- checks: both kernels against the CPU backend (and against the definition, where it is fast enough) on new random
  sequences.
- versions: each kernel that was tried, at one size: the plain one, words a thread, steps, jumps, bytes, 16-bit totals.
- sweep: query lengths and collection sizes. latency: 50 s of audio. Both use float16 and, for 50 s, bytes (`int8`).
- batches: several queries at once.
- peers: librosa, the CPU backend, and torch on the same GPU with the same recurrence, row by row.
- faiss: neighbours on the GPU against the CPU. encoder: embeddings and snippets per second against the CPU.

share_of_limit is the share of 15 TCUPS: what the H100's tensor cores reach if they compute 32-d float16 products and
nothing else. For bytes the limit is 30 TCUPS. Without a GPU or a package, a line says so and the section is left out.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib import report
from engine import process
from engine.alignment import Alignments, cpu, definition, gpu
from engine.config import Alignment, StepSet
from engine.errors import DeviceError
from engine.values import DIMENSION, Embeddings, Packed

ROWS = (10, 20, 50, 92, 200, 400)
"""Lengths of the query in snippets; 92 snippets are 50 s of audio."""
USUAL = 92
SIZES = (100_000, 1_000_000, 10_000_000, 100_000_000)
LIMIT_TCUPS, BYTES_LIMIT_TCUPS = 15.0, 30.0
MEDIAN_LENGTH, SPREAD, MIN_LENGTH, MAX_LENGTH = 400, 0.5, 30, 1200
"""Lengths of documents, in snippets. The spread is the standard deviation of the logarithm."""
POOL = 1 << 20
"""Number of random embeddings, which are repeated to fill a collection."""
SECONDS, REPEATS = 0.5, 5
"""Seconds over which a call is repeated, and least number of calls."""
STEP_SETS: tuple[StepSet, ...] = ("wide", "slope", "classic")

Rows = list[dict[str, Any]]


class GpuBench:
    """The sections of the bench. The method of each section returns the rows of its table."""

    def __init__(self, cupy: Any, *, quick: bool) -> None:
        self.cupy, self.quick = cupy, quick
        self.rng = np.random.default_rng()
        self.device = self.version()
        self._packed: Packed | None = None

    def version(self, **settings: Any) -> gpu.Gpu:
        return gpu.Gpu(self.cupy, refuse, **settings)

    def collection(self, snippets: int) -> Packed:
        """Documents of random length and content. The last collection is kept in memory; earlier ones are freed."""
        if self._packed is None or self._packed.offsets[-1] != snippets:
            self._packed = None
            self._packed = collection(snippets, self.rng)
        return self._packed

    def ceilings(self) -> Rows:
        cupy = self.cupy
        one, other = (cupy.ones(1 << 29, dtype=cupy.float32) for _ in range(2))
        copied = self.device_seconds(lambda: cupy.copyto(one, other))
        a, b = (cupy.random.standard_normal((8192, 8192), dtype=cupy.float32).astype(cupy.float16) for _ in range(2))
        multiplied = self.device_seconds(lambda: a @ b)
        return [{"copied TB/s": 2 * one.nbytes / copied / 1e12, "float16 TFLOP/s": 2 * 8192**3 / multiplied / 1e12}]

    def device_seconds(self, run: Callable[[], object]) -> float:
        def once() -> None:
            run()
            self.cupy.cuda.Device().synchronize()

        return float(np.median(seconds(once)))

    def checks(self) -> Rows:
        versions: dict[str, dict[str, Any]] = {"simple": {"kernel": "simple"}, "fused": {}}
        versions |= {"fused, at most 4 words, never 16 bits": {"max_words": 4, "halves": False}}
        versions |= {"fused, 16 bits where they do": {"halves": True}}
        return [self.check(name, self.version(**settings)) for name, settings in versions.items()]

    def check(self, name: str, device: gpu.Gpu) -> dict[str, Any]:
        row: dict[str, Any] = {
            "kernel": name,
            "alignments": 0,
            "worst cost": 0.0,
            "other ends": 0,
            "ties that differ": 0,
        }
        for steps, whole, penalty, ties in itertools.product(STEP_SETS, (False, True), (2.0, 0.25, np.inf), (0, 1)):
            settings = Alignment(
                steps=steps,
                whole=whole,
                # Without ties, two paths whose costs agree to seven digits may have different lengths.
                normalise="path" if ties and self.rng.random() < 0.4 else "query",
                jump_penalty=penalty,
                bias_weight=float(self.rng.choice([0, 0.25])),
                int8=bool(self.rng.random() < 0.3),
            )
            longest = self.rng.choice([150, 600, 1500, 3000])  # decides the sizes of the kernel launches
            lengths = [1, 2, 3, 40, *self.rng.integers(1, longest, 10 if self.quick else 60).tolist()]
            documents = sequences(lengths, self.rng, ties=bool(ties))
            queries = [
                one_query(rows, self.rng, ties=bool(ties)) for rows in (1, *self.rng.integers(2, 300, 2).tolist())
            ]
            for query, found in zip(queries, device.align_many(queries, documents, settings), strict=True):
                expected = cpu.align(query, documents, settings, threads=8)
                add_differences(row, found, expected, bool(ties))
            few = documents.take(np.arange(4))
            add_differences(
                row,
                device.align(queries[1][:9], few, settings),
                definition.align(queries[1][:9], few, settings),
                bool(ties),
            )
        return row

    def versions(self) -> Rows:
        packed, query = self.collection(SIZES[1 if self.quick else 2]), one_query(USUAL, self.rng)
        usual, apart = Alignment(), Alignment(jump_penalty=np.inf)
        tried: list[tuple[dict[str, Any], Alignment]] = [({"kernel": "simple"}, usual)]
        tried += [({"three_way": False}, usual)]
        tried += [({"max_words": words}, usual) for words in (4, 7, 10)]
        slope, published = Alignment(steps="slope"), Alignment(steps="classic", jump_penalty=np.inf)
        tried += [({}, settings) for settings in (apart, slope, replace(slope, jump_penalty=np.inf), published)]
        for int8, halves, some in ((True, False, (8, 14)), (False, True, (4, 6)), (True, True, (5, 8, 10))):
            tried += [({"max_words": words, "halves": halves}, replace(usual, int8=int8)) for words in some]
        tried += [({}, replace(slope, int8=True))]
        rows = []
        for version, settings in tried:
            if self.quick and version.get("kernel") == "simple":
                continue
            device = self.version(**version)
            row: dict[str, Any] = {"kernel": version.get("kernel", "fused"), "words": version.get("max_words")}
            row["minima of"] = 3 if version.get("three_way", True) else 2
            row |= {"steps": settings.steps, "jumps": bool(np.isfinite(settings.jump_penalty)), "int8": settings.int8}
            row["totals"] = 16 if version.get("halves", settings.int8) else 32
            rows.append(row | rate(seconds(partial(device.align, query, packed, settings)), query, packed, settings))
        return rows

    def sweep(self) -> Rows:
        rows = []
        for snippets, int8 in itertools.product(SIZES[: 2 if self.quick else None], (False, True)):
            packed, settings = self.collection(snippets), Alignment(int8=int8)
            for length in (USUAL,) if int8 else ROWS:
                query = one_query(length, self.rng)
                times = seconds(partial(self.device.align, query, packed, settings))
                row: dict[str, Any] = {"snippets": snippets, "documents": len(packed), "query": length, "int8": int8}
                rows.append(row | rate(times, query, packed, settings))
        return rows

    def latency(self) -> Rows:
        rows = []
        for snippets, int8 in itertools.product(SIZES[1 : 2 if self.quick else None], (False, True)):
            packed, settings = self.collection(snippets), Alignment(int8=int8)
            times = []
            for _ in range(60):
                query = one_query(USUAL, self.rng)
                started = time.perf_counter()
                costs = self.device.align(query, packed, settings).costs
                np.argpartition(costs, 10)
                times.append((time.perf_counter() - started) * 1000)
            p50, p95 = np.percentile(times[10:], [50, 95])
            row: dict[str, Any] = {"snippets": snippets, "documents": len(packed), "int8": int8}
            rows.append(row | {"p50 ms": float(p50), "p95 ms": float(p95)})
        return rows

    def batches(self) -> Rows:
        packed = self.collection(SIZES[1])
        rows = []
        for count in (1, 2, 4, 8, 16, 32, 64):
            queries = [one_query(USUAL, self.rng) for _ in range(count)]
            times = seconds(partial(self.device.align_many, queries, packed, Alignment()))
            row: dict[str, Any] = {"queries": count, "queries/s": count / float(np.median(times))}
            rows.append(row | rate(times, np.concatenate(queries), packed, Alignment()))
        return rows

    def peers(self) -> Rows:
        packed, query, settings = self.collection(SIZES[1]), one_query(USUAL, self.rng), Alignment()
        expected = cpu.align(query, packed, settings, threads=8).costs
        peers: dict[str, Callable[[], Any]] = {
            "GPU": partial(self.device.align, query, packed, settings),
            "CPU, a thread": partial(cpu.align, query, packed, settings),
            "CPU, 16 threads": partial(cpu.align, query, packed, settings, threads=16),
        }
        rows = [{"who": who} | rate(seconds(run), query, packed, settings) for who, run in peers.items()]
        prepared: dict[str, Callable[..., Callable[[], Any]]] = {
            "torch on the GPU": by_torch,
            "librosa, a thread": by_librosa,
        }
        for who, prepare in prepared.items():
            try:
                some = packed if who.startswith("torch") else packed.take(np.arange(40))
                run = prepare(query, some, settings)
                if not who.startswith("librosa") and not np.allclose(run(), expected, atol=1e-3):
                    raise ValueError("expected the costs of the CPU, got others")
                rows.append({"who": who} | rate(seconds(run), query, some, settings))
            except (ImportError, RuntimeError, ValueError) as exc:
                rows.append({"who": f"{who}: {exc}"})
        return rows

    def faiss(self) -> Rows:
        from engine import neighbours

        if neighbours.gpus() == 0:
            raise DeviceError("FAISS finds no GPU")
        rows: Rows = []
        query = one_query(USUAL, self.rng)
        for count in (200_000, 1_000_000, *(() if self.quick else (1_200_000,))):
            started = time.perf_counter()
            built = neighbours.build(self.collection(count), threads=16)
            built_s = time.perf_counter() - started
            device = neighbours.on_gpu(built)
            found, expected = (neighbours.nearest(one, query, 25, threads=16)[1] for one in (device, built))
            row: dict[str, Any] = {"rows": count, "index": built.describe(), "build s": built_s}
            row |= {"on the GPU": isinstance(device, neighbours.GpuIndex)}
            row["recall"] = np.mean([len(set(a) & set(b)) / 25 for a, b in zip(found, expected, strict=True)]).item()
            for name, one in (("GPU ms", device), ("CPU ms", built)):
                times = seconds(partial(neighbours.nearest, one, query, 25, threads=16))
                row[name] = float(np.median(times)) * 1000
            rows.append(row)
        return rows

    def encoder(self) -> Rows:
        from engine.audio import BANDS
        from engine.embedding.encoder import Encoder

        on_gpu, on_cpu = Encoder.load(device="cuda"), Encoder.load(device="cpu", threads=16)
        front_end, count = on_gpu.identity.front_end, 2048 if self.quick else 16384
        shape = count, front_end.strip_rows, front_end.snippet_px
        snippets = np.where(self.rng.random(shape, dtype=np.float32) < 0.1, 0, 255).astype(np.uint8)
        excerpts = self.rng.random((count, BANDS[front_end.bands], front_end.excerpt_frames), dtype=np.float32)
        rows: Rows = []
        for name, inputs in (("score", snippets), ("recording", excerpts)):
            expected, found = (getattr(one, name)(inputs[:512]) for one in (on_cpu, on_gpu))
            row: dict[str, Any] = {"pathway": name, "least cosine": float((expected * found).sum(axis=1).min())}
            for who, one, some in (("GPU", on_gpu, inputs), ("CPU", on_cpu, inputs[:512])):
                times = seconds(partial(getattr(one, name), some))
                row[f"{who} snippets/s"] = len(some) / float(np.median(times))
            rows.append(row)
        return rows


SECTIONS = ("ceilings", "checks", "versions", "sweep", "latency", "batches", "peers", "faiss", "encoder")


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

    bench, sections = GpuBench(cupy, quick=options.quick), {}
    for name in options.only or SECTIONS:
        started = time.perf_counter()
        try:
            rows = getattr(bench, name)()
        except Exception as exc:  # the remaining sections are still worth running
            rows = [{"left out": f"{type(exc).__name__}: {exc}"}]
        sections[name] = rows
        print(f"\n{name} ({time.perf_counter() - started:.0f} s)", report.table(rows), sep="\n", flush=True)
        if options.json:
            report.save(options.json, environment=environment, **figures(sections), sections=sections)


def figures(sections: dict[str, Rows]) -> dict[str, Any]:
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


def sequences(lengths: Sequence[int], rng: np.random.Generator, *, ties: bool = False) -> Packed:
    """Random documents. With `ties`, costs are small multiples of 1/4, so that sums are exact and many are equal."""
    count = sum(lengths)
    bias = rng.integers(0, 3, count) / 4 if ties else rng.random(count)
    return Packed(
        embeddings=one_query(count, rng, ties=ties).astype(np.float16),
        bias=bias.astype(np.float32),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
    )


def one_query(rows: int, rng: np.random.Generator, *, ties: bool = False) -> Embeddings:
    """Random unit embeddings. With `ties`, four numbers of each embedding are 1/2 or -1/2, and the others 0."""
    if not ties:
        return unit_rows(rows, rng)
    values = np.where(np.arange(DIMENSION) < 4, rng.choice([-0.5, 0.5], (rows, DIMENSION)), 0)
    return rng.permuted(values, axis=1).astype(np.float32)


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


def rate(times: Sequence[float], query: Embeddings, packed: Packed, settings: Alignment) -> dict[str, Any]:
    """The table cells for time and cells per second. query: all queries one after the other, if there are several."""
    cells, median = len(query) * int(packed.offsets[-1]), float(np.median(times))
    tcups, limit = cells / median / 1e12, BYTES_LIMIT_TCUPS if settings.int8 else LIMIT_TCUPS
    return {"cells": cells, "ms": median * 1000, "tcups": tcups, "share_of_limit": tcups / limit}


def add_differences(row: dict[str, Any], found: Alignments, expected: Alignments, ties: bool) -> None:
    """Counts, in `row`, alignments that differ from the expected ones.

    `worst cost` is the largest difference, divided by the cost or by 1, whichever is larger.
    """
    path = np.isfinite(expected.costs)
    differ = np.where(path, np.abs(found.costs - np.where(path, expected.costs, 0)), 0) / np.maximum(1, expected.costs)
    wrong = int(np.count_nonzero(np.isfinite(found.costs) != path))
    row["alignments"] += len(path)
    row["worst cost"] = max(row["worst cost"], np.inf if wrong else float(np.nanmax(differ)))
    ends = int(np.count_nonzero(found.ends != expected.ends))
    costs = int(np.count_nonzero((found.costs != expected.costs) & path))
    row["ties that differ" if ties else "other ends"] += max(ends, costs) if ties else ends


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


def by_librosa(query: Embeddings, packed: Packed, settings: Alignment) -> Callable[[], Any]:
    """Alignment by librosa's SDTW with wide steps. librosa has no jumps and does not charge skipped rows."""
    from librosa.sequence import dtw

    sigma, documents = np.array(definition.STEPS["wide"]), np.split(packed.embeddings, packed.offsets[1:-1])

    def run() -> Any:
        costs = (1 - query @ document.astype(np.float32).T for document in documents)
        return [dtw(C=c, step_sizes_sigma=sigma, subseq=True, backtrack=False)[-1] for c in costs]

    return run


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small collections only")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="NAME", help=", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
