"""Alignment of a query with many documents: what both backends take and return, and the choice between them."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.config import Alignment
from engine.errors import DeviceError
from engine.values import DIMENSION, Embeddings, Packed

logger = logging.getLogger(__name__)

BackendName = Literal["auto", "cpu", "gpu", "definition"]

Path = NDArray[np.int32]
"""int32 (L, 2): query and document index of each cell passed, in order; a jump shows as a change of document index
that no step makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignments:
    """The best alignment of one query with each of B documents."""

    costs: NDArray[np.float32]
    """(B,), lower is better; infinite where no path exists."""
    ends: NDArray[np.int32]
    """(B,) snippet of the document at which the path ends; -1 where no path exists."""


AlignMany = Callable[[Sequence[Embeddings], Packed, Alignment], tuple[Alignments, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One implementation of the alignment; `engine.alignment.definition` says what each function computes."""

    name: str
    reason: str
    """Why it was chosen."""
    align: Callable[[Embeddings, Packed, Alignment], Alignments]
    align_many: AlignMany
    """Several queries in one go, which takes less time than one by one."""
    path: Callable[[Embeddings, NDArray[Any], NDArray[np.float32], Alignment], Path]
    max_resident: int = 4_000_000
    """Document snippets kept in memory, 68 bytes each."""
    max_exhaustive_cells: int = 40_000_000
    """A search aligns every document if query snippets x document snippets is at most this; above it, making a
    shortlist is faster. So ten seconds are aligned with three million snippets."""


GPU_MAX_RESIDENT, GPU_MAX_EXHAUSTIVE_CELLS = 50_000_000, 5_000_000_000
"""The limits of a GPU: at the speed expected, some milliseconds a query."""


def choose(name: BackendName = "auto", *, threads: int = 1) -> Backend:
    """The backend to use from here on, logged with the reason. `auto` is a GPU that works, or else the CPU.

    threads: how many documents are aligned at once (cpu).

    Raises ValueError if there is no backend of this name, DeviceError if `gpu` was asked for and none works.
    """
    if name == "definition":
        from engine.alignment import definition

        backend = Backend(
            name="definition",
            reason="asked for; meant for tests, some thousand times slower",
            align=definition.align,
            align_many=definition.align_many,
            path=definition.path,
        )
    elif name == "cpu":
        backend = _cpu("asked for", threads)
    elif name == "gpu":
        backend = _gpu("asked for", threads)
    elif name == "auto":
        try:
            backend = _gpu("the fastest there is", threads)
        except DeviceError as exc:
            backend = _cpu(str(exc), threads)
    else:
        raise ValueError(f"backend must be auto, cpu, gpu or definition, got {name}")
    logger.info("alignment backend %s with %d threads: %s", backend.name, threads, backend.reason)
    return backend


def _cpu(reason: str, threads: int) -> Backend:
    from engine.alignment import cpu

    return Backend(
        name="cpu",
        reason=reason,
        align=functools.partial(cpu.align, threads=threads),
        align_many=functools.partial(cpu.align_many, threads=threads),
        path=cpu.path,
    )


def _gpu(reason: str, threads: int) -> Backend:
    """Raises DeviceError if there is none that works."""
    from engine.alignment import cpu, gpu

    device = gpu.open_gpu(functools.partial(cpu.align_many, threads=threads))
    return Backend(
        name="gpu",
        reason=f"{reason}: {gpu.name_of_gpu()}",
        align=device.align,
        align_many=device.align_many,
        path=cpu.path,
        max_resident=GPU_MAX_RESIDENT,
        max_exhaustive_cells=GPU_MAX_EXHAUSTIVE_CELLS,
    )


def check_query(query: Embeddings) -> None:
    """Raises ValueError if `query` is not what every backend takes: float32 (N, 32) with N >= 1."""
    if query.dtype != np.float32 or query.ndim != 2 or query.shape[1] != DIMENSION or len(query) == 0:
        raise ValueError(f"query must be float32 (N, {DIMENSION}) with N >= 1, got {query.dtype} {query.shape}")
