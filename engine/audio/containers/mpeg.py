"""MP3: the frames that are there, whatever the header Xing or Info says, or where none is.

libsndfile reads as many frames as that header says. Without it, libsndfile divides the size of the file by the size of
the first frame, which is wrong for a variable bit rate.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from engine.audio.containers.substream import Substream, after_id3

_BIT_RATES = {
    (3, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates in kbit/s by version (3: MPEG-1; 2: MPEG-2 and 2.5) and layer."""
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Sampling rates by version; 0 is MPEG-2.5."""
_SEARCHED = 1 << 16
"""Bytes after the tags within which the first frames must lie."""
_IN_A_ROW = 4
"""Frames in a row that show that a file is MPEG; fewer are found in other files by chance."""
_COUNT = 0x1
"""Flag of a header Xing that gives the number of frames."""


@dataclass(frozen=True, slots=True)
class _Header:
    """What the first four bytes of a frame say."""

    size: int
    """Bytes of the frame, header included."""
    samples: int
    rate: int
    kind: tuple[int, int, int, bool]
    """Version, layer, rate, and whether there is one channel: equal for all frames of a stream."""
    xing: int
    """Offset of the header Xing in a frame of layer III that has one."""


@dataclass(slots=True)
class _Run:
    """Frames in a row of one stream."""

    first: int
    """Offset of the first frame with sound."""
    stop: int
    header: _Header
    promised: int | None = None
    """Frames by the header Xing; None without one."""
    xing_at: int | None = None
    """Offset of the frame with the header Xing."""
    frames: int = 0


@cache
def _header(word: bytes) -> _Header | None:
    """The header in four bytes; None if they are no header of a frame with a size."""
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE0 != 0xE0:
        return None
    version, layer = word[1] >> 3 & 3, 4 - (word[1] >> 1 & 3)
    index, rate_index = word[2] >> 4, word[2] >> 2 & 3
    if version == 1 or layer == 4 or index in (0, 15) or rate_index == 3:
        return None
    family = 3 if version == 3 else 2
    rate = _RATES[version][rate_index]
    bits = _BIT_RATES[family, 2 if family == 2 and layer == 3 else layer][index - 1] * 1000
    samples = 384 if layer == 1 else 576 if layer == 3 and family == 2 else 1152
    padding = word[2] >> 1 & 1
    size = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    mono = word[3] >> 6 == 3
    side = (17 if mono else 32) if family == 3 else (9 if mono else 17)
    return _Header(size, samples, rate, (version, layer, rate, mono), 4 + side)


def parts(data: mmap.mmap) -> list[Substream]:
    """The streams of MPEG audio in a file; empty if the file is none."""
    first = after_id3(data)
    if _start(data, first, min(len(data), first + _SEARCHED)) is None:
        return []
    return [_part(data, run) for run in _runs(data, first) if run.frames >= _IN_A_ROW]


def _runs(data: mmap.mmap, at: int) -> Iterator[_Run]:
    """The streams, in order. A new one starts with each header Xing, and where the frames change their kind or stop."""
    run: _Run | None = None
    while True:
        header = _header(data[at : at + 4])
        if header is None or at + header.size > len(data):
            found = _start(data, max(at + 1, after_id3(data, at)), len(data))
            if found is None:
                break
            at = found
            continue
        count = _xing(data, at, header)
        if run is None or run.stop != at or run.header.kind != header.kind or count is not None:
            if run is not None:
                yield run
            run = _Run(at, at, header)
        if count is None:
            run.frames += 1
        else:
            run.promised, run.xing_at, run.first = count, at, at + header.size
        at = run.stop = at + header.size
    if run is not None:
        yield run


def _start(data: mmap.mmap, at: int, end: int) -> int | None:
    """The offset of the first frames in a row from an offset on; None if there are none up to `end`."""
    while (at := data.find(b"\xff", at, end)) >= 0:
        here, header, count = at, _header(data[at : at + 4]), 0
        while header is not None and count < _IN_A_ROW:
            here, count, kind = here + header.size, count + 1, header.kind
            header = _header(data[here : here + 4])
            if header is not None and header.kind != kind:
                break
        if count == _IN_A_ROW:
            return at
        at += 1
    return None


def _xing(data: mmap.mmap, at: int, header: _Header) -> int | None:
    """The number of frames that the header Xing in a frame gives, 0 if it gives none; None if the frame has none."""
    head = data[at + header.xing : at + header.xing + 12]
    if header.kind[1] != 3 or head[:4] not in (b"Xing", b"Info") or len(head) < 12:
        return None
    flags, count = struct.unpack(">II", head[4:])
    return count if flags & _COUNT else 0


def _part(data: mmap.mmap, run: _Run) -> Substream:
    """The part with a stream: with the header Xing in the file if that is right, otherwise with one of our own."""
    second = run.header.samples / run.header.rate
    seconds = run.frames * second
    if run.promised == run.frames and run.xing_at is not None:
        return Substream(start=run.xing_at, stop=run.stop, seconds=seconds)
    # A header Xing is also written for a stream that was meant to go on, so a larger count is no sign of a loss where
    # more streams follow.
    missing = run.promised is not None and run.promised > run.frames and run.stop > len(data) - run.header.size * 8
    return Substream(
        start=run.first,
        stop=run.stop,
        header=_info_frame(data[run.first : run.first + 4], run.frames) if run.header.kind[1] == 3 else b"",
        seconds=seconds,
        promised_s=(run.promised or 0) * second if missing else None,
    )


def _info_frame(word: bytes, frames: int) -> bytes:
    """A frame without sound whose header Info gives the number of frames of a stream.

    word: the first four bytes of a frame of the stream.
    """
    # 160 or 80 kbit/s, which has room for the header at any sampling rate; no checksum, no padding
    word = bytes([0xFF, word[1] | 1, (word[2] & 0x0C) | 0xA0, word[3]])
    header = _header(word)
    assert header is not None
    frame = bytearray(header.size)
    frame[:4] = word
    struct.pack_into(">4sII", frame, header.xing, b"Info", _COUNT, frames)
    return bytes(frame)
