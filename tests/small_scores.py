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


def write_piano(path: Path, seed: int, bars: int = 40) -> Path:
    """A piece for piano in quarters, chords and beamed eighths, with ledger lines above and below each staff."""
    rng = np.random.default_rng(seed)
    lines = ["**kern\t**kern", "*staff2\t*staff1", "*clefF4\t*clefG2", "*M4/4\t*M4/4"]
    for bar in range(1, bars + 1):
        lines.append(f"={bar}\t={bar}")
        for _ in range(4):
            low, high = _beat(rng, -19, 1), _beat(rng, 0, 20)
            lines += [f"{left}\t{right}" for left, right in zip(low, high, strict=True)]
    lines += ["==\t==", "*-\t*-"]
    path.write_text("\n".join(lines) + "\n")
    return path


def _beat(rng: np.random.Generator, lowest: int, highest: int) -> tuple[str, str]:
    """What a staff has in the two halves of a quarter; steps are counted from middle C."""
    step, other = rng.integers(lowest, highest, 2).tolist()
    kind = rng.integers(3)
    if kind == 0:
        return f"4{_pitch(step)}", "."
    if kind == 1:
        return f"8{_pitch(step)}L", f"8{_pitch(other)}J"
    return f"4{_pitch(step)} 4{_pitch(step + 2)}", "."


def _pitch(step: int) -> str:
    """The name in kern: c is middle C, cc an octave above, C one below."""
    octave, name = divmod(step, 7)
    return _STEPS[name].lower() * (octave + 1) if octave >= 0 else _STEPS[name] * -octave
