"""Stretches in which nothing changes say nothing about a piece."""

import numpy as np
import pytest

from collection_samples import embeddings
from engine.search.stillness import MIN_WINDOW, STILL, WINDOW, still_rows, without_still
from engine.values import Embeddings


def noise(count: int, spread: float = 0.02, seed: int = 9) -> Embeddings:
    """Rows that stay the same but for a little."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(32) / np.sqrt(32) + spread * rng.standard_normal((count, 32))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_noise_becomes_zero_and_music_stays() -> None:
    music = embeddings(60, 1)
    query = np.concatenate([noise(30), music, noise(WINDOW)])
    heard = without_still(query)
    assert not heard[:30].any()
    assert not heard[90:].any()
    np.testing.assert_array_equal(heard[31:89], music[1:-1])


def test_a_query_without_noise_is_the_same_array() -> None:
    music = embeddings(60, 1)
    assert without_still(music) is music


@pytest.mark.parametrize(("count", "still"), [(MIN_WINDOW - 1, False), (MIN_WINDOW, True), (WINDOW + 5, True)])
def test_a_few_rows_alone_are_no_noise(count: int, still: bool) -> None:
    assert still_rows(noise(count)).tolist() == [still] * count


@pytest.mark.parametrize("above", [False, True])
def test_rows_are_still_from_a_mean_cosine_on(above: bool) -> None:
    # Rows (a, b e_i) have the cosine a^2 with each other.
    cosine = STILL + (0.001 if above else -0.001)
    rows = np.concatenate([np.full((WINDOW, 1), np.sqrt(cosine)), np.sqrt(1 - cosine) * np.eye(WINDOW, 31)], axis=1)
    assert bool(still_rows(rows.astype(np.float32)).any()) is above
