"""What a decoder sends back, as bytes that can be checked: msgpack and raw arrays.

A decoder has read hostile bytes, so it may be hostile itself. Unpickling what it sends would run its code here.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from engine.audio import Recording
from engine.embedding.documents import Medium
from engine.score import Score
from engine.score.packed import PackedStrip, Spool
from engine.values import Box, System
from engine.workers import Codec, Failure

MAX_CAUSE = 300
"""Characters of the cause of a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What a decoder makes of a file. What is not asked for is missing."""

    medium: Medium | None = None
    kept: Mapping[int, bytes] = dataclasses.field(default_factory=dict)
    """Pictures of the pages by their numbers, or the sound under 0, for the collection to keep."""
    picture: bytes = b""
    """A picture of one page."""


def packed(result: Decoded | Failure) -> Iterator[bytes]:
    """Yields the result of a decoder as bytes: first its fields, then each strip and each thing to keep.

    A volume of a thousand pages has 0.9 GB of strips, and the decoder has one of them at a time in memory.
    """
    if isinstance(result, Failure):
        yield _fields(cause=result.cause[:MAX_CAUSE])
        return
    if result.medium is None:
        yield _fields(picture=result.picture)
        return
    if isinstance(result.medium, Score):
        score = result.medium
        yield _fields(
            pages=score.pages,
            systems=[dataclasses.astuple(system) for system in score.systems],
            sizes=[(strip.rows, strip.width) for strip in score.strips],
            kept=list(result.kept),
        )
        for strip in score.strips:
            yield strip.unpacked().tobytes()  # hostile data are not decompressed in the server
    else:
        recording = result.medium
        yield _fields(
            spectrogram=np.ascontiguousarray(recording.spectrogram, "<f4").tobytes(),
            bands=len(recording.spectrogram),
            start_s=recording.start_s,
            duration_s=recording.duration_s,
            speed=recording.speed,
            kept=list(result.kept),
        )
    yield from result.kept.values()


def _fields(**fields: Any) -> bytes:
    """Returns named values as bytes."""
    data: bytes = msgpack.packb(fields, default=lambda value: value.item())
    return data


def unpacked(parts: Iterator[bytes]) -> Decoded | Failure:
    """Returns the result that a decoder has sent. Raises ValueError if the parts hold none."""
    try:
        fields = msgpack.unpackb(next(parts), strict_map_key=False)
        if "cause" in fields:
            return Failure(cause=str(fields["cause"])[:MAX_CAUSE])
        if "picture" in fields:
            return Decoded(picture=_bytes(fields["picture"]))
        medium = _score(fields, parts) if "sizes" in fields else _recording(fields)
        return Decoded(medium=medium, kept={_whole(item): next(parts) for item in fields["kept"]})
    except StopIteration:
        raise ValueError("expected more parts") from None
    except (KeyError, TypeError, AttributeError, OverflowError, msgpack.UnpackException) as exc:
        raise ValueError(f"expected what a decoder sends, got something else: {type(exc).__name__}") from None


def _score(fields: dict[str, Any], parts: Iterator[bytes]) -> Score:
    systems, sizes, spool = tuple(_system(*system) for system in fields["systems"]), fields["sizes"], Spool()
    if not 0 < len(systems) == len(sizes):
        raise ValueError("expected one strip for each system")
    strips = tuple([_strip(size, next(parts), spool) for size in sizes])  # a generator would hide StopIteration
    return Score(pages=_whole(fields["pages"]), systems=systems, strips=strips)


def _strip(size: Any, values: bytes, spool: Spool) -> PackedStrip:
    rows, width = map(_whole, size)
    if rows == 0 or width == 0 or len(values) != rows * width:
        raise ValueError("expected a strip of whole rows")
    return PackedStrip.of(np.frombuffer(values, "u1").reshape(rows, width), spool)


def _system(page: int, number: int, box: Any, staves: Any, staff_space: float, confidence: float, turn: int) -> System:
    if turn not in (0, 90, 180, 270):
        raise ValueError("expected a number of quarter turns")
    return System(
        page=_whole(page),
        number=_whole(number),
        box=_box(*box),
        staves=tuple(_box(*staff) for staff in staves),
        staff_space=_finite(staff_space),
        confidence=_finite(confidence),
        turn=turn,
    )


def _box(x0: float, y0: float, x1: float, y1: float) -> Box:
    return Box(x0=_finite(x0), y0=_finite(y0), x1=_finite(x1), y1=_finite(y1))


def _recording(fields: dict[str, Any]) -> Recording:
    values, bands = np.frombuffer(fields["spectrogram"], "<f4"), _whole(fields["bands"])
    if bands == 0 or values.size == 0 or values.size % bands or not np.isfinite(values).all():
        raise ValueError("expected a spectrogram of whole frames and finite numbers")
    start_s, duration_s, speed = (_finite(fields[name]) for name in ("start_s", "duration_s", "speed"))
    spectrogram = values.reshape(bands, -1)
    return Recording(spectrogram=spectrogram, start_s=start_s, duration_s=duration_s, speed=speed)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("expected bytes")
    return value


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
