"""The loops of staff detection that are compiled by numba, because NumPy spends most of their time between calls."""

# numba infers the types of the kernels.
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import numpy as np

from engine.machine_code import kept

ZERO = np.float32(0)
PARTS = 8
"""Number of parts of a row at which `profile` measures."""


_entry = kept(nogil=True, error_model="numpy")
"""Compiles a kernel that Python calls."""


@_entry
def staff_evidence(shares, starts, weights, evidence):
    """Writes the largest weighted sum of the shares of ink at the places of a staff, over sizes of staves; 0 at least.

    shares: float32 (strips, h + margins). starts: int64 (sizes, places), where the shares at a place begin. weights:
    float32 (places,). evidence: float32 (strips, h).
    """
    strips, height = evidence.shape
    sizes, places = starts.shape
    total = np.empty(height, np.float32)
    for strip in range(strips):
        best = evidence[strip]
        best[:] = ZERO
        for size in range(sizes):
            total[:] = ZERO
            for place in range(places):
                given = shares[strip, starts[size, place] : starts[size, place] + height]
                weight = weights[place]
                for row in range(height):
                    total[row] += weight * given[row]
            for row in range(height):
                best[row] = max(best[row], total[row])


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
def profile(band, rows, first, sums):
    """Writes the mean of an image at each offset from a curve into `sums`, interpolated between two rows.

    band: float32 (k, h), a column of the image for each point of the curve, 0 beyond its edges. rows: float32 (k,).
    first: the first offset; the others follow in steps of 1 / PARTS. sums: float32 (n,).

    All points whose first place lies in the same part of a row meet the same shares of two rows at all offsets, but for
    the rest of that place. So their columns are added up, once as they are and once for the rest.
    """
    points, height = band.shape
    length = (PARTS - 1 + len(sums)) // PARTS + 2
    whole, rest = np.zeros((PARTS, length), np.float32), np.zeros((PARTS, length), np.float32)
    for point in range(points):
        place = rows[point] + first
        parts = int(np.floor(place * PARTS))
        row, part = parts // PARTS, parts % PARTS
        left = np.float32(place - parts / PARTS)
        for number in range(max(0, -1 - row), min(length, height - row)):
            above = band[point, row + number] if row + number >= 0 else ZERO
            below = band[point, row + number + 1] if row + number + 1 < height else ZERO
            whole[part, number] += above
            rest[part, number] += left * (below - above)
    for number in range(len(sums)):
        total = ZERO
        for part in range(PARTS):
            row, share = (part + number) // PARTS, np.float32((part + number) % PARTS) / np.float32(PARTS)
            above, below = whole[part, row], whole[part, row + 1]
            total += above + share * (below - above) + rest[part, row]
        sums[number] = total / np.float32(points)


@_entry
def best_fit(profile, first, shifts, spaces, steps, weights):
    """Returns the largest sum of a profile at the places of a staff's lines, times weights, and its shift and space.

    Shift and space are numbers of `shifts` and `spaces`. profile: float32 (n,), from the offset `first` in steps of
    1 / PARTS. shifts, spaces: float64, in px. steps: float32, places in staff spaces. weights: float64.
    """
    best, best_shift, best_space = -np.inf, 0, 0
    for i in range(len(shifts)):
        for j in range(len(spaces)):
            fit = 0.0
            for k in range(len(steps)):
                fit += weights[k] * profile[int(np.rint((shifts[i] + spaces[j] * steps[k] - first) * PARTS))]
            if fit > best:
                best, best_shift, best_space = fit, i, j
    return best, best_shift, best_space
