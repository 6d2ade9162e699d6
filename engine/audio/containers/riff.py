"""WAV: the samples of each RIFF or RF64 file in a file, whatever size its header gives."""

import mmap
import struct
from dataclasses import dataclass

from engine.audio.containers.substream import Substream

_LARGEST = 0xFFFF_FFFF
_UNKNOWN = (0, 0x7FFF_0000)
"""Sizes of data that a writer gives who does not know them: 0, or anything near 2 or 4 GB that the file has not."""
_MAX_FORMAT = 1 << 16
"""Largest format chunk in bytes."""
_MAX_PADDING = 1 << 15
"""Most zeros that may follow the last chunk; more are silence."""
_FILES = (b"RIFF", b"RF64", b"BW64")
"""Names of the chunk that is a whole file."""


@dataclass(slots=True)
class _Wave:
    """What has been read of one RIFF file."""

    format: bytes = b""
    long_size: int | None = None
    """Size of the data by the chunk `ds64` of RF64."""
    ordered: bool = False
    """Whether chunks, and nothing else, are known to follow up to the end of the file."""


def parts(data: mmap.mmap) -> list[Substream]:
    """The sound of each WAV file in a file; empty if the file is no WAV file."""
    found: list[Substream] = []
    at = 0
    while data[at : at + 4] in _FILES and data[at + 8 : at + 12] == b"WAVE":
        part, end = _wave(data, at)
        if part is not None:
            found.append(part)
        at = end
    return found


def _wave(data: mmap.mmap, at: int) -> tuple[Substream | None, int]:
    """The sound of the WAV file at an offset, and the offset of the next WAV file, or of the end."""
    wave, at = _Wave(), at + 12
    part: Substream | None = None
    while len(data) >= at + 8:
        name, size = _chunk(data, at)
        body = at + 8
        if name in _FILES or not _is_name(name):
            break
        if name == b"ds64":
            wave.long_size = struct.unpack_from("<Q", data, body + 8)[0] if len(data) >= body + 16 else None
        elif name == b"fmt " and size <= _MAX_FORMAT:
            wave.format = data[body : body + size]
        elif name == b"data" and len(wave.format) >= 16:
            if size == _LARGEST and wave.long_size is not None:
                size, wave.ordered = wave.long_size, False
            stop = _end_of_data(data, body, size, ordered=wave.ordered)
            wave.ordered = stop < len(data)
            part = _part(wave.format, body, stop, size)
            size = stop - body
        at = body + size + size % 2
    return part, at


def _chunk(data: mmap.mmap, at: int) -> tuple[bytes, int]:
    """The name and the size of the chunk at an offset."""
    name, size = struct.unpack_from("<4sI", data, at)
    return name, size


def _is_name(name: bytes) -> bool:
    """Whether four bytes can be the name of a chunk."""
    return name.isascii() and name.decode().isprintable()


def _end_of_data(data: mmap.mmap, start: int, size: int, *, ordered: bool) -> int:
    """The offset after the samples: as the header says if chunks follow there up to the end, otherwise the end.

    ordered: whether chunks are known to follow, so that a file of many data chunks is not walked once for each.
    """
    stop = start + size
    if size > 0 and stop <= len(data) and (ordered or _are_chunks(data, stop + size % 2)):
        return stop
    return len(data)


def _are_chunks(data: mmap.mmap, at: int) -> bool:
    """Whether chunks, and nothing else, follow from an offset to the end of the file."""
    while len(data) - at >= 8:
        name, size = _chunk(data, at)
        if name in _FILES:
            return data[at + 8 : at + 12] == b"WAVE"  # a joined file, whose own sizes may be wrong
        if not _is_name(name):
            return len(data) - at <= _MAX_PADDING and not any(data[at:])
        at += 8 + size + size % 2
    return at <= len(data) + 1


def _part(format: bytes, start: int, stop: int, size: int) -> Substream:
    """The part with these samples, behind a header that gives their true size."""
    rate, block = struct.unpack_from("<I", format, 4)[0], struct.unpack_from("<H", format, 12)[0]
    second = struct.unpack_from("<I", format, 8)[0] or rate * block
    is_known = _UNKNOWN[0] < size < _UNKNOWN[1]
    missing = is_known and size > stop - start and second > 0
    return Substream(
        start=start,
        stop=stop,
        header=_header(format, stop - start),
        seconds=(stop - start) / second if second else None,
        promised_s=size / second if missing else None,
    )


def _header(format: bytes, size: int) -> bytes:
    """The header of a WAV file with one format chunk and so many bytes of samples; of RF64 if there are too many."""
    chunk = b"fmt " + struct.pack("<I", len(format)) + format + b"\0" * (len(format) % 2)
    whole = 4 + len(chunk) + 8 + size
    if whole < _LARGEST:
        return b"RIFF" + struct.pack("<I", whole) + b"WAVE" + chunk + b"data" + struct.pack("<I", size)
    sizes = b"ds64" + struct.pack("<IQQQI", 28, whole + 36, size, 0, 0)
    head = b"RF64" + struct.pack("<I", _LARGEST) + b"WAVE" + sizes + chunk
    return head + b"data" + struct.pack("<I", _LARGEST)
