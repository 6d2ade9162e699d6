"""Strips of systems, compressed while they wait to be embedded: a volume of a thousand pages has 0.9 GB of them."""

import os
import tempfile
import weakref
import zlib
from dataclasses import dataclass

import numpy as np

from engine.score.levels import Grey

_LEVEL = 1
"""Effort of zlib. Level 1 takes 3 ms a page, and higher levels save little."""
RESIDENT_BYTES = 32 << 20
"""Bytes of a score that wait in memory: those of some hundred pages. Further bytes wait in a temporary file."""


class Spool:
    """A place where the compressed strips of one score wait: the first in memory, the others in a temporary file.

    Where no file can be written, as in a confined process or on a full disk, all of them wait in memory.
    """

    def __init__(self, resident_bytes: int = RESIDENT_BYTES) -> None:
        self._room = resident_bytes
        self._file: _NamelessFile | None = None

    def put(self, data: bytes) -> "bytes | Spooled":
        """Returns the data, or where they lie in the file if memory has no room for them."""
        if len(data) > self._room:
            try:
                self._file = self._file or _NamelessFile()
                return self._file.append(data)
            except OSError:
                pass  # memory takes them
        self._room -= len(data)
        return data


class _NamelessFile:
    """A temporary file without a name, which is gone when nothing refers to it, or when the process ends."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is closed with this object
        weakref.finalize(self, self._file.close)
        self._size = 0

    def append(self, data: bytes) -> "Spooled":
        """Writes data behind what the file holds. Raises OSError if the file takes only a part of them, or nothing."""
        if os.pwrite(self._file.fileno(), data, self._size) < len(data):
            raise OSError("the file is full")
        stored = Spooled(file=self, start=self._size, size=len(data))
        self._size += len(data)
        return stored

    def read(self, start: int, size: int) -> bytes:
        """Returns a part of the file."""
        return os.pread(self._file.fileno(), size, start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """The place of data in a temporary file."""

    file: _NamelessFile
    start: int
    size: int

    def read(self) -> bytes:
        """Returns the data."""
        return self.file.read(self.start, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedStrip:
    """The strip of one system, compressed without loss."""

    rows: int
    width: int
    data: bytes | Spooled
    """Grey levels, row by row, compressed by zlib."""

    @classmethod
    def of(cls, strip: Grey, spool: Spool | None = None) -> "PackedStrip":
        """Returns a strip, uint8 (rows, width), compressed. It waits in `spool`; by default, in memory."""
        rows, width = strip.shape
        data = zlib.compress(np.ascontiguousarray(strip).data, _LEVEL)
        return cls(rows=rows, width=width, data=data if spool is None else spool.put(data))

    def moved_to(self, spool: Spool) -> "PackedStrip":
        """Returns the strip waiting in `spool`."""
        return PackedStrip(rows=self.rows, width=self.width, data=spool.put(self._bytes()))

    def in_memory(self) -> "PackedStrip":
        """Returns the strip waiting in memory, from where it can go to another process."""
        return PackedStrip(rows=self.rows, width=self.width, data=self._bytes())

    def unpacked(self) -> Grey:
        """Returns the strip, uint8 (rows, width)."""
        return np.frombuffer(zlib.decompress(self._bytes()), dtype=np.uint8).reshape(self.rows, self.width)

    def _bytes(self) -> bytes:
        return self.data if isinstance(self.data, bytes) else self.data.read()
