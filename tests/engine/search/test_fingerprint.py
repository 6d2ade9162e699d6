"""Offset histograms: hits vote for a document, a tempo and a place."""

import numpy as np
import pytest
from numpy.typing import NDArray

from collection_samples import embeddings, packed
from engine.neighbours import build
from engine.search import fingerprint
from engine.search.fingerprint import LITERAL, FingerprintSettings, Hits, histograms, nearest_hits, offsets, ranking
from engine.search.voting import Votes

STARTS = np.array([0, 40, 40, 140, 200])
"""Four documents, of which the second is empty."""


def hits(*pairs: tuple[int, int], weight: float = 1.0) -> Hits:
    query, rows = zip(*sorted(pairs), strict=True)
    weights = np.full(len(rows), weight, np.float32)
    return Hits(query=np.array(query, np.int32), rows=np.array(rows, np.int64), weights=weights)


def random_hits(count: int, length: int) -> Hits:
    rng = np.random.default_rng(0)
    query = np.sort(rng.integers(0, length, count)).astype(np.int32)
    return Hits(query=query, rows=rng.integers(0, 200, count), weights=rng.random(count, dtype=np.float32))


def defined(found: Hits, length: int, settings: FingerprintSettings) -> NDArray[np.float64]:
    """`histograms`' scores, bin by bin."""
    best = np.zeros(len(STARTS) - 1)
    scales = (settings.slopes() / settings.bin_snippets).astype(np.float32)
    bins_per_snippet = np.float32(1 / settings.bin_snippets)
    for document in range(len(best)):
        for scale in scales:
            bins: dict[int, dict[int, float]] = {}
            for query, row, weight in zip(found.query.tolist(), found.rows.tolist(), found.weights, strict=True):
                if STARTS[document] <= row < STARTS[document + 1]:
                    place = int(np.float32(row - STARTS[document]) * bins_per_snippet + scale * (length - 1 - query))
                    given = bins.setdefault(place, {})
                    given[query] = max(given.get(query, 0.0), float(weight))
            best[document] = max([best[document], *(sum(given.values()) for given in bins.values())])
    return best


@pytest.mark.parametrize("settings", [FingerprintSettings(), FingerprintSettings(bin_snippets=1.5)])
def test_scores_are_those_of_the_definition(settings: FingerprintSettings) -> None:
    found = random_hits(400, length=30)
    np.testing.assert_allclose(histograms(found, STARTS, 30, settings).similarity, defined(found, 30, settings), 1e-5)


@pytest.mark.parametrize("slope", [0.45, 1.0, 2.2])
def test_hits_at_a_steady_tempo_all_fall_into_one_bin(slope: float) -> None:
    found = hits(*((query, 45 + round(slope * query)) for query in range(20)))
    votes = histograms(found, STARTS, 20, FingerprintSettings())
    assert votes.counts.tolist() == [0, 0, 20, 0]
    assert votes.similarity.tolist() == [0, 0, 20, 0]


def test_literal_offsets_lose_another_tempo() -> None:
    found = hits(*((query, 45 + 2 * query) for query in range(20)))
    assert histograms(found, STARTS, 20, LITERAL).counts[2] == 2


def test_hits_in_order_outweigh_more_hits_without() -> None:
    rng = np.random.default_rng(0)
    ordered = [(query, 5 + query) for query in range(15)]
    scattered = [(query, int(row)) for query in range(15) for row in rng.choice(np.arange(40, 140), 3, replace=False)]
    assert ranking(histograms(hits(*ordered, *scattered), STARTS, 15, FingerprintSettings()))[0] == 0


def test_of_one_query_snippets_hits_in_a_bin_the_weightiest_counts() -> None:
    found = Hits(
        query=np.array([0, 0, 0], np.int32), rows=np.array([8, 9, 10]), weights=np.array([0.3, 0.9, 0.5], np.float32)
    )
    votes = histograms(found, STARTS, 1, FingerprintSettings())
    assert votes.counts[0] == 1
    assert votes.similarity[0] == pytest.approx(0.9)


def test_an_unweighted_hit_counts_one() -> None:
    assert histograms(hits((0, 3), weight=0.05), STARTS, 1, LITERAL).similarity.tolist() == [1, 0, 0, 0]


def test_a_hit_weighs_what_it_is_nearer_than_the_last_one_which_is_none() -> None:
    rows = np.zeros((4, 32), np.float32)
    rows[:, 0], rows[:, 1] = [1, 0.8, 0.6, 0], [0, 0.6, 0.8, 1]
    found = nearest_hits(build(packed(rows), threads=1), rows[:1], 3, threads=1)
    assert (found.query.tolist(), found.rows.tolist()) == ([0, 0], [0, 1])
    np.testing.assert_allclose(found.weights, [0.4, 0.2], atol=1e-6)


def test_of_a_long_query_some_snippets_are_looked_up_in_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "MAX_LOOKED_UP", 10)
    everything = embeddings(200)
    votes = offsets(build(packed(everything), threads=1), everything[60:120:2], STARTS)
    assert ranking(votes)[0] == 2
    assert votes.counts[2] == 10


def test_a_passage_is_found_among_all_snippets() -> None:
    everything = embeddings(200)
    votes = offsets(build(packed(everything), threads=1), everything[60:80:2], STARTS)
    assert ranking(votes)[0] == 2
    assert votes.counts[2] == 10


def test_without_snippets_there_are_no_votes() -> None:
    votes = offsets(build(packed(embeddings(0)), threads=1), embeddings(3), np.array([0, 0]))
    assert votes.similarity.tolist() == [0]


def test_documents_rank_by_weight_then_by_place_and_those_not_hit_come_last() -> None:
    votes = Votes(counts=np.array([0, 9, 1, 1]), similarity=np.array([0.0, 0.5, 2.0, 0.5]))
    assert ranking(votes).tolist() == [2, 1, 3, 0]


def test_the_grid_of_slopes_is_even_in_ratio_and_reaches_both_ends() -> None:
    slopes = FingerprintSettings().slopes()
    assert (slopes[0], slopes[-1]) == (0.4, 2.5)
    np.testing.assert_allclose(slopes[1:] / slopes[:-1], 1.2, atol=0.01)
    assert LITERAL.slopes().tolist() == [1]
