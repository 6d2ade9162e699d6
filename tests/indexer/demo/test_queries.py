"""Which part of a score a fragment is."""

import numpy as np
import pytest

from engine.values import SCORE_PLACE, Box, Document, SnippetSequence, System
from indexer.demo.queries import DemoQuery, DemoResult, rows, run_of_systems


def score(systems: int) -> Document:
    box = Box(x0=0.0, y0=0.0, x1=1.0, y1=0.1)
    numbered = tuple(
        System(page=1, number=n, box=box, staves=(box, box), staff_space=0.01, confidence=1.0)
        for n in range(1, systems + 1)
    )
    return Document(id="s", kind="score", systems=numbered)


def sequence(ends: list[tuple[int, int]]) -> SnippetSequence:
    places = np.zeros(len(ends), SCORE_PLACE)
    places["system"], places["end_system"] = np.array(ends).T
    embeddings = np.eye(len(ends), 32, dtype=np.float32)
    return SnippetSequence(kind="score", embeddings=embeddings, places=places, bias=np.zeros(len(ends), np.float32))


def test_twenty_seconds_of_a_minute_are_a_third_of_the_systems() -> None:
    held = sequence([(n, n) for n in range(1, 7)])
    query = run_of_systems(score(6), held, 60.0, np.random.default_rng(0))
    numbers = [system.number for system in query.systems]
    assert numbers == [numbers[0], numbers[0] + 1]
    assert query.sequence.places["system"].tolist() == numbers


def test_snippets_that_reach_into_the_next_system_are_left_out() -> None:
    held = sequence([(1, 1), (1, 2), (2, 2), (2, 3), (3, 3)])
    query = run_of_systems(score(3), held, 60.0, np.random.default_rng(0))
    assert len(query.systems) == len(query.sequence) == 1


def test_a_run_grows_until_it_holds_a_snippet() -> None:
    query = run_of_systems(score(3), sequence([(1, 2)]), 60.0, np.random.default_rng(0))
    assert {1, 2} <= {system.number for system in query.systems}
    assert len(query.sequence) == 1


def test_a_row_sums_up_ranks_and_mean_seconds() -> None:
    query = DemoQuery(document=score(1), truth="r", length="whole", sequence=sequence([(1, 1)]))
    asked = [DemoResult(query=query, method="vote", rank=rank, seconds=rank) for rank in (1.0, 2.0, 12.0)]
    (row,) = rows(asked)
    assert (row["direction"], row["query"], row["method"], row["n"], row["MR"]) == ("S2A", "whole", "vote", 3, 2.0)
    assert (row["R@1"], row["R@10"], row["seconds"]) == pytest.approx((1 / 3, 2 / 3, 5.0))
