"""Confidence: what it grows with, what it must not depend on, and the file it comes from."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import alignment
from engine.config import Alignment, FrontEnd
from engine.embedding.encoder import DEFAULT_WEIGHTS
from engine.errors import WeightsError
from engine.search.confidence import (
    CALIBRATED_DOCUMENTS,
    Calibration,
    Scale,
    background_costs,
    features,
    gains,
    rest_features,
)
from engine.values import Embeddings, NetworkIdentity, Packed

NETWORK = NetworkIdentity(name="test", hash="0" * 64, front_end=FrontEnd())
SETTINGS = Alignment()
BACKEND = alignment.choose("definition")
BACKGROUND_COSTS = np.linspace(1.0, 1.2, 9, dtype=np.float32)


def unit_rows(count: int, rng: np.random.Generator) -> Embeddings:
    rows = rng.standard_normal((count, 32))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def scale() -> Scale:
    rng = np.random.default_rng(0)
    embeddings = unit_rows(120, rng).astype(np.float16)
    offsets = np.arange(0, 121, 20, dtype=np.int64)
    background = Packed(embeddings=embeddings, bias=np.zeros(120, np.float32), offsets=offsets)
    return Scale(background=background, coefficients=np.array([7.0, -14.0, 0.6, -0.4, 3.0, -15.0, -0.8, -0.4]))


def probabilities(*costs: float, snippets: int = 32, documents: int = 10) -> list[float]:
    given = scale().probabilities(np.array(costs, np.float32), BACKGROUND_COSTS, snippets=snippets, documents=documents)
    return [float(one) for one in given]


def calibration() -> Calibration:
    return Calibration(network=NETWORK, alignment=SETTINGS, scales={"score": scale(), "recording": scale()})


def test_the_gap_is_to_the_fifth_cheapest_of_the_others_and_the_background() -> None:
    costs = np.array([0.5, 0.9, 1.0, 1.3], np.float32)
    others = np.array([1.0, 1.1, 1.2, 1.4], np.float32)  # with the costs: 0.5, 0.9, 1, 1, 1.1, 1.2, 1.3, 1.4
    given = features(costs, others, snippets=20, documents=4)
    np.testing.assert_allclose(given[:, 0], costs)
    gaps = np.array([0.5 - 1.2, 0.9 - 1.2, 1.0 - 1.2, 1.3 - 1.1])
    np.testing.assert_allclose(given[:, 4], np.log(4) * gaps, rtol=1e-5)


def test_the_length_and_the_numbers_of_documents_and_their_products_are_features() -> None:
    (given,) = features(np.array([0.5], np.float32), BACKGROUND_COSTS, snippets=20, documents=4)
    expected = [0.5, np.log(20), np.log(4), 1.1, np.log(4) * (0.5 - 1.1), np.sqrt(20) * (0.5 - 1.1), np.sqrt(20) * 0.5]
    np.testing.assert_allclose(given, expected, rtol=1e-5)


def test_a_query_that_fits_everything_is_doubtful() -> None:
    def probability(background: float) -> float:
        null = np.full(9, background, np.float32)
        found = scale().probabilities(np.array([0.7], np.float32), null, snippets=32, documents=10)
        return float(found[0])

    assert probability(0.8) < probability(0.9) < probability(1.1)


def test_the_effect_of_the_number_ends_where_calibrations_do() -> None:
    few, most, more = (probabilities(1.0, documents=n)[0] for n in (100, CALIBRATED_DOCUMENTS, 100_000))
    assert few != most == more


def test_a_cheaper_match_is_surer() -> None:
    given = probabilities(0.6, 0.7, 0.8, 0.9, 1.1)
    assert given == sorted(given, reverse=True)
    assert given[0] > 0.9
    assert given[-1] < 0.1


def test_the_order_of_the_documents_does_not_matter() -> None:
    assert probabilities(0.6, 0.8, 1.1) == probabilities(1.1, 0.8, 0.6)[::-1]


def test_a_collection_of_one_document_has_a_confidence() -> None:
    assert probabilities(0.6, documents=1)[0] > 0.9
    assert probabilities(1.1, documents=1)[0] < 0.1


def test_dear_documents_do_not_change_the_confidence_of_a_match() -> None:
    assert probabilities(0.6)[0] == probabilities(0.6, *np.linspace(1.3, 1.5, 50))[0]


def test_many_cheap_documents_make_a_match_doubtful() -> None:
    assert probabilities(0.8)[0] > 0.9
    assert probabilities(0.8, 0.81, 0.82, 0.83, 0.84, 0.85)[0] < 0.7


def test_five_editions_of_the_piece_take_nothing_from_each_other() -> None:
    given = probabilities(*[0.6] * 5, 1.3)
    assert given[:5] == pytest.approx([probabilities(0.6)[0]] * 5, abs=0.02)


def test_a_document_that_cannot_be_aligned_is_not_the_piece() -> None:
    assert probabilities(0.6, np.inf)[1] == 0


def test_an_empty_collection_has_no_probabilities() -> None:
    assert probabilities() == []


def test_too_few_costs_to_compare_with_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 5 costs"):
        features(np.array([0.5], np.float32), BACKGROUND_COSTS[:4], snippets=20, documents=1)


def test_a_calibration_aligns_the_query_with_its_background() -> None:
    query = unit_rows(10, np.random.default_rng(1))
    backend = alignment.choose("definition")
    costs = np.array([0.3, 0.9], np.float32)
    null = background_costs(query, scale().background, SETTINGS.ranking, backend)
    given = calibration().probabilities(query, "score", costs, backend, documents=7)
    np.testing.assert_array_equal(given, scale().probabilities(costs, null, snippets=10, documents=7))


def test_a_saved_calibration_is_the_same_when_loaded(tmp_path: Path) -> None:
    calibration().save(tmp_path / "c.safetensors", {})
    loaded = Calibration.load(tmp_path / "c.safetensors", NETWORK, SETTINGS)
    assert loaded is not None
    for kind, kept in loaded.scales.items():
        given = calibration().scales[kind]
        np.testing.assert_array_equal(kept.coefficients, given.coefficients)
        np.testing.assert_array_equal(kept.background.embeddings, given.background.embeddings)
        np.testing.assert_array_equal(kept.background.offsets, given.background.offsets)


def test_a_calibration_keeps_its_price_of_rests_and_one_without_has_none(tmp_path: Path) -> None:
    coefficients = np.array([-6.0, 3, 0, 0, 0, 0.5])
    scales = {kind: replace(one, rest_coefficients=coefficients) for kind, one in calibration().scales.items()}
    replace(calibration(), scales=scales, rest_price=0.5).save(tmp_path / "rests.safetensors", {})
    calibration().save(tmp_path / "old.safetensors", {})
    rests, old = (Calibration.load(tmp_path / f"{name}.safetensors", NETWORK, SETTINGS) for name in ("rests", "old"))
    assert rests is not None
    assert rests.rests == replace(SETTINGS, rest_price=0.5)
    np.testing.assert_array_equal(rests.scales["score"].rest_coefficients, coefficients)
    assert old is not None
    assert old.rests is None
    with pytest.raises(ValueError, match="expected a calibration with a price of rests"):
        old.rested_probabilities(
            unit_rows(5, np.random.default_rng(1)), "score", BACKGROUND_COSTS, BACKEND, documents=9
        )


def test_a_gain_is_what_is_saved_against_leaving_out_everything() -> None:
    given = gains(np.array([0.25, 0.5, 0.75, np.inf], np.float32), Alignment(rest_price=0.5), snippets=8)
    assert given.tolist() == [2, 0, -2, -np.inf]


def test_rests_compare_a_gain_with_the_fifth_largest_other_one() -> None:
    found, others = np.array([9.0, 2.0, -np.inf], np.float32), np.array([5, 4, 3, 1, 0.5, -1], np.float32)
    given = rest_features(found, others, snippets=20, documents=4)
    n, b = np.log(20), np.log(4)
    np.testing.assert_allclose(given[0], [np.log1p(9), np.log1p(1), np.log1p(9 - 1), n, b], rtol=1e-6)
    np.testing.assert_allclose(given[1], [np.log1p(2), np.log1p(1), np.log1p(2 - 1), n, b], rtol=1e-6)
    assert np.isfinite(given).all()
    coefficients = np.array([0.0, 0, 0, 1, 0, 0])
    one = replace(scale(), rest_coefficients=coefficients)
    given = one.rested_probabilities(found, others, snippets=20, documents=4)
    np.testing.assert_allclose(given, [9 / 10, 2 / 3, 0], rtol=1e-6)


def test_rests_compare_gains_with_those_of_the_background() -> None:
    query = unit_rows(10, np.random.default_rng(1))
    coefficients = np.array([1.0, -2, -3, 4, 0.1, 0.2])
    one = replace(scale(), rest_coefficients=coefficients)
    rests = replace(calibration(), scales={"score": one, "recording": one}, rest_price=0.75)
    settings, costs = Alignment(rest_price=0.75), np.array([0.3, 0.74], np.float32)
    null = (0.75 - background_costs(query, one.background, settings, BACKEND)) * 10
    values = rest_features((0.75 - costs) * 10, null, snippets=10, documents=7)
    given = rests.rested_probabilities(query, "score", costs, BACKEND, documents=7)
    np.testing.assert_allclose(given, 1 / (1 + np.exp(-(coefficients[0] + values @ coefficients[1:]))), rtol=1e-5)


@pytest.mark.parametrize(
    ("network", "settings", "said"),
    [
        (replace(NETWORK, hash="1" * 64), SETTINGS, "made for the network"),
        (NETWORK, replace(SETTINGS, jump_penalty=7.0), "made for the alignment"),
        (NETWORK, replace(SETTINGS, rest_price=0.5), "made for the alignment"),
    ],
)
def test_another_network_or_alignment_has_no_confidence(
    network: NetworkIdentity, settings: Alignment, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calibration().save(tmp_path / "c.safetensors", {})
    with caplog.at_level(logging.WARNING):
        assert Calibration.load(tmp_path / "c.safetensors", network, settings) is None
    assert said in caplog.text


def test_a_missing_calibration_is_no_confidence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert Calibration.load(tmp_path / "c.safetensors", NETWORK, SETTINGS) is None
    assert "is missing" in caplog.text


def test_a_damaged_calibration_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(WeightsError, match="damaged"):
        Calibration.load(path, NETWORK, SETTINGS)


def test_a_file_of_weights_is_not_a_calibration() -> None:
    with pytest.raises(WeightsError, match="scorefind-calibration"):
        Calibration.load(DEFAULT_WEIGHTS, NETWORK, SETTINGS)
