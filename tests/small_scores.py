"""Small compositions as kern text, made for a test."""

from pathlib import Path

import numpy as np

_STEPS = ("C", "D", "E", "F", "G", "A", "B")


def write_kern(path: Path, seed: int, bars: int = 12) -> Path:
    """A piece of two staves in quarters, whose pitches the seed picks."""
    rng = np.random.default_rng(seed)
    lines = ["**kern\t**kern", "*staff2\t*staff1", "*clefF4\t*clefG2", "*M4/4\t*M4/4"]
    for bar in range(1, bars + 1):
        lines.append(f"={bar}\t={bar}")
        for low, high in rng.integers(0, 7, (4, 2)):
            lines.append(f"4{_STEPS[low]}\t4{_STEPS[high].lower()}")
    lines += ["==\t==", "*-\t*-"]
    path.write_text("\n".join(lines) + "\n")
    return path
