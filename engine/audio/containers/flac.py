"""FLAC: each of the streams that were joined by appending files."""

import mmap

from engine.audio.containers.substream import Substream, after_id3

_START = b"fLaC\x00\x00\x00\x22"
"""Start of a stream: the mark, and the head of the block STREAMINFO, which comes first and is not the last block."""


def parts(data: mmap.mmap) -> list[Substream]:
    """The streams in a FLAC file; empty if the file is no FLAC file."""
    first = after_id3(data)
    if data[first : first + 4] != b"fLaC":
        return []
    starts = [first]
    while (at := data.find(_START, starts[-1] + 4)) >= 0:
        starts.append(at)
    ends = [*starts[1:], len(data)]
    return [
        Substream(start=a, stop=b, seconds=_seconds(data[a + 8 : a + 42])) for a, b in zip(starts, ends, strict=True)
    ]


def _seconds(info: bytes) -> float | None:
    """The length by the block STREAMINFO; None if it does not say."""
    values = int.from_bytes(info[10:18], "big")  # 20 bits rate, 3 channels, 5 depth, 36 samples
    rate, samples = values >> 44, values & (1 << 36) - 1
    return samples / rate if rate and samples else None
