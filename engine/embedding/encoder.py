"""Snippets and excerpts -> embeddings, by the network of one weights file."""

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
_BATCH = {"cpu": 32, "cuda": 4096}
"""Inputs at a time, by device; fewer where the device's memory does not hold so many."""
_SHARE = 16
"""Inputs that are worth a thread."""
_BIAS_ROWS = 512
"""At a time: what they are multiplied to should stay in the cache."""
_BACKGROUND = "background."
"""Prefix of the background's tensors, which lie beside the network's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Embeddings of music at large, to tell how readily a snippet resembles anything at all."""

    score: Embeddings
    recording: Embeddings


class Encoder:
    """A trained network and the front-end settings it was trained with."""

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
        """The encoder of a weights file, the shipped one by default.

        threads: that embed side by side on a CPU. torch should have one of its own (`engine.process.prepare`).
        device: as torch names it; None is a CUDA device, if there is one.
        Raises WeightsError if the file is missing, damaged, or of another format.
        """
        path = Path(path or DEFAULT_WEIGHTS)
        network, background, name = load_network(path)
        identity = NetworkIdentity(name=name, hash=_hash(path), front_end=network.front_end)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(network, background, identity, device=torch.device(device), threads=threads)

    @property
    def device(self) -> str:
        """Where it computes, and why."""
        found = "a CUDA device" if self._device.type == "cuda" else "no CUDA device"
        return f"{self._device.type}: torch {torch.__version__} finds {found}"

    def score(self, snippets: NDArray[np.uint8]) -> Embeddings:
        """Embeddings of sheet snippets.

        snippets: uint8 (n, strip_rows, snippet_px) at the working scale, white = 255.
        Returns float32 (n, 32), unit rows. Raises ValueError for another shape or dtype.
        """
        front_end = self.identity.front_end
        _require(snippets, np.uint8, (front_end.strip_rows, front_end.snippet_px))
        return self._embed(snippets, lambda batch: self._network.score(halved(batch)))

    def recording(self, excerpts: NDArray[np.float32]) -> Embeddings:
        """Embeddings of audio excerpts.

        excerpts: float32 (n, bands, excerpt_frames), gain and compression as the front end has them.
        Returns float32 (n, 32), unit rows. Raises ValueError for another shape or dtype.
        """
        front_end = self.identity.front_end
        _require(excerpts, np.float32, (BANDS[front_end.bands], front_end.excerpt_frames))
        return self._embed(excerpts, lambda batch: self._network.recording(batch.unsqueeze(1)))

    def bias(self, embeddings: Embeddings, kind: Kind) -> NDArray[np.float32]:
        """How readily each snippet of a document resembles queries at large, in units of cost.

        embeddings: float32 (n, 32) of a document of this kind; the background is of the other kind.
        Returns float32 (n,): t log mean exp(similarity / t) over the background, t the network's temperature. With it
        the local cost `1 - similarity + bias` is, up to t and a constant, minus the logarithm of the likelihood ratio
        of "this query snippet goes with this document snippet" against "it is any music", as the network was trained
        to tell. A network without a temperature has learnt no such ratio: zeros.
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
        """Raises DeviceError if a CUDA device fails."""
        shares = min(self._threads, len(inputs) // _SHARE)
        if shares <= 1:
            return self._embed_share(inputs, forward)
        with ThreadPoolExecutor(shares) as pool:
            return np.concatenate(list(pool.map(self._embed_share, np.array_split(inputs, shares), repeat(forward))))

    def _embed_share(self, inputs: NDArray[Any], forward: Callable[[Tensor], Tensor]) -> Embeddings:
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
                logger.info("the GPU has memory for less: from here on %d snippets at a time", self._batch)
            except RuntimeError as exc:
                if self._device.type == "cpu":
                    raise
                raise DeviceError(f"the GPU failed while it embedded: {exc}") from exc
        return np.concatenate(parts) if parts else np.empty((0, DIMENSION), np.float32)

    def _embed_batch(self, inputs: Tensor, forward: Callable[[Tensor], Tensor]) -> Embeddings:
        # bfloat16 holds whatever float32 does, if with 8 digits; the network makes unit rows in float32.
        cuda = self._device.type == "cuda"
        with torch.inference_mode(), torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=cuda):
            embeddings: Embeddings = forward(inputs.to(self._device)).float().cpu().numpy()
        return embeddings


def build(architecture: Architecture, front_end: FrontEnd) -> Network:
    """A network with random weights, of the family that the architecture names. Raises KeyError if it is unknown."""
    return _FAMILIES[architecture.family](architecture, front_end)


def load_network(path: Path) -> tuple[Network, Background, str]:
    """The network of a weights file, its background and its name.

    Raises WeightsError if the file is missing, damaged, or of another format.
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
    """uint8 (n, h, w), white = 255 -> float (n, 1, h / 2, w / 2) in 0..1: means of 2 x 2 pixels."""
    return nn.functional.avg_pool2d(snippets.unsqueeze(1).float() / 255.0, 2)


def save_weights(path: Path, network: Network, background: Background, name: str, record: dict[str, Any]) -> None:
    """Writes a weights file; float32 tensors as float16, which costs less than 1e-3 of an embedding.

    record: what should be remembered of the training (commit, settings, metrics); JSON.
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
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require(array: NDArray[Any], dtype: type, shape: tuple[int, int]) -> None:
    if array.dtype != dtype or array.shape[1:] != shape:
        raise ValueError(
            f"expected {np.dtype(dtype)} (n, {shape[0]}, {shape[1]}), got {array.dtype} {tuple(array.shape)}"
        )
