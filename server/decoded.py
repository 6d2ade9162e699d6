"""What a decoder sends back, as bytes that can be checked: msgpack and raw arrays.

A decoder has read hostile bytes, so it may be hostile itself. Unpickling what it sends would run its code here.
"""

import dataclasses
from typing import Any

import msgpack
import numpy as np

from engine.audio import Recording
from engine.embedding.documents import Medium
from engine.score import Score
from engine.values import Box, System
from engine.workers import Codec, Failure

MAX_CAUSE = 300
"""Characters of the cause of a failure."""


def packed(result: Medium | Failure) -> bytes:
    """Returns the result of a decoder as bytes."""
    if isinstance(result, Failure):
        fields: dict[str, Any] = {"cause": result.cause[:MAX_CAUSE]}
    elif isinstance(result, Score):
        fields = {
            "pages": result.pages,
            "rows": len(result.strip),
            "systems": [dataclasses.astuple(system) for system in result.systems],
            "strip": np.ascontiguousarray(result.strip, "u1").tobytes(),
            "starts_px": np.ascontiguousarray(result.starts_px, "<i8").tobytes(),
        }
    else:
        fields = {
            "spectrogram": np.ascontiguousarray(result.spectrogram, "<f4").tobytes(),
            "bands": len(result.spectrogram),
            "start_s": result.start_s,
            "duration_s": result.duration_s,
        }
    data: bytes = msgpack.packb(fields, default=lambda value: value.item())
    return data


def unpacked(data: bytes) -> Medium | Failure:
    """Returns the result that a decoder has sent. Raises ValueError if the bytes hold none."""
    try:
        fields = msgpack.unpackb(data)
        if "cause" in fields:
            return Failure(cause=str(fields["cause"])[:MAX_CAUSE])
        return _score(fields) if "strip" in fields else _recording(fields)
    except (KeyError, TypeError, AttributeError, OverflowError, msgpack.UnpackException) as exc:
        raise ValueError(f"expected what a decoder sends, got something else: {type(exc).__name__}") from None


def _score(fields: dict[str, Any]) -> Score:
    systems = tuple(_system(*system) for system in fields["systems"])
    starts_px = np.frombuffer(fields["starts_px"], "<i8")
    strip = np.frombuffer(fields["strip"], "u1")
    rows = fields["rows"]
    if not (isinstance(rows, int) and rows > 0 and strip.size % rows == 0 and strip.size > 0):
        raise ValueError("expected a strip of whole rows")
    strip = strip.reshape(rows, -1)
    if not 0 < len(systems) == len(starts_px) or starts_px[0] < 0 or not (np.diff(starts_px) > 0).all():
        raise ValueError("expected one start for each system, in order")
    if starts_px[-1] >= strip.shape[1]:
        raise ValueError("expected systems that start within the strip")
    return Score(pages=_whole(fields["pages"]), systems=systems, strip=strip, starts_px=starts_px)


def _system(page: int, number: int, box: Any, staves: Any, staff_space: float, confidence: float) -> System:
    return System(
        page=_whole(page),
        number=_whole(number),
        box=_box(*box),
        staves=tuple(_box(*staff) for staff in staves),
        staff_space=_finite(staff_space),
        confidence=_finite(confidence),
    )


def _box(x0: float, y0: float, x1: float, y1: float) -> Box:
    return Box(x0=_finite(x0), y0=_finite(y0), x1=_finite(x1), y1=_finite(y1))


def _recording(fields: dict[str, Any]) -> Recording:
    values, bands = np.frombuffer(fields["spectrogram"], "<f4"), _whole(fields["bands"])
    if bands == 0 or values.size == 0 or values.size % bands or not np.isfinite(values).all():
        raise ValueError("expected a spectrogram of whole frames and finite numbers")
    start_s, duration_s = _finite(fields["start_s"]), _finite(fields["duration_s"])
    return Recording(spectrogram=values.reshape(bands, -1), start_s=start_s, duration_s=duration_s)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError("expected a number of things")
    return value


def _finite(value: Any) -> float:
    if not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError("expected a finite number")
    return float(value)


CODEC = Codec(encode=packed, decode=unpacked)
"""For the workers that read media."""
