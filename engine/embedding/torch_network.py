"""Networks on torch: made, trained, saved and loaded again, and computed on a GPU.

On a CPU ONNX Runtime computes the same network (`graphs`), and torch is what the tests compare it with.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine import tensors
from engine.config import FrontEnd
from engine.embedding import weights
from engine.embedding.network import Architecture, Family, Network, ResidualNetwork, TwoPathways
from engine.embedding.published import PublishedNetwork
from engine.embedding.weights import Background, Weights
from engine.errors import DeviceError
from engine.values import DIMENSION, Embeddings, Kind

logger = logging.getLogger(__name__)

_FAMILIES: dict[Family, type[Network]] = {
    "default": TwoPathways,
    "residual": ResidualNetwork,
    "published": PublishedNetwork,
}
_BATCH = {"cpu": 6, "cuda": 4096}
"""Inputs per batch, by device type. The runtime halves the number if a GPU runs out of memory."""


def finds_cuda() -> bool:
    """Whether torch finds a CUDA device."""
    return torch.cuda.is_available()


class TorchRuntime:
    """The runtime on a GPU. The last digits of an embedding depend on the size of its batch."""

    def __init__(self, network: Network, device: str) -> None:
        """device: torch's name of the device."""
        self._device = torch.device(device)
        self._network = network.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.batch = _BATCH.get(self._device.type, _BATCH["cpu"])
        precision = "bfloat16" if self._device.type == "cuda" else "fp32"
        self.description = f"{self._device.type}: torch {torch.__version__}, {precision}"

    def embed(self, kind: Kind, inputs: NDArray[Any]) -> Embeddings:
        """The embeddings of snippets (kind `score`) or of excerpts (kind `recording`), float32 (n, 32).

        Batches shrink if the GPU runs out of memory. Raises DeviceError if the GPU fails.
        """
        forward, parts, done = _forward(self._network, kind), [np.empty((0, DIMENSION), np.float32)], 0
        while done < len(inputs):
            part = torch.from_numpy(np.ascontiguousarray(inputs[done : done + self.batch]))
            try:
                parts.append(self._embed_batch(part, forward))
                done += len(part)
            except torch.cuda.OutOfMemoryError as exc:
                if self.batch == 1:
                    raise DeviceError(f"the GPU has no memory for a single snippet: {exc}") from exc
                self.batch = max(1, min(self.batch, len(part)) // 2)
                torch.cuda.empty_cache()
                logger.info("the GPU ran out of memory; from now on a batch has %d snippets", self.batch)
            except RuntimeError as exc:
                if self._device.type == "cpu":
                    raise
                raise DeviceError(f"the GPU failed while it embedded: {exc}") from exc
        return np.concatenate(parts)

    def _embed_batch(self, inputs: Tensor, forward: Callable[[Tensor], Tensor]) -> Embeddings:
        """The embeddings of one batch."""
        # bfloat16 has the range of float32 and 8 bits of precision. The network normalises rows in float32.
        cuda = self._device.type == "cuda"
        with torch.inference_mode(), torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=cuda):
            return np.asarray(forward(inputs.to(self._device)).float().cpu().numpy())


class EmbeddingOf(nn.Module):
    """One pathway of a network, from the arrays that front ends make: float (n, 32), rows of unit length."""

    def __init__(self, network: Network, kind: Kind) -> None:
        super().__init__()
        self._network = network
        self._kind = kind

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: uint8 (n, strip_rows, snippet_px) for scores, float32 (n, bands, excerpt_frames) for recordings."""
        return _forward(self._network, self._kind)(inputs)


def _forward(network: Network, kind: Kind) -> Callable[[Tensor], Tensor]:
    if kind == "score":
        return lambda snippets: network.score(halved(snippets))
    return lambda excerpts: network.recording(excerpts.unsqueeze(1))


def halved(snippets: Tensor) -> Tensor:
    """Snippets at half resolution, float (n, 1, h / 2, w / 2) in 0..1: means of 2 x 2 pixels.

    snippets: uint8 (n, h, w), white = 255.
    """
    return nn.functional.avg_pool2d(snippets.unsqueeze(1).float() / 255.0, 2)


def build(architecture: Architecture, front_end: FrontEnd) -> Network:
    """A network with random weights. Raises KeyError if the family of the architecture is unknown."""
    return _FAMILIES[architecture.family](architecture, front_end)


def network_of(read: Weights) -> Network:
    """The network that a weights file holds. Raises WeightsError if its settings and tensors do not fit together."""
    try:
        lists = {name: tuple(value) for name, value in read.architecture.items() if isinstance(value, list)}
        network = build(Architecture(**read.architecture | lists), read.identity.front_end)
        network.load_state_dict({name: torch.tensor(array).float() for name, array in read.arrays.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as exc:
        raise weights.misfit(read.path, exc) from exc
    return network


def save_weights(path: Path, network: Network, background: Background, name: str, record: dict[str, Any]) -> None:
    """Writes a weights file. float32 tensors are stored as float16, which changes embeddings by less than 1e-3.

    record: facts about the training (commit, settings, metrics) as JSON values.
    """
    arrays = {key: tensor.detach().cpu().numpy() for key, tensor in network.state_dict().items()}
    arrays |= {f"{weights.BACKGROUND}{kind}": getattr(background, kind) for kind in ("score", "recording")}
    arrays = {key: array.astype(np.float16) if array.dtype == np.float32 else array for key, array in arrays.items()}
    settings = {
        "name": name,
        "front_end": asdict(network.front_end),
        "architecture": asdict(network.architecture),
        "training": record,
    }
    tensors.write(path, weights.FORMAT, weights.FORMAT_VERSION, settings, arrays)
