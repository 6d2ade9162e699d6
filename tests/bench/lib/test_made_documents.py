"""Made documents are spread as real ones are, go on as they do, and are always the same."""

import numpy as np
import pytest

from bench.lib import made_documents
from bench.lib.made_documents import DistractorSource
from engine.values import Kind, Packed
from fake_encoder import FakeEncoder

DOCUMENTS, LENGTH = 30, 200


def walks(kind_seed: int = 0) -> Packed:
    """Documents whose snippets are like their neighbours, in a space where some dimensions vary more."""
    rng = np.random.default_rng(kind_seed)
    scale = np.linspace(1.0, 0.1, 32)
    rows = []
    for _ in range(DOCUMENTS):
        steps = rng.standard_normal((LENGTH + 20, 32))
        smooth = np.stack([np.convolve(column, np.ones(20), "valid")[:LENGTH] for column in steps.T], axis=1)
        rows.append(smooth * scale + 2)
    joined = np.concatenate(rows)
    joined /= np.linalg.norm(joined, axis=1, keepdims=True)
    return Packed(
        embeddings=joined.astype(np.float16),
        bias=np.zeros(len(joined), np.float32),
        offsets=np.arange(0, len(joined) + 1, LENGTH),
    )


@pytest.fixture(scope="module")
def source() -> DistractorSource:
    return DistractorSource.of(walks(), "score", np.array([150, 250]))


def neighbours_alike(rows: np.ndarray) -> float:
    return float(np.mean(np.sum(rows[1:] * rows[:-1], axis=1)))


def test_a_made_document_is_always_the_same_and_of_a_real_length(source: DistractorSource) -> None:
    rows = made_documents.embeddings(source, 7)
    np.testing.assert_array_equal(rows, made_documents.embeddings(source, 7))
    assert len(rows) == made_documents.length(source, 7)
    assert {made_documents.length(source, number) for number in range(20)} == {150, 250}
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_made_documents_are_spread_and_go_on_as_real_ones(source: DistractorSource) -> None:
    real = source.packed.embeddings.astype(np.float32)
    made = [made_documents.embeddings(source, number) for number in range(600)]
    joined = np.concatenate(made)
    np.testing.assert_allclose(joined.mean(axis=0), real.mean(axis=0), atol=0.02)
    spread, expected = np.cov(joined, rowvar=False), np.cov(real, rowvar=False)
    assert np.abs(spread - expected).max() < 0.25 * np.abs(expected).max()
    assert np.mean([neighbours_alike(rows) for rows in made]) == pytest.approx(neighbours_alike(real), abs=0.01)


def test_a_made_document_has_the_style_of_one_real_one(
    source: DistractorSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_documents, "ANGLE", 0.0)
    real = source.packed.embeddings.astype(np.float32)
    sources = []
    for number in range(12):
        nearest = np.argmax(made_documents.embeddings(source, number) @ real.T, axis=1) // LENGTH
        assert len(set(nearest.tolist())) == 1
        sources.append(int(nearest[0]))
    assert len(set(sources)) > 6


def test_no_made_document_is_a_copy_of_a_real_one(source: DistractorSource) -> None:
    real = source.packed.embeddings.astype(np.float32)
    nearest = [
        float(np.mean(np.max(made_documents.embeddings(source, number) @ real.T, axis=1))) for number in range(9)
    ]
    assert max(nearest) < 0.995


@pytest.mark.parametrize("kind", ["score", "recording"])
def test_a_made_document_has_places_as_its_kind_has(kind: Kind) -> None:
    source = DistractorSource.of(walks(1), kind, np.array([90]))
    document, sequence = made_documents.made(source, 3, FakeEncoder())
    assert (document.id, document.kind, len(sequence)) == (f"made-{kind}-000003", kind, 90)
    assert bool(document.systems) == (kind == "score")
    assert np.all(np.diff(sequence.places["system" if kind == "score" else "start_s"].astype(float)) >= 0)


def test_too_few_snippets_to_tell_their_spread_are_refused() -> None:
    few = walks().take(np.array([0]))
    with pytest.raises(ValueError, match="expected at least 320 score snippets, got 200"):
        DistractorSource.of(few, "score", np.array([10]))
