"""Votes of the nearest snippets, and the order they make."""

import numpy as np
import pytest

from collection_samples import embeddings, packed
from engine.neighbours import build
from engine.search.voting import Votes, ranking, vote

ROWS = np.eye(32, dtype=np.float32)
OFFSETS = np.array([0, 2, 2, 6, 32])
"""Four documents, of which the second is empty."""


def test_each_query_snippet_gives_its_neighbours_documents_a_vote() -> None:
    votes = vote(build(packed(ROWS), threads=1), ROWS[[0, 1, 3, 31]], OFFSETS, 1)
    assert votes.counts.tolist() == [2, 0, 1, 1]
    assert votes.similarity.tolist() == [2, 0, 1, 1]


def test_every_neighbour_has_a_vote() -> None:
    votes = vote(build(packed(ROWS), threads=1), embeddings(7), OFFSETS, 5)
    assert votes.counts.sum() == 35


def test_with_fewer_snippets_than_neighbours_each_votes_once() -> None:
    votes = vote(build(packed(ROWS), threads=1), embeddings(3), OFFSETS, 100)
    assert votes.counts.tolist() == [6, 0, 12, 78]


def test_no_snippets_give_no_votes() -> None:
    votes = vote(build(packed(ROWS[:0]), threads=1), embeddings(3), np.array([0, 0]), 5)
    assert votes.counts.tolist() == [0]


def test_ties_are_settled_by_similarity_then_by_place_and_no_votes_come_last() -> None:
    counts = np.array([0, 2, 2, 5, 0, 2])
    votes = Votes(counts=counts, similarity=np.array([0, 0.5, 0.9, 0.1, 0, 0.5]))
    assert ranking(votes).tolist() == [3, 2, 1, 5, 0, 4]


@pytest.mark.parametrize(("size", "expected"), [(2, [1, 2]), (9, [1, 2, 0])])
def test_a_shortlist_is_filled_up_with_documents_without_votes(size: int, expected: list[int]) -> None:
    votes = Votes(counts=np.array([0, 4, 1]), similarity=np.array([0.0, 1.0, 1.0]))
    assert ranking(votes)[:size].tolist() == expected
