"""One stream of sound in a file, and a view of its bytes that libsndfile can read."""

import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Substream:
    """A stream of sound: bytes of a file, behind a header that replaces the header in the file."""

    start: int
    """Offset of the first byte in the file."""
    stop: int
    """Offset after the last byte."""
    header: bytes = b""
    """Bytes that a decoder reads before those of the file."""
    seconds: float | None = None
    """Length by the packets that are there; None if unknown."""
    promised_s: float | None = None
    """Length by the header in the file, where the file breaks off before; None if nothing is missing."""


class View(io.RawIOBase):
    """The bytes of a part, as a file of its own. It has no name, so libsndfile judges by content."""

    def __init__(self, path: Path, part: Substream) -> None:
        """Opens the file. Raises OSError if that fails."""
        self._file = path.open("rb")
        self._part = part
        self._size = len(part.header) + part.stop - part.start
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        wanted = memoryview(buffer).cast("B")
        header = self._part.header[self._at : self._at + len(wanted)]
        wanted[: len(header)] = header
        done = len(header)
        rest = max(0, min(len(wanted) - done, self._size - self._at - done))
        if rest:
            self._file.seek(self._part.start + self._at + done - len(self._part.header))
            done += self._file.readinto(wanted[done : done + rest])
        self._at += done
        return done

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of a file that is not empty, mapped into memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def after_id3(data: mmap.mmap, at: int = 0) -> int:
    """The offset after the ID3v2 tags that start at an offset; the offset itself if there is none."""
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        size = 0
        for byte in data[at + 6 : at + 10]:  # seven bits a byte
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    return min(at, len(data))
