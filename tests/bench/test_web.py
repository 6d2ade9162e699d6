"""The figures of the cursor, on a truth that is made here."""

import numpy as np
import pytest

from bench.lib.truth import Line, Truth
from bench.lib.visits import Visit
from bench.web import figures
from engine.timemap import Stretch, TimeMap
from engine.values import Box, System

SYSTEMS = [
    System(page=1, number=number, box=Box(x0=0, y0=0, x1=1, y1=0.1), staves=(), staff_space=0.01, confidence=1)
    for number in (1, 2)
]


def stretch(number: int, start_s: float, end_s: float) -> Stretch:
    return Stretch(system=SYSTEMS[number - 1], seconds=(start_s, end_s), xs=(0.0, 1.0), jump=False)


def test_a_cursor_that_turns_a_second_late_is_wrong_for_that_second() -> None:
    """Each system holds one measure of ten seconds; the map leaves the first one a second late."""
    lines = tuple(
        Line(system=system, points=np.array([number, number + 1.0]), xs=np.array([0.0, 1.0]))
        for number, system in enumerate(SYSTEMS, 1)
    )
    visits = tuple(Visit(measure=number, start_s=10.0 * number - 10, end_s=10.0 * number) for number in (1, 2))
    known = Truth(piece="", visits=visits, lines=lines, unsure=frozenset())
    late = TimeMap(stretches=(stretch(1, 0, 11), stretch(2, 11, 20)))
    found = figures(known, late, 20.0)
    assert found["n"] == 200
    assert found["right"] == pytest.approx(0.95, abs=0.006)
    assert found["near"] == pytest.approx(0.975, abs=0.006)
