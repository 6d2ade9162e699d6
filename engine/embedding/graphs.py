"""The pathways of a network as ONNX graphs, which ONNX Runtime computes on a CPU.

The graphs lie beside the weights file that they were exported from (`indexer.training.export`), one file for each kind
of snippet and each precision. Each graph names its weights file by the hash, so that a graph of other weights is
refused.
"""

from pathlib import Path
from typing import Any, Literal, get_args

import llvmlite.binding
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.embedding.weights import Weights
from engine.errors import WeightsError
from engine.values import DIMENSION, Embeddings, Kind

FORMAT = "scorefind-graph"
FORMAT_VERSION = 1

Precision = Literal["fp32", "int8"]

INPUT, OUTPUT = "inputs", "embeddings"
"""Names of the input and of the output of a graph."""

BATCH = 4
"""Inputs per batch. A graph has a fixed shape, and a smaller batch is filled up with zeros, so that an embedding has
the same bits alone and in company. Batches of 1, 2, 4, 6 and 12 embed 1,377, 1,411, 1,451, 1,461 and 1,449 snippets of
scores a second, and 1,402, 1,560, 1,605, 1,590 and 1,631 excerpts; a batch of 4 costs a lone excerpt 2.5 ms."""


class Graphs:
    """The runtime on a CPU. Several threads may call `embed` at once."""

    batch = BATCH

    def __init__(self, weights: Weights, precision: Precision | None = None) -> None:
        """Loads the graphs of these weights. precision: None takes that of `suitable_precision`.

        Raises WeightsError if a graph is missing, damaged, or of other weights.
        """
        precision, reason = (precision, "as asked for") if precision else suitable_precision(weights.path)
        self._sessions = {kind: _session(weights, kind, precision) for kind in get_args(Kind)}
        self.description = f"cpu: ONNX Runtime {onnxruntime.__version__}, {precision} ({reason})"

    def embed(self, kind: Kind, inputs: NDArray[Any]) -> Embeddings:
        """The embeddings of snippets (kind `score`) or of excerpts (kind `recording`), float32 (n, 32)."""
        embeddings = np.empty((len(inputs), DIMENSION), np.float32)
        for start in range(0, len(inputs), BATCH):
            batch = np.ascontiguousarray(inputs[start : start + BATCH])
            count = len(batch)
            if count < BATCH:
                filled = np.zeros((BATCH, *batch.shape[1:]), batch.dtype)
                filled[:count] = batch
                batch = filled
            (computed,) = self._sessions[kind].run([OUTPUT], {INPUT: batch})
            embeddings[start : start + count] = computed[:count]
        return embeddings


def suitable_precision(weights: Path) -> tuple[Precision, str]:
    """The precision for these weights on this CPU, and why: int8 where that is exact and quick, else fp32.

    Without VNNI, sums of products of bytes are slow, and the library lets some of them overflow.
    """
    if not all(path_of(weights, kind, "int8").is_file() for kind in get_args(Kind)):
        return "fp32", "the weights have no int8 graphs"
    if not multiplies_bytes():
        return "fp32", "the CPU does not multiply bytes"
    return "int8", "the CPU multiplies bytes"


def multiplies_bytes() -> bool:
    """Whether the CPU has an instruction that sums products of bytes (VNNI)."""
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name, False) for name in ("avx512vnni", "avxvnni"))


def path_of(weights: Path, kind: Kind, precision: Precision) -> Path:
    """The file that holds the graph of one pathway of a weights file."""
    return weights.with_suffix(f".{kind}.{precision}.onnx")


def description(weights_hash: str, kind: Kind, precision: Precision) -> dict[str, str]:
    """The metadata of a graph, which say where it belongs."""
    return {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "weights": weights_hash,
        "kind": kind,
        "precision": precision,
    }


def open_session(graph: Path | bytes) -> onnxruntime.InferenceSession:
    """A session of one thread. We run our own threads; those of the library would spin while they wait."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for pool in ("intra", "inter"):
        options.add_session_config_entry(f"session.{pool}_op.allow_spinning", "0")
    source = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _session(weights: Weights, kind: Kind, precision: Precision) -> onnxruntime.InferenceSession:
    """The session of one pathway. Raises WeightsError if its graph is missing, damaged, or of other weights."""
    path = path_of(weights.path, kind, precision)
    remedy = f"`python -m indexer.training.export {weights.path}` makes it, with the extra `train`"
    if not path.is_file():
        raise WeightsError(f"{weights.path}: its graph {path.name} is missing; {remedy}")
    try:
        session = open_session(path)
    except Exception as exc:  # the library's errors have no other class in common
        raise WeightsError(f"{path}: damaged or not an ONNX graph; {remedy}: {exc}") from exc
    found: dict[str, str] = session.get_modelmeta().custom_metadata_map
    for name, expected in description(weights.identity.hash, kind, precision).items():
        if found.get(name) != expected:
            cause = f"expected {name} {expected}, got {found.get(name)}"
            raise WeightsError(f"{path}: the graph does not belong to {weights.path.name}: {cause}; {remedy}")
    return session
