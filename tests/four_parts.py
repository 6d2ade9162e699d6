"""Small scores of four parts, as MusicXML."""

from pathlib import Path

import numpy as np

_STEPS = "CDEFGAB"


def write_four_parts(path: Path, *, bars: int, seed: int, tied: bool = False) -> Path:
    """Four parts in 4/4 of one quarter note after the other, of the pitches that the seed picks.

    tied: the last note of the first bar is tied to the first one of the second bar, in every part.
    """
    rng = np.random.default_rng(seed)
    parts, names = [], []
    for part, octave in enumerate((5, 4, 3, 2), 1):
        steps = rng.integers(0, 7, (bars, 4))
        if tied:
            steps[1, 0] = steps[0, 3]
        measures = "".join(_measure(bar, steps[bar].tolist(), octave, tied) for bar in range(bars))
        parts.append(f'<part id="P{part}">{measures}</part>')
        names.append(f'<score-part id="P{part}"><part-name>{part}</part-name></score-part>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<score-partwise version="3.1"><part-list>{"".join(names)}</part-list>{"".join(parts)}</score-partwise>'
    )
    return path


def _measure(bar: int, steps: list[int], octave: int, tied: bool) -> str:
    clef = "<sign>G</sign><line>2</line>" if octave > 3 else "<sign>F</sign><line>4</line>"
    attributes = (
        "<attributes><divisions>1</divisions><key><fifths>0</fifths></key>"
        f"<time><beats>4</beats><beat-type>4</beat-type></time><clef>{clef}</clef></attributes>"
    )
    notes = ""
    for i, step in enumerate(steps):
        tie = {(0, 3): "start", (1, 0): "stop"}.get((bar, i)) if tied else None
        notes += (
            f"<note><pitch><step>{_STEPS[step]}</step><octave>{octave}</octave></pitch><duration>1</duration>"
            + (f'<tie type="{tie}"/>' if tie else "")
            + "<voice>1</voice><type>quarter</type>"
            + (f'<notations><tied type="{tie}"/></notations>' if tie else "")
            + "</note>"
        )
    return f'<measure number="{bar + 1}">{attributes if bar == 0 else ""}{notes}</measure>'
