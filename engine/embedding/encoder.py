"""Snippets and excerpts -> embeddings, by the network of one weights file, which this module also reads and writes."""

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine import tensors
from engine.audio import BANDS
from engine.config import FrontEnd
from engine.embedding.network import Architecture, Family, Network, ResidualNetwork, TwoPathways
from engine.embedding.published import PublishedNetwork
from engine.errors import DeviceError, WeightsError
from engine.values import DIMENSION, Embeddings, Kind, NetworkIdentity

logger = logging.getLogger(__name__)

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"

FORMAT = "scorefind-network"
FORMAT_VERSION = 1

_FAMILIES: dict[Family, type[Network]] = {
    "default": TwoPathways,
    "residual": ResidualNetwork,
    "published": PublishedNetwork,
}
_BATCH = {"cpu": 6, "cuda": 4096}
"""Inputs per batch, by device type. The encoder halves the number if a GPU runs out of memory.

On a CPU every batch has exactly this number of inputs, and a smaller batch is filled up with zeros. The libraries
choose their kernels by the shape of a batch, and other kernels add in another order. With one shape, an embedding has
the same bits alone and in company. One excerpt, 12 and 128 excerpts take 6, 17 and 173 ms of processor time in batches
of 4; 8, 15 and 165 ms in batches of 6; 10, 19 and 147 ms in batches of 8; and 2, 15 and 169 ms in batches of up to 32
that are not filled up.
"""
_MIN_SHARE = 16
"""Minimum number of inputs for each thread."""
_BIAS_ROWS = 512
"""Rows whose bias is computed at a time, so that their products with the background stay in the cache."""
_BACKGROUND = "background."
"""Prefix of the names of the background's tensors in a weights file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Embeddings of music at large, with which the encoder measures how much a snippet resembles any music."""

    score: Embeddings
    recording: Embeddings


