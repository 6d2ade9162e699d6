"""The loops of staff detection that are compiled by numba, because NumPy spends most of their time between calls."""

# numba infers the types of the kernels.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

ZERO = np.float32(0)


def _entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a kernel that Python calls, and caches the machine code on disk."""
    compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


@_entry
def best_path(evidence, cost, total, before, moves, path):
    """Writes the path with the most evidence into `path`, and returns its evidence less `cost` for each row moved.

    evidence: float32 (strips, h). The path moves at most one row per strip. total, before: float32 (h,), scratch.
    moves: int8 (strips, h), scratch. path: int64 (strips,).
    """
    strips, height = evidence.shape
    for row in range(height):
        total[row] = evidence[0, row]
    for strip in range(1, strips):
        for row in range(height):
            before[row] = total[row]
        for row in range(height):
            best, move = before[row], 0
            if row > 0 and before[row - 1] - cost > best:
                best, move = before[row - 1] - cost, -1
            if row < height - 1 and before[row + 1] - cost > best:
                best, move = before[row + 1] - cost, 1
            total[row] = best + evidence[strip, row]
            moves[strip, row] = move
    last = 0
    for row in range(height):
        if total[row] > total[last]:
            last = row
    path[strips - 1] = last
    for strip in range(strips - 1, 0, -1):
        path[strip - 1] = path[strip] + moves[strip, path[strip]]
    return total[last]


@_entry
def profile(band, rows, offsets, sums):
    """Writes the mean of an image at each offset from a curve into `sums`, interpolated between two rows.

    band: float32 (k, h), a column of the image for each point of the curve, 0 beyond its edges. rows: float32 (k,).
    offsets, sums: float32 (n,).
    """
    points, height = band.shape
    for number in range(len(offsets)):
        sums[number] = ZERO
    for point in range(points):
        for number in range(len(offsets)):
            place = rows[point] + offsets[number]
            row = int(np.floor(place))
            if -1 <= row < height:
                share = np.float32(place - row)
                above = band[point, row] if row >= 0 else ZERO
                below = band[point, row + 1] if row + 1 < height else ZERO
                sums[number] += above + share * (below - above)
    for number in range(len(offsets)):
        sums[number] /= np.float32(points)
