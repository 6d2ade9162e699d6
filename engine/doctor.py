"""The facts that `scorefind doctor` prints: what is installed, which backends are chosen, and why."""

import ctypes
import os
import platform
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.config import Alignment
from engine.embedding.documents import Encoder
from engine.errors import EngineError

REQUIRED = (
    *("numpy", "llvmlite", "numba", "onnxruntime", "safetensors", "lmdb", "msgpack", "soundfile", "soxr"),
    *("pypdfium2", "pillow", "pi-heif", "tifffile", "opencv-python-headless", "tqdm", "prometheus-client"),
)
"""Distributions that every installation needs."""
OPTIONAL = (
    *("cupy-cuda12x", "cupy-cuda13x", "torch", "onnx", "onnxscript", "scipy"),
    *("verovio", "resvg_py", "midirenderer", "pretty_midi", "mido", "music21", "matplotlib", "ray"),
    *("starlette", "uvicorn", "websockets", "python-multipart"),
)
"""Distributions for a GPU, for scores in symbols and training, for the demo, for a cluster, and for HTTP."""


def report(load_encoder: Callable[[], Encoder], calibration: Path | None = None) -> dict[str, Any]:
    """Returns the facts in groups, for people and for JSON. Missing and broken parts are facts too, not errors.

    calibration: the calibration file of the network; None means the shipped file.
    """
    from engine import alignment
    from engine.alignment.cpu import MULTIPLIES_BYTES

    backend = alignment.choose()
    return {
        "python": f"{platform.python_version()} on {platform.platform()}",
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in REQUIRED},
        "optional packages": {name: _version(name) for name in OPTIONAL},
        "faiss": _faiss(),
        "ffmpeg": shutil.which("ffmpeg")
        or "not on the PATH: M4A, AAC and others cannot be read; WAV, FLAC, OGG, MP3 can",
        "cuda": _cuda(),
        "alignment backend": f"{backend.name}: {backend.reason}",
        "int8 alignment": "faster here" if MULTIPLIES_BYTES else "slower here: the CPU does not multiply bytes",
        "network": _network(load_encoder, calibration),
    }


def _version(distribution: str) -> str:
    """Returns the version of an installed distribution, or "not installed"."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _faiss() -> str:
    """Returns the version of FAISS, the distribution that provides the module, and its numbers of GPUs and threads."""
    try:
        import faiss
    except ImportError as exc:
        return f"cannot be imported ({exc}); install scorefind[cpu], or scorefind[gpu]"
    names = sorted(set(metadata.packages_distributions().get("faiss", [])))
    from engine.neighbours import gpus

    return f"{faiss.__version__} of {' and '.join(names)}, {gpus()} GPUs, {faiss.omp_get_max_threads()} threads"


def _cuda() -> str:
    """Returns whether a CUDA driver is installed."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no driver"
    return "a driver is installed"


def _network(load_encoder: Callable[[], Encoder], calibration: Path | None) -> dict[str, str]:
    """Returns the facts of the network, or the error if its weights or its calibration cannot be read."""
    from engine.search.confidence import Calibration

    try:
        encoder = load_encoder()
        calibrated = Calibration.load(calibration, encoder.identity, Alignment())
    except EngineError as exc:
        return {"error": str(exc)}
    identity = encoder.identity
    return {
        "name": identity.name,
        "sha256": identity.hash,
        "front end": str(identity.front_end),
        "computes on": encoder.device,
        "confidence": "calibrated for the default alignment" if calibrated else "none: there is no calibration for it",
    }
