"""Strips of systems, compressed while they wait to be embedded: a volume of a thousand pages has 0.7 GB of them."""

import zlib
from dataclasses import dataclass

import numpy as np

from engine.score.levels import Grey

_LEVEL = 1
"""Effort of zlib. Level 1 takes 3 ms a page, and higher levels save little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedStrip:
    """The strip of one system, compressed without loss."""

    rows: int
    width: int
    data: bytes
    """Grey levels, row by row, compressed by zlib."""

    @classmethod
    def of(cls, strip: Grey) -> "PackedStrip":
        """Returns a strip, uint8 (rows, width), compressed."""
        rows, width = strip.shape
        return cls(rows=rows, width=width, data=zlib.compress(np.ascontiguousarray(strip).data, _LEVEL))

    def unpacked(self) -> Grey:
        """Returns the strip, uint8 (rows, width)."""
        return np.frombuffer(zlib.decompress(self.data), dtype=np.uint8).reshape(self.rows, self.width)
