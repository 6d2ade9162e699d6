"""Safetensors files that hold arrays and settings: networks and calibrations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from engine.errors import WeightsError
from engine.files import replacing

Arrays = dict[str, NDArray[Any]]


def read(path: Path, format: str, version: int) -> tuple[dict[str, Any], Arrays]:
    """Returns the settings and the arrays of a file.
    Raises WeightsError if the file is damaged, or of another format or version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as exc:
        raise WeightsError(f"{path}: damaged or not a safetensors file: {exc}") from exc
    if metadata.get("format") != format:
        raise WeightsError(f"{path}: expected format {format!r}, got {metadata.get('format')!r}")
    if metadata.get("version") != str(version):
        got = metadata.get("version")
        raise WeightsError(
            f"{path}: expected format version {version}, got {got}: another version of scorefind made it; make it again"
        )
    try:
        return json.loads(metadata["settings"]), arrays
    except (KeyError, ValueError) as exc:
        raise WeightsError(f"{path}: its settings cannot be read: {exc!r}") from exc


def write(path: Path, format: str, version: int, settings: dict[str, Any], arrays: Arrays) -> None:
    """Writes a file, atomically and durably (`engine.files.replacing`).

    settings: values that JSON can hold.
    """
    metadata = {"format": format, "version": str(version), "settings": json.dumps(settings)}
    # safetensors writes the memory of an array unchanged: an array that is not in C-order would be read back scrambled.
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata)
    with replacing(path, durable=True) as unfinished:
        unfinished.write_bytes(data)
