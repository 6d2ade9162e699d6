"""Snippets and excerpts -> embeddings, by the network of one weights file.

On a CPU, ONNX Runtime computes the network, and torch is not needed. On a GPU, torch does.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.audio import BANDS
from engine.embedding import weights
from engine.embedding.graphs import Graphs, Precision
from engine.embedding.weights import DEFAULT_WEIGHTS, Weights
from engine.errors import DeviceError
from engine.values import Embeddings, Kind

__all__ = ["DEFAULT_WEIGHTS", "Encoder", "Precision", "Runtime"]

_MIN_SHARE = 16
"""Minimum number of inputs for each thread."""
_BIAS_ROWS = 128
"""Rows whose bias is computed at a time, so that their products with the background stay in the cache."""


class Runtime(Protocol):
    """A library that computes the pathways of one network on one device."""

    @property
    def description(self) -> str:
        """The device, the library with its version, and the precision, for people."""

    @property
    def batch(self) -> int:
        """Inputs per batch."""

    def embed(self, kind: Kind, inputs: NDArray[Any], /) -> Embeddings:
        """The embeddings of snippets (kind `score`) or of excerpts (kind `recording`), float32 (n, 32)."""


class Encoder:
    """A trained network and the front-end settings it was trained with.

    On a CPU, the embedding of an input has the same bits whatever the other inputs, their order and the number of
    threads are. Another CPU or another version of ONNX Runtime may compute other last digits. On a GPU the last digits
    depend on the size of the batch.
    """

    def __init__(self, of: Weights, runtime: Runtime, *, threads: int = 1, reason: str = "") -> None:
        """of: the weights that `runtime` computes with. reason: why the runtime was chosen."""
        self.identity = of.identity
        self.device = f"{runtime.description}; {reason}" if reason else runtime.description
        """The device and the library that compute, their precision, and the reason, for people."""
        self._runtime = runtime
        self._background = of.background
        self._temperature = of.temperature
        self._threads = threads

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        threads: int = 1,
        device: str | None = None,
        precision: Precision | None = None,
    ) -> "Encoder":
        """The encoder of a weights file; by default, of the shipped weights file.

        threads: number of threads that embed on a CPU.
        device: `cpu`, or torch's name of a GPU; None takes a CUDA device if there is one, and the CPU otherwise.
        precision: of the numbers on a CPU; None takes the quickest that the CPU computes exactly
            (`engine.embedding.graphs.suitable_precision`). A CUDA device computes in bfloat16.
        Raises WeightsError if the weights or, on a CPU, their graphs are missing, damaged, or in another format;
        DeviceError if a GPU is asked for and torch is not installed.
        """
        read = weights.read(None if path is None else Path(path))
        device, reason = (device, "") if device else _choose()
        if device == "cpu":
            return cls(read, Graphs(read, precision), threads=threads, reason=reason)
        try:
            from engine.embedding import torch_network
        except ImportError as exc:
            raise DeviceError(f"device {device} needs torch ({exc}); install scorefind[gpu]") from exc
        return cls(read, torch_network.TorchRuntime(torch_network.network_of(read), device), reason=reason)

    def score(self, snippets: NDArray[np.uint8]) -> Embeddings:
        """The embeddings of sheet-music snippets, float32 (n, 32), rows of unit length.

        snippets: uint8 (n, strip_rows, snippet_px) at the working scale, white = 255.
        Raises ValueError for another shape or dtype.
        """
        front_end = self.identity.front_end
        _require(snippets, np.uint8, (front_end.strip_rows, front_end.snippet_px))
        return self._embed("score", snippets)

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        """The embeddings of audio excerpts, float32 (n, 32), rows of unit length.

        excerpts: float32 (n, bands, excerpt_frames), with the gain and the compression of the front end.
        Raises ValueError for another shape or dtype.
        """
        front_end = self.identity.front_end
        _require(excerpts, np.float32, (BANDS[front_end.bands], front_end.excerpt_frames))
        return self._embed("recording", excerpts)

    def bias(self, embeddings: Embeddings, kind: Kind) -> NDArray[np.float32]:
        """How much each snippet of a document resembles queries at large, float32 (n,), in units of cost.

        The bias is t log mean exp(similarity / t) over the background, where t is the network's temperature. With the
        bias, the local cost `1 - similarity + bias` is, up to the factor t and a constant, the negative logarithm of a
        likelihood ratio: "the query snippet matches this document snippet" against "the query snippet is any music".
        The network was trained to estimate this ratio. A network without a temperature was not, so its bias is 0.
        embeddings: float32 (n, 32), of a document of this kind; the background is of the other kind.
        """
        background = self._background.recording if kind == "score" else self._background.score
        temperature = self._temperature
        if temperature is None:
            return np.zeros(len(embeddings), np.float32)
        scaled = np.ascontiguousarray(background.T) / np.float32(temperature)
        parts = [embeddings[start : start + _BIAS_ROWS] for start in range(0, len(embeddings), _BIAS_ROWS)]
        sums = np.concatenate([np.empty(0, np.float32), *(_log_sum_exp(part @ scaled) for part in parts)])
        return np.asarray(temperature * (sums - np.log(np.float32(len(background)))), np.float32)

    def _embed(self, kind: Kind, inputs: NDArray[Any]) -> Embeddings:
        """The embeddings of inputs, computed by several threads on a CPU. Raises DeviceError if a GPU fails."""
        shares = min(self._threads, len(inputs) // _MIN_SHARE)
        if shares <= 1:
            return self._runtime.embed(kind, inputs)
        batch = self._runtime.batch
        size = -(-len(inputs) // (shares * batch)) * batch  # whole batches: only the last one is filled up
        parts = [inputs[start : start + size] for start in range(0, len(inputs), size)]
        with ThreadPoolExecutor(shares) as pool:
            return np.concatenate(list(pool.map(self._runtime.embed, repeat(kind), parts)))


def _choose() -> tuple[str, str]:
    """The device that computes, and why. torch is imported only on a machine that has a CUDA driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "cpu", "no CUDA driver"
    try:
        from engine.embedding import torch_network
    except ImportError:
        return "cpu", "there is a CUDA driver, but no torch to use it; scorefind[gpu] brings it"
    found = torch_network.finds_cuda()
    return ("cuda", "torch finds a CUDA device") if found else ("cpu", "torch finds no CUDA device")


def _log_sum_exp(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithm of the sum of the exponentials of each row, float32 (n,). Overwrites its argument.

    A row of 2,048 takes 3.6 us with its product; with new arrays in the place of the old, 10 us.
    """
    highest = rows.max(axis=1)
    rows -= highest[:, None]
    np.exp(rows, out=rows)
    return np.asarray(highest + np.log(rows.sum(axis=1)), np.float32)


def _require(array: NDArray[Any], dtype: type, shape: tuple[int, int]) -> None:
    """Raises ValueError if the array has another dtype, or another shape than (n, *shape)."""
    if array.dtype != dtype or array.shape[1:] != shape:
        raise ValueError(
            f"expected {np.dtype(dtype)} (n, {shape[0]}, {shape[1]}), got {array.dtype} {tuple(array.shape)}"
        )
