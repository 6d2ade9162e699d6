"""The weights file of a network, read without the library that trains it."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import tensors
from engine.config import FrontEnd
from engine.errors import WeightsError
from engine.tensors import Arrays
from engine.values import Embeddings, NetworkIdentity

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "default.safetensors"

FORMAT = "scorefind-network"
FORMAT_VERSION = 1

BACKGROUND = "background."
"""Prefix of the names of the background's tensors in a weights file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Embeddings of music at large, with which the encoder measures how much a snippet resembles any music."""

    score: Embeddings
    recording: Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The content of a weights file."""

    path: Path
    identity: NetworkIdentity
    background: Background
    architecture: dict[str, Any]
    """The settings of `engine.embedding.network.Architecture`, as JSON holds them."""
    arrays: Arrays
    """The tensors of the network by their names."""
    temperature: float | None
    """The temperature of the loss; None if the network learnt no temperature."""


def read(path: Path | None = None) -> Weights:
    """The content of a weights file; by default, of the shipped weights file.

    Raises WeightsError if the file is missing, damaged, or in another format.
    """
    path = path or DEFAULT_WEIGHTS
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; `scorefind train` makes one")
    settings, arrays = tensors.read(path, FORMAT, FORMAT_VERSION)
    try:
        background = Background(
            score=arrays.pop(f"{BACKGROUND}score").astype(np.float32),
            recording=arrays.pop(f"{BACKGROUND}recording").astype(np.float32),
        )
        identity = NetworkIdentity(
            name=settings["name"],
            hash=hashlib.sha256(path.read_bytes()).hexdigest(),
            front_end=FrontEnd(**settings["front_end"]),
        )
        architecture = settings["architecture"]
        scale = arrays["log_scale"].item() if "log_scale" in arrays else None
    except (KeyError, TypeError, ValueError) as exc:
        raise misfit(path, exc) from exc
    return Weights(
        path=path,
        identity=identity,
        background=background,
        architecture=architecture,
        arrays=arrays,
        temperature=None if scale is None else math.exp(-scale),
    )


def misfit(path: Path, cause: Exception) -> WeightsError:
    """The error of a weights file whose settings and tensors contradict each other."""
    return WeightsError(f"{path}: settings and tensors do not fit together: {cause}")
