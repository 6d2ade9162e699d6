"""Moments of a cursor that moves through two systems of three measures each, a second a measure."""

from pathlib import Path

import pytest

from bench.cursor import ReadPiece, figures, measure_at, moments
from bench.lib.pieces import Piece
from bench.lib.printed import PrintedSystem
from bench.lib.visits import Visit
from engine.measures import FIRST_NOTE, PrintedMeasure
from engine.timemap import Stretch, TimeMap
from engine.values import Box, System

PIECE = Piece(id="etude", title="", composer="", work="", pages=(), notes=Path("played.mid"))
SPACE = 0.01 / FIRST_NOTE
SYSTEMS = tuple(
    System(page=1, number=n, box=Box(x0=0.0, y0=n / 5, x1=0.9, y1=n / 5), staves=(), staff_space=SPACE, confidence=1)
    for n in (1, 2)
)


def known(found: int = 3) -> ReadPiece:
    """A piece with measures 1 to 6; so many are found in the first system."""
    counts, measures, number = {1: found, 2: 3}, {}, 0
    for system in SYSTEMS:
        count, made = counts[system.number], []
        for k in range(count):
            number += 1
            made.append(PrintedMeasure(number=number, system=system, x0=0.9 * k / count, x1=0.9 * (k + 1) / count))
        measures[system.number] = tuple(made)
    held = {
        1: PrintedSystem(rows=(0.2, 0.2), first_measure=1, last_measure=3),
        2: PrintedSystem(rows=(0.4, 0.4), first_measure=4, last_measure=6),
    }
    return ReadPiece(piece=PIECE, systems=SYSTEMS, measures=measures, held=held, first=1)


def time_map(late_s: float = 0.0) -> TimeMap:
    stretches = tuple(
        Stretch(
            system=system,
            seconds=(3 * i + late_s, 3 * i + 3 + late_s),
            xs=(0.01, 0.91),
            jump=False,
        )
        for i, system in enumerate(SYSTEMS)
    )
    return TimeMap(stretches=stretches)


VISITS = [Visit(measure=n + 1, start_s=float(n), end_s=float(n + 1)) for n in range(6)]


def shares(piece: ReadPiece, mapped: TimeMap, visits: list[Visit]) -> tuple[float, float, float]:
    row = figures(list(moments(piece, mapped, visits)), [piece])
    return row["in system"], row["in measure"], row["by number"]


def test_a_cursor_that_is_right_is_right_all_the_time() -> None:
    assert shares(known(), time_map(), VISITS) == (1, 1, 1)


@pytest.mark.parametrize("late_s", [0.2, 1.0])
def test_a_cursor_that_is_late_is_in_the_measure_before(late_s: float) -> None:
    in_system, in_measure, _ = shares(known(), time_map(late_s), VISITS)
    assert in_system == pytest.approx(1 - 2 * late_s / 6)  # at the start of both systems
    assert in_measure == pytest.approx(1 - late_s)


def test_numbers_are_wrong_behind_a_barline_that_is_missed() -> None:
    in_system, in_measure, by_number = shares(known(found=2), time_map(), VISITS)
    assert in_system == 1
    assert in_measure == pytest.approx(4.5 / 6, abs=0.05)  # half of measure 2, and measure 3
    assert by_number < 0.5


def test_what_is_played_at_an_unknown_measure_does_not_count() -> None:
    unknown = [Visit(measure=-1, start_s=0.0, end_s=3.0), *VISITS[3:]]
    row = figures(list(moments(known(), time_map(), unknown)), [known()])
    assert row["minutes"] == pytest.approx(3 / 60)


def test_systems_are_counted_by_their_measures() -> None:
    assert known().counted == [True, True]
    assert known(found=2).counted == [False, True]


def test_a_measure_begins_with_its_first_note() -> None:
    measures = known().measures[1]
    assert [measure_at(measures, x) for x in (0.0, 0.305, 0.315, 0.605, 0.9)] == [0, 0, 1, 1, 2]
