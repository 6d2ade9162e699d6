"""Ogg: each link of a chain, as files joined by appending them and recorded radio have."""

import mmap
import struct
from dataclasses import dataclass

from engine.audio.containers.substream import Substream

_FIRST_PAGE = 2
"""Flag of the first page of a stream."""
_NO_GRANULE = (1 << 64) - 1
"""Position of a page on which no packet ends."""


@dataclass(frozen=True, slots=True)
class _Page:
    start: int
    stop: int
    is_first: bool
    granule: int
    body: int
    """Offset of the packets."""


def parts(data: mmap.mmap) -> list[Substream]:
    """The links of an Ogg file; empty if the file is no Ogg file."""
    if data[:4] != b"OggS":
        return []
    links: list[list[_Page]] = []
    page = _page(data, 0)
    while page is not None:
        if page.is_first and (not links or not links[-1][-1].is_first):
            links.append([])
        if links:
            links[-1] = [*links[-1], page] if len(links[-1]) < 8 else [*links[-1][:7], page]  # the first and the last
        page = _page(data, page.stop)
    return [
        Substream(start=link[0].start, stop=link[-1].stop, seconds=_seconds(data, link))
        for link in links
        if link[-1].granule  # a link of headers alone has no sound
    ]


def _page(data: mmap.mmap, at: int) -> _Page | None:
    """The first complete page from an offset on; None if there is none."""
    while (at := data.find(b"OggS", at)) >= 0 and len(data) >= at + 27:
        flags, granule = struct.unpack_from("<xBQ", data, at + 4)
        body = at + 27 + data[at + 26]
        stop = body + sum(data[at + 27 : body])
        if stop <= len(data) and data[at + 4] == 0:
            return _Page(at, stop, bool(flags & _FIRST_PAGE), granule, body)
        at += 4
    return None


def _seconds(data: mmap.mmap, link: list[_Page]) -> float | None:
    """The length of a link, at most a page too short; None if its codec is not known."""
    granules = [page.granule for page in link if page.granule not in (0, _NO_GRANULE)]
    rate = _rate(data[link[0].body : link[0].body + 40])
    return (granules[-1] - granules[0]) / rate if rate and granules else None


def _rate(packet: bytes) -> int | None:
    """The positions of pages per second, by the first packet of a stream; None if its codec is not known."""
    if packet.startswith(b"\x01vorbis"):
        return int.from_bytes(packet[12:16], "little")
    if packet.startswith(b"OpusHead"):
        return 48000
    if packet.startswith(b"\x7fFLAC"):
        return int.from_bytes(packet[27:30], "big") >> 4
    return int.from_bytes(packet[36:40], "little") if packet.startswith(b"Speex   ") else None
