"""How fast does one core align? Cells a second, compared with librosa and with BLAS on the same sequences.

    python -m bench.alignment [--quick] [--json FILE]

A cell is one query snippet against one document snippet. Embeddings are random unit vectors, float16 in the documents.
Lengths of documents are log-normal about 400 snippets, as the lengths of piano movements are. One thread computes the
costs and ends of all documents from the embeddings; BLAS has one thread, too. The time is processor time, the best of
several runs, so that other work on the machine counts little (it still takes memory bandwidth and cache). The bench
fails if BLAS multiplies a document at less than a tenth of the speed of a large product, so that no peer is measured in
trouble.

- librosa: a cost matrix by `1 - query @ document.T`, then `librosa.sequence.dtw` with the same steps, without
  backtracking, on a sample of the documents. librosa has no jumps and does not charge a skipped query row.
- blas: the product `query @ document.T` alone, in float32, one document at a time.
- filled: share of the lanes' cells that belong to a document. The other cells pad documents to equal length.
- share_of_bound: share of the 2.75 Gcell/s that one core with AVX-512 can reach when it multiplies 32 floats a cell.
"""

import argparse
import functools
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bench.lib import report
from bench.lib.confined import one_thread
from engine import process
from engine.alignment import cpu
from engine.alignment.definition import STEPS
from engine.alignment.lanes import LANES
from engine.config import Alignment, StepSet
from engine.values import DIMENSION, Embeddings, Packed

ROWS = (10, 40, 100, 400)
"""Lengths of the query in snippets: 5, 20, 50 and 200 s of audio."""
DOCUMENTS = (200, 1400)
"""Numbers of documents: a shortlist, and a small collection."""
BOUND_GCELLS = 2.75
PEER_CELLS = 2_000_000
"""Cells that librosa and BLAS compute, roughly. Their rate does not change with more cells."""
MEDIAN_LENGTH, SPREAD, MIN_LENGTH, MAX_LENGTH = 400, 0.5, 30, 1200
"""Lengths of documents, in snippets. The spread is the standard deviation of the logarithm."""
SECONDS = 0.3
"""Time over which a run is repeated, at least REPEATS times."""
REPEATS = 3

USUAL = (200, 40)
"""The usual case: a shortlist of 200 documents, and a query of 40 snippets (20 s)."""
STEP_SETS: tuple[StepSet, ...] = ("wide", "slope", "classic")
SETTINGS = [
    *(
        Alignment(steps=steps, whole=whole, jump_penalty=penalty)
        for steps, whole, penalty in itertools.product(STEP_SETS, (False, True), (2.0, np.inf))
    ),
    Alignment(steps="classic", whole=True, normalise="path", jump_penalty=np.inf, bias_weight=0.0),
    *(Alignment(steps=steps, int8=True) for steps in STEP_SETS),
]
"""Settings that are measured. The first is the default. The ninth is DTW as published, the only one without bias."""


LARGE = (
    np.ones((2048, DIMENSION), np.float32),
    Packed(
        embeddings=np.ones((2048, DIMENSION), np.float32),
        bias=np.zeros(2048, np.float32),
        offsets=np.array([0, 2048]),
    ),
)
"""A query and a document whose product is the fastest that BLAS computes here."""
LEAST_SHARE = 0.1
"""Smallest speed of BLAS on documents, by that on LARGE, with which the peers count as measured."""


def main(arguments: Sequence[str] | None = None) -> None:
    process.prepare()
    options = _options(arguments)
    with one_thread():
        _run(options)


def _run(options: argparse.Namespace) -> None:
    """Measures, prints and saves."""
    rng = np.random.default_rng(0)
    environment = report.environment()
    print(report.heading(environment))
    cases = [USUAL] if options.quick else list(itertools.product(DOCUMENTS, ROWS))
    rows: list[dict[str, Any]] = []
    large = gcells(by_blas, *LARGE)
    for count, length in tqdm(cases, unit="case", disable=None, leave=False):
        rows += measured(unit_rows(length, rng), collection(count, rng), large)
    print("", report.table(rows), "", sep="\n")
    usual = rows[cases.index(USUAL) * len(SETTINGS)]
    figures = {name: usual[name] for name in ("gcells_per_s_per_core", "ratio_to_librosa", "share_of_bound")}
    figures["least ratio_to_librosa"] = min(row["ratio_to_librosa"] for row in rows)
    for name, figure in figures.items():
        print(f"{name}: {figure:.3g}")
    if options.json:
        report.save(options.json, environment=environment, usual=usual, **figures, rows=rows)