class Encoder:
    """A trained network and the front-end settings it was trained with.

    On a CPU, the embedding of an input has the same bits whatever the other inputs, their order and the number of
    threads are. Another CPU or another version of torch may compute other last digits. On a GPU the last digits depend
    on the size of the batch.
    """

    def __init__(
        self,
        network: Network,
        background: Background,
        identity: NetworkIdentity,
        *,
        device: torch.device,
        threads: int = 1,
    ) -> None:
        self.identity = identity
        self._network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._background = background
        self._device = device
        self._batch = _BATCH.get(device.type, _BATCH["cpu"])
        self._threads = threads if device.type == "cpu" else 1

    @classmethod
    def load(cls, path: Path | str | None = None, *, threads: int = 1, device: str | None = None) -> "Encoder":
        """The encoder of a weights file; by default, of the shipped weights file.

        threads: number of threads that embed on a CPU. torch should use one thread (`engine.process.prepare`).
        device: torch's name of the device; None takes a CUDA device if there is one, and the CPU otherwise.
        Raises WeightsError if the file is missing, damaged, or in another format.
        """
        path = Path(path or DEFAULT_WEIGHTS)
        network, background, name = load_network(path)
        identity = NetworkIdentity(name=name, hash=_hash(path), front_end=network.front_end)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(network, background, identity, device=torch.device(device), threads=threads)

    @property
    def device(self) -> str:
        """The device that computes, and the reason, for people."""
        devices = "a CUDA device" if self._device.type == "cuda" else "no CUDA device"
        return f"{self._device.type}: torch {torch.__version__} finds {devices}"

    def score(self, snippets: NDArray[np.uint8]) -> Embeddings:
        """The embeddings of sheet-music snippets, float32 (n, 32), rows of unit length.

        snippets: uint8 (n, strip_rows, snippet_px) at the working scale, white = 255.
        Raises ValueError for another shape or dtype.
        """
        front_end = self.identity.front_end
        _require(snippets, np.uint8, (front_end.strip_rows, front_end.snippet_px))
        return self._embed(snippets, lambda batch: self._network.score(halved(batch)))

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        """The embeddings of audio excerpts, float32 (n, 32), rows of unit length.

        excerpts: float32 (n, bands, excerpt_frames), with the gain and the compression of the front end.
        Raises ValueError for another shape or dtype.
        """
        front_end = self.identity.front_end
        _require(excerpts, np.float32, (BANDS[front_end.bands], front_end.excerpt_frames))
        return self._embed(excerpts, lambda batch: self._network.recording(batch.unsqueeze(1)))

    def bias(self, embeddings: Embeddings, kind: Kind) -> NDArray[np.float32]:
        """How much each snippet of a document resembles queries at large, float32 (n,), in units of cost.

        The bias is t log mean exp(similarity / t) over the background, where t is the network's temperature. With the
        bias, the local cost `1 - similarity + bias` is, up to the factor t and a constant, the negative logarithm of a
        likelihood ratio: "the query snippet matches this document snippet" against "the query snippet is any music".
        The network was trained to estimate this ratio. A network without a temperature was not, so its bias is 0.
        embeddings: float32 (n, 32), of a document of this kind; the background is of the other kind.
        """
        background = self._background.recording if kind == "score" else self._background.score
        temperature = self._network.temperature
        if temperature is None:
            return np.zeros(len(embeddings), np.float32)
        scaled = torch.from_numpy(np.ascontiguousarray(background.T) / np.float32(temperature))
        parts = torch.split(torch.from_numpy(embeddings), _BIAS_ROWS)
        with torch.inference_mode():
            sums = torch.cat([torch.logsumexp(part @ scaled, 1) for part in parts]).numpy()
        return np.asarray(temperature * (sums - np.log(np.float32(len(background)))), np.float32)

    def _embed(self, inputs: NDArray[Any], forward: Callable[[Tensor], Tensor]) -> Embeddings:
        """The embeddings of inputs, computed by several threads on a CPU. Raises DeviceError if a CUDA device fails."""
        shares = min(self._threads, len(inputs) // _MIN_SHARE)
        if shares <= 1:
            return self._embed_share(inputs, forward)
        size = -(-len(inputs) // (shares * self._batch)) * self._batch  # whole batches: only the last one is filled up
        parts = [inputs[start : start + size] for start in range(0, len(inputs), size)]
        with ThreadPoolExecutor(shares) as pool:
            return np.concatenate(list(pool.map(self._embed_share, parts, repeat(forward))))

    def _embed_share(self, inputs: NDArray[Any], forward: Callable[[Tensor], Tensor]) -> Embeddings:
        """The embeddings of one thread's inputs, in batches that shrink if the GPU runs out of memory."""
        parts: list[Embeddings] = []
        done = 0
        while done < len(inputs):
            part = torch.from_numpy(np.ascontiguousarray(inputs[done : done + self._batch]))
            try:
                parts.append(self._embed_batch(part, forward))
                done += len(part)
            except torch.cuda.OutOfMemoryError as exc:
                if self._batch == 1:
                    raise DeviceError(f"the GPU has no memory for a single snippet: {exc}") from exc
                self._batch = max(1, min(self._batch, len(part)) // 2)
                torch.cuda.empty_cache()
                logger.info("the GPU ran out of memory; from now on a batch has %d snippets", self._batch)
            except RuntimeError as exc:
                if self._device.type == "cpu":
                    raise
                raise DeviceError(f"the GPU failed while it embedded: {exc}") from exc
        return np.concatenate(parts) if parts else np.empty((0, DIMENSION), np.float32)

    def _embed_batch(self, inputs: Tensor, forward: Callable[[Tensor], Tensor]) -> Embeddings:
        """The embeddings of one batch. On a CPU it is filled up to the fixed size, in memory that torch aligns."""
        count = len(inputs)
        if self._device.type == "cpu":
            filled = inputs.new_zeros((self._batch, *inputs.shape[1:]))
            filled[:count] = inputs
            inputs = filled
        # bfloat16 has the range of float32 and 8 bits of precision. The network normalises rows in float32.
        cuda = self._device.type == "cuda"
        with torch.inference_mode(), torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=cuda):
            embeddings: Embeddings = forward(inputs.to(self._device)).float().cpu().numpy()
        return embeddings[:count]


def build(architecture: Architecture, front_end: FrontEnd) -> Network:
    """A network with random weights. Raises KeyError if the family of the architecture is unknown."""
    return _FAMILIES[architecture.family](architecture, front_end)


def load_network(path: Path) -> tuple[Network, Background, str]:
    """The network of a weights file, its background and its name.

    Raises WeightsError if the file is missing, damaged, or in another format.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; `scorefind train` makes one")
    settings, arrays = tensors.read(path, FORMAT, FORMAT_VERSION)
    try:
        lists = {name: tuple(value) for name, value in settings["architecture"].items() if isinstance(value, list)}
        network = build(Architecture(**settings["architecture"] | lists), FrontEnd(**settings["front_end"]))
        background = Background(
            score=arrays.pop(f"{_BACKGROUND}score").astype(np.float32),
            recording=arrays.pop(f"{_BACKGROUND}recording").astype(np.float32),
        )
        network.load_state_dict({name: torch.tensor(array).float() for name, array in arrays.items()})
    except (KeyError, TypeError, RuntimeError) as exc:
        raise WeightsError(f"{path}: settings and tensors do not fit together: {exc}") from exc
    return network, background, settings["name"]


def halved(snippets: Tensor) -> Tensor:
    """Snippets at half resolution, float (n, 1, h / 2, w / 2) in 0..1: means of 2 x 2 pixels.

    snippets: uint8 (n, h, w), white = 255.
    """
    return nn.functional.avg_pool2d(snippets.unsqueeze(1).float() / 255.0, 2)


def save_weights(path: Path, network: Network, background: Background, name: str, record: dict[str, Any]) -> None:
    """Writes a weights file. float32 tensors are stored as float16, which changes embeddings by less than 1e-3.

    record: facts about the training (commit, settings, metrics) as JSON values.
    """
    arrays = {key: tensor.detach().cpu().numpy() for key, tensor in network.state_dict().items()}
    arrays |= {f"{_BACKGROUND}score": background.score, f"{_BACKGROUND}recording": background.recording}
    arrays = {key: array.astype(np.float16) if array.dtype == np.float32 else array for key, array in arrays.items()}
    settings = {
        "name": name,
        "front_end": asdict(network.front_end),
        "architecture": asdict(network.architecture),
        "training": record,
    }
    tensors.write(path, FORMAT, FORMAT_VERSION, settings, arrays)


def _hash(path: Path) -> str:
    """The SHA-256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require(array: NDArray[Any], dtype: type, shape: tuple[int, int]) -> None:
    """Raises ValueError if the array has another dtype, or another shape than (n, *shape)."""
    if array.dtype != dtype or array.shape[1:] != shape:
        raise ValueError(
            f"expected {np.dtype(dtype)} (n, {shape[0]}, {shape[1]}), got {array.dtype} {tuple(array.shape)}"
        )
