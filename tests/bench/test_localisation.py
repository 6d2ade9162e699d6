import numpy as np
import pytest

from bench.lib.queries import Direction
from bench.lib.truth import Line, Truth
from bench.lib.visits import Visit
from bench.localisation import Errors, LocalisationQuery, errors, figures, variants
from engine.config import Alignment
from engine.values import (
    RECORDING_PLACE,
    SCORE_PLACE,
    Box,
    Document,
    Kind,
    Match,
    PathPoint,
    Place,
    RecordingPosition,
    ScorePosition,
    SnippetSequence,
    System,
)

BOX = Box(x0=0.0, y0=0.1, x1=1.0, y1=0.2)
SYSTEMS = tuple(System(page=1, number=n, box=BOX, staves=(BOX,), staff_space=0.01, confidence=1) for n in (1, 2))
SCORE = Document(id="score", kind="score", systems=SYSTEMS)
TRUTH = Truth(
    piece="score",
    visits=tuple(Visit(measure=m, start_s=10.0 * i, end_s=10.0 * i + 10) for i, m in enumerate((1, 2, 1, 2, 3, 4))),
    lines=tuple(
        Line(system=system, points=np.array([2.0 * i + 1, 2.0 * i + 3]), xs=np.array([0.0, 1.0]))
        for i, system in enumerate(SYSTEMS)
    ),
    unsure=frozenset(),
)
"""Two systems of two measures, ten seconds each; the first system is played twice."""


def query(direction: str, places: np.ndarray) -> LocalisationQuery:
    zeros = np.zeros(len(places), np.float32)
    kind: Kind = "recording" if direction == "A2S" else "score"
    embeddings = np.zeros((len(places), 32), np.float32)
    sequence = SnippetSequence(kind=kind, embeddings=embeddings, places=places, bias=zeros)
    return LocalisationQuery(truth=TRUTH, direction=direction, form="", right_id="", sequence=sequence, score=SCORE)  # type: ignore[arg-type]


def page(system: int, x: float) -> ScorePosition:
    return ScorePosition(page=1, system=system, x=x)


def test_a_fragment_is_measured_in_measures_and_systems() -> None:
    asked = query("A2S", np.array([(35.0, 39.0)], dtype=RECORDING_PLACE))  # the middle of measure 2
    path = (
        PathPoint(query=RecordingPosition(s=37.0), document=page(1, 0.85), jump=False),
        PathPoint(query=RecordingPosition(s=45.0), document=page(1, 1.0), jump=False),
    )
    match = Match(rank=1, document=SCORE, cost=0, votes=0, place=Place(systems=SYSTEMS[1:], start_x=0.25), path=path)
    found = errors(asked, match)
    assert (found.start, found.start_systems) == (pytest.approx(1.0), pytest.approx(0.5))
    assert found.points == (pytest.approx(0.0), pytest.approx(0.5))
    assert found.systems == (0, 1)


def test_systems_are_measured_in_seconds_and_either_time_is_right() -> None:
    asked = query("S2A", np.array([(1, 0.5, 1, 0.9)], dtype=SCORE_PLACE))  # measure 2, at 10 and at 30 s
    path = (PathPoint(query=page(1, 0.75), document=RecordingPosition(s=36.0), jump=False),)
    match = Match(rank=1, document=SCORE, cost=0, votes=0, place=Place(start_s=8.0), path=path)
    found = errors(asked, match)
    assert found.start == pytest.approx(2.0)
    assert found.points == (pytest.approx(1.0),)


def test_figures_count_what_was_not_found() -> None:
    right = Errors(start=0.5, start_systems=0.1, points=(0.1, 0.2), systems=(0, 0, 1, 3))
    row = figures("A2S", [("one", right), ("two", None)])
    assert (row["n"], row["not found"], row["start, measures"]) == (1, 1, 0.5)
    assert (row["points in system"], row["+-1"]) == (0.5, 0.75)


@pytest.mark.parametrize("direction", ["A2S", "S2A"])
def test_figures_of_nothing_found_have_no_value(direction: Direction) -> None:
    row = figures(direction, [("one", None), ("two", None)])
    assert (row.pop("n"), row.pop("not found")) == (0, 2)
    assert {str(value) for value in row.values()} == {"None", "[None, None]"}
    found = figures(direction, [("one", Errors(start=0.5, start_systems=0.1, points=(0.1,), systems=(0,)))])
    assert found.keys() == row.keys() | {"n", "not found"}


def test_a_variant_that_is_the_default_is_not_measured_twice() -> None:
    names = list(variants(Alignment(jump_penalty=2.0)))
    assert "jump 2" not in names
    assert names[0] == "default (jump 2)"
    assert "jump 2" in variants(Alignment(jump_penalty=1.0))
