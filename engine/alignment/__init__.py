"""Alignment of a query with many documents: the interface of every backend (`Backend`), and their choice (`choose`)."""

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
"""Cells of a path in order, int32 (L, 2): the query index and the document index of each cell. A jump shows as a change
of the document index that no step makes. Query snippets that are left out have no cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignments:
    """The best alignment of one query with each of B documents."""

    costs: NDArray[np.float32]
    """Cost of each alignment, (B,). Lower is better; infinity means that no path exists."""
    ends: NDArray[np.int32]
    """Index of the document snippet at which each path ends, (B,); -1 means that no path exists."""


AlignMany = Callable[[Sequence[Embeddings], Packed, Alignment], tuple[Alignments, ...]]
"""A function that aligns each of several queries with all documents, and returns one `Alignments` per query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One implementation of the alignment. `engine.alignment.definition` says what each function computes."""

    name: str
    reason: str
    """Why this backend was chosen, for the log and `scorefind doctor`."""
    align: Callable[[Embeddings, Packed, Alignment], Alignments]
    align_many: AlignMany
    """Aligns several queries in one call, which takes less time than one call per query."""
    path: Callable[[Embeddings, NDArray[Any], NDArray[np.float32], Alignment], Path]
    fell_back: Callable[[], bool] = lambda: False
    """Tells whether a GPU that this backend was chosen for has failed, so that the CPU aligns."""
    max_resident: int = 4_000_000
    """Maximum number of document snippets kept in memory, 68 bytes each."""
    max_exhaustive_cells: int = 40_000_000
    """Maximum number of query snippets x document snippets up to which a search aligns every document; above it, making
    a shortlist is faster. The default lets a query of ten seconds be aligned with three million snippets."""


GPU_MAX_RESIDENT, GPU_MAX_EXHAUSTIVE_CELLS = 50_000_000, 5_000_000_000
"""`max_resident` and `max_exhaustive_cells` of a GPU. An H100 aligns that many cells in about ten milliseconds."""


def choose(name: BackendName = "auto", *, threads: int = 1) -> Backend:
    """The backend of the given name, logged with the reason for it. `auto` takes a GPU that works, or else the CPU.

    threads: number of threads that align documents on the CPU.
    Raises ValueError if no backend has this name, and DeviceError if `name` is `gpu` and no GPU works.
    """
    if name == "definition":
        from engine.alignment import definition

        backend = Backend(
            name="definition",
            reason="requested; meant for tests, some thousand times slower",
            align=definition.align,
            align_many=definition.align_many,
            path=definition.path,
        )
    elif name == "cpu":
        backend = _cpu("requested", threads)
    elif name == "gpu":
        backend = _gpu("requested", threads)
    elif name == "auto":
        try:
            backend = _gpu("the fastest backend", threads)
        except DeviceError as exc:
            backend = _cpu(str(exc), threads)
    else:
        raise ValueError(f"backend must be auto, cpu, gpu or definition, got {name}")
    logger.info("alignment backend %s with %d threads: %s", backend.name, threads, backend.reason)
    return backend


def _cpu(reason: str, threads: int) -> Backend:
    """The backend that aligns on CPU threads."""
    from engine.alignment import cpu

    return Backend(
        name="cpu",
        reason=reason,
        align=functools.partial(cpu.align, threads=threads),
        align_many=functools.partial(cpu.align_many, threads=threads),
        path=cpu.path,
    )


def _gpu(reason: str, threads: int) -> Backend:
    """The backend that aligns on a GPU. Raises DeviceError if no GPU works."""
    from engine.alignment import cpu, gpu

    device = gpu.open_gpu(functools.partial(cpu.align_many, threads=threads))
    return Backend(
        name="gpu",
        reason=f"{reason}: {gpu.name_of_gpu()}",
        align=device.align,
        align_many=device.align_many,
        path=cpu.path,
        fell_back=device.fell_back,
        max_resident=GPU_MAX_RESIDENT,
        max_exhaustive_cells=GPU_MAX_EXHAUSTIVE_CELLS,
    )


def check_query(query: Embeddings) -> None:
    """Raises ValueError if the query is not float32 (N, 32) with N >= 1, which every backend requires."""
    if query.dtype != np.float32 or query.ndim != 2 or query.shape[1] != DIMENSION or len(query) == 0:
        raise ValueError(f"query must be float32 (N, {DIMENSION}) with N >= 1, got {query.dtype} {query.shape}")