def measured(query: Embeddings, packed: Packed, large: float) -> list[dict[str, Any]]:
    """The table rows of one case, one for each of SETTINGS.

    large: Gcell/s of BLAS on LARGE. Raises ValueError if BLAS is in trouble on the documents.
    """
    some = sample(query, packed)
    check(query, some)
    product = gcells(by_blas, query, some)
    if product < LEAST_SHARE * large:
        raise ValueError(
            f"BLAS computes {product:.3g} Gcell/s of documents, and {large:.3g} of a large product: too few"
        )
    peers = {
        (steps, whole): gcells(functools.partial(by_librosa, steps=steps, whole=whole), query, some)
        for steps, whole in {(settings.steps, settings.whole) for settings in SETTINGS}
    }
    rows = []
    for settings in SETTINGS:
        rate = gcells(functools.partial(cpu.align, settings=settings), query, packed)
        peer = peers[settings.steps, settings.whole]
        row: dict[str, Any] = {"documents": len(packed), "query": len(query), "filled": filled(packed)}
        row |= {"steps": settings.steps, "whole": settings.whole, "jumps": bool(np.isfinite(settings.jump_penalty))}
        row |= {"divided by": settings.normalise, "int8": settings.int8, "gcells_per_s_per_core": rate, "librosa": peer}
        row |= {"ratio_to_librosa": rate / peer, "blas": product, "share_of_bound": rate / BOUND_GCELLS}
        rows.append(row)
    return rows


def unit_rows(count: int, rng: np.random.Generator) -> Embeddings:
    """Random embeddings: float32 (count, 32), unit length."""
    values = rng.standard_normal((count, DIMENSION), dtype=np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def collection(count: int, rng: np.random.Generator) -> Packed:
    """Documents of random length and content."""
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_LENGTH), SPREAD, count), MIN_LENGTH, MAX_LENGTH).astype(np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    embeddings = unit_rows(int(offsets[-1]), rng).astype(np.float16)
    return Packed(embeddings=embeddings, bias=rng.random(len(embeddings), dtype=np.float32), offsets=offsets)


def sample(query: Embeddings, packed: Packed) -> Packed:
    """A sample of float32 documents, evenly spread over the collection, that makes about PEER_CELLS cells."""
    wanted = -(-PEER_CELLS * len(packed) // (len(query) * int(packed.offsets[-1])))
    some = packed.take(np.linspace(0, len(packed) - 1, min(wanted, len(packed))).astype(np.int64))
    return replace(some, embeddings=some.embeddings.astype(np.float32))


def filled(packed: Packed) -> float:
    """The share of the lanes' cells that belong to a document, when 16 documents of similar length share the lanes."""
    lengths = np.sort(np.diff(packed.offsets))[::-1]
    return float(lengths.sum() / (lengths[::LANES].sum() * LANES))


def gcells(run: Callable[[Embeddings, Packed], Any], query: Embeddings, packed: Packed) -> float:
    """Billions of cells per second of processor time: the best of several runs, after a first run that compiles."""
    run(query, packed)
    times: list[float] = []
    while len(times) < REPEATS or sum(times) < SECONDS:
        started = time.process_time()
        run(query, packed)
        times.append(time.process_time() - started)
    return len(query) * int(packed.offsets[-1]) / min(times) / 1e9


def by_librosa(query: Embeddings, packed: Packed, steps: StepSet, whole: bool) -> list[NDArray[np.floating]]:
    """The last row of librosa's accumulated cost D, for each document."""
    sigma = np.array(STEPS[steps])
    costs = (1 - query @ document.T for document in _documents(packed))
    return [librosa.sequence.dtw(C=c, step_sizes_sigma=sigma, subseq=not whole, backtrack=False)[-1] for c in costs]


def by_blas(query: Embeddings, packed: Packed) -> None:
    """Multiplies the query with each document."""
    for document in _documents(packed):
        query @ document.T


def check(query: Embeddings, packed: Packed) -> None:
    """Raises ValueError if our costs differ from librosa's, for settings with which both compute the same."""
    settings = Alignment(steps="classic", jump_penalty=np.inf, bias_weight=0.0)
    costs = cpu.align(query, packed, settings).costs
    expected = [row.min() / len(query) for row in by_librosa(query, packed, "classic", whole=False)]
    if not np.allclose(costs, expected, atol=1e-4):
        raise ValueError(
            f"expected the costs of librosa, got costs that differ by up to {np.abs(costs - expected).max()}"
        )


def _documents(packed: Packed) -> list[Embeddings]:
    return np.split(packed.embeddings, packed.offsets[1:-1])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 s against 200 documents only")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
