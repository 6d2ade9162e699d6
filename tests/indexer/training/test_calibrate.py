"""Calibration: how collections are drawn, and what is fitted to them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import alignment
from engine.collection import Collection, CollectionWriter
from engine.config import Alignment, FrontEnd
from engine.values import PLACE_DTYPES, Document, Embeddings, Kind, NetworkIdentity, SnippetSequence
from indexer.training import calibrate, mixtures

NETWORK = NetworkIdentity(name="test", hash="0" * 64, front_end=FrontEnd())


def noisy(rows: Embeddings, rng: np.random.Generator) -> Embeddings:
    """The rows, some 45 degrees off."""
    moved = rows + rng.normal(0, 32**-0.5, rows.shape)
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), dtype=np.float32)


def written(path: Path, pieces: int, rng: np.random.Generator) -> Collection:
    """Pieces whose forms lie as close as real ones; the score is NAME.score or NAME."""
    with CollectionWriter(path, NETWORK) as writer:
        for number in range(pieces):
            music = noisy(np.zeros((40, 32), np.float32), rng)
            names: dict[Kind, str] = {"score": f"p{number}" + ".score" * (number % 2), "recording": f"p{number}.played"}
            for kind, name in names.items():
                places = np.zeros(len(music), PLACE_DTYPES[kind])
                bias = np.zeros(len(music), np.float32)
                sequence = SnippetSequence(kind=kind, embeddings=noisy(music, rng), places=places, bias=bias)
                writer.put(Document(id=name, kind=kind, snippets=len(music)), sequence)
        writer.commit()
    return Collection.open(path)


def test_the_forms_of_a_piece_share_its_name() -> None:
    score, taken = Document(id="a.b.score", kind="score"), Document(id="a.b", kind="score")
    recording = Document(id="a.b.played", kind="recording")
    assert {mixtures.piece_of(document) for document in (score, taken, recording)} == {"a.b"}


def test_a_drawn_collection_holds_the_right_document_every_other_time() -> None:
    rng = np.random.default_rng(0)
    drawn = [calibrate.draw(3, 50, rng) for _ in range(400)]
    assert np.mean([3 in one for one in drawn]) == pytest.approx(0.5, abs=0.08)
    assert min(map(len, drawn)) == 1
    assert max(map(len, drawn)) > 40
    assert all(len(set(one.tolist())) == len(one) and max(one) < 50 for one in drawn)


def test_a_collection_is_drawn_as_large_as_asked_for() -> None:
    assert len(calibrate.draw(0, 50, np.random.default_rng(0), size=7)) == 7


def test_the_best_match_is_right_if_it_is_the_truth() -> None:
    costs = np.array([0.9, 0.5, 0.7], np.float32)
    query = calibrate.QueryCosts(piece="", snippets=9, truth=1, costs=costs, background=np.ones(9, np.float32))
    matched, right = query.best(np.array([0, 1, 2]))
    assert (right, matched[0]) == (True, pytest.approx(0.5))
    matched, right = query.best(np.array([0, 2]))
    assert (right, matched[0]) == (False, pytest.approx(0.7))


def asked(own: list[float], crowd: list[float]) -> calibrate.QueryCosts:
    """A query whose right document is the first one."""
    costs = np.array([*own, *crowd], np.float32)
    return calibrate.QueryCosts(piece="", snippets=9, truth=0, costs=costs, background=np.ones(9, np.float32))


def test_every_query_is_asked_for_as_often_with_the_crowd_as_without() -> None:
    one = asked(own=[0.4, 0.5, 0.6], crowd=[0.1] * 40)
    matches, right = calibrate.examples([one] * 50, 3, np.random.default_rng(0))
    among_own, among_all = (matches.reshape(50, 2, calibrate.DRAWS, -1)[:, i, :, 0] for i in range(2))
    assert among_own.min() == pytest.approx(0.4)
    assert np.mean(among_all == np.float32(0.1)) > 0.8
    assert len(matches) == len(right) == 50 * 2 * calibrate.DRAWS


def test_the_crowd_is_aligned_without_the_background_and_all_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[calibrate.DocumentPool] = []
    ask = calibrate.query_costs

    def watched(collection: Collection, searched: calibrate.DocumentPool, *rest: Any) -> Iterator[calibrate.QueryCosts]:
        used.append(searched)
        return ask(collection, searched, *rest)

    monkeypatch.setattr(calibrate, "query_costs", watched)
    rng = np.random.default_rng(0)
    with written(tmp_path / "pieces", 3, rng) as pieces, written(tmp_path / "crowd", 70, rng) as crowd:
        scale = calibrate.calibrated([pieces], crowd, "score", Alignment(), alignment.choose("cpu"))
        everything = {row.tobytes() for row in crowd.packed("score").embeddings}
    (searched,) = used
    others, background = ({row.tobytes() for row in packed.embeddings} for packed in (searched.crowd, scale.background))
    assert (len(searched.own), len(searched.crowd), len(scale.background)) == (3, 6, 64)
    assert others & background == set()
    assert others | background == everything


def test_a_query_costs_what_it_does_among_the_pieces_the_crowd_and_the_background(tmp_path: Path) -> None:
    rng, backend = np.random.default_rng(0), alignment.choose("cpu")
    with written(tmp_path / "pieces", 3, rng) as pieces, written(tmp_path / "crowd", 5, rng) as crowd:
        own, documents = pieces.packed("score"), crowd.packed("score")
        part = pieces.sequence("p1.played").embeddings[:9]
    others, background = documents.take(np.arange(3)), documents.take(np.arange(3, 5))
    searched = calibrate.DocumentPool(
        own=own, crowd=others, background=background, settings=Alignment(), backend=backend
    )
    one = searched.costs(part, "p1", 1)
    alone = [backend.align(part, packed, Alignment()).costs for packed in (own, others, background)]
    np.testing.assert_array_equal(one.costs, np.concatenate(alone[:2]))
    np.testing.assert_array_equal(one.background, alone[2])
    assert (one.snippets, one.truth) == (9, 1)


def test_parts_are_of_all_lengths_and_of_the_document() -> None:
    rows = np.arange(200 * 32, dtype=np.float32).reshape(200, 32)
    parts = list(calibrate.cuts(rows, np.random.default_rng(0)))
    assert min(map(len, parts)) <= 5
    assert max(map(len, parts)) >= 100
    for part in parts:
        first = int(part[0, 0]) // 32
        np.testing.assert_array_equal(part, rows[first : first + len(part)])


def test_the_fit_finds_the_coefficients_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    matches = rng.normal([1.0, -0.2, 3.0], [0.2, 0.1, 1.0], (20_000, 3))
    true = np.array([10.0, -12.0, -20.0, -1.0])
    right = rng.random(20_000) < 1 / (1 + np.exp(-(true[0] + matches @ true[1:])))
    np.testing.assert_allclose(calibrate.fit(matches, right), true, rtol=0.15)


def test_labels_that_can_be_told_apart_wholly_are_fitted_finitely() -> None:
    matches = np.linspace(-1, 1, 100)[:, None]
    coefficients = calibrate.fit(matches, matches[:, 0] > 0)
    assert np.isfinite(coefficients).all()
    assert calibrate.log_loss(coefficients, matches, matches[:, 0] > 0) < 0.1


def test_the_log_loss_of_a_coin_is_log_two() -> None:
    coin = calibrate.log_loss(np.zeros(2), np.ones((4, 1)), np.array([True, False, False, True]))
    assert coin == pytest.approx(np.log(2))


def test_a_mixture_holds_a_part_of_its_piece_and_names_the_other_pieces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = noisy(np.zeros((60, 32), np.float32), rng)
    with written(tmp_path / "pieces", 4, rng) as pieces:
        made = list(mixtures.mixtures(pieces, [noise], "score", rng))
        rows = {n: pieces.sequence(f"p{n}.played").embeddings for n in range(4)}
        number_of = {f"p{n}": n for n in range(4)}
        documents = [mixtures.piece_of(document) for document in pieces.of_kind("score")]
    sources = {row.tobytes(): number for number, some in rows.items() for row in some}
    sources |= {row.tobytes(): -1 for row in noise}
    assert len(made) == 4 * mixtures.MIXTURES
    held = [{sources[row.tobytes()] for row in mixture.embeddings} for mixture in made]
    for mixture, found in zip(made, held, strict=True):
        own = number_of[mixture.piece]
        assert documents[mixture.truth] == mixture.piece
        assert found - {-1} == {own, *(number_of[documents[other]] for other in mixture.others)}
        assert mixture.truth not in mixture.others
    assert any(found == {number_of[mixture.piece]} for mixture, found in zip(made, held, strict=True))
    assert any(-1 in found for found in held)
    assert any(mixture.others for mixture in made)


def test_the_other_pieces_of_a_mixture_are_never_its_best_match(tmp_path: Path) -> None:
    rng, backend = np.random.default_rng(0), alignment.choose("cpu")
    with written(tmp_path / "pieces", 3, rng) as pieces:
        own = pieces.packed("score")
        rows = np.concatenate([pieces.sequence(f"p{n}.played").embeddings for n in (1, 2)])
    settings = Alignment(rest_price=0.5)
    pool = calibrate.DocumentPool(own=own, crowd=own, background=own, settings=settings, backend=backend)
    given = pool.gains(mixtures.Mixture(embeddings=rows, piece="p1", truth=1, others=(2,)))
    expected = (backend.align(rows, own, settings).costs - 0.5) * 80  # gains, negative
    np.testing.assert_allclose(given.background, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(given.costs[[0, 1]], expected[[0, 1]], rtol=1e-4, atol=1e-4)
    assert np.isinf(given.costs[2])
    assert expected.argmin() != 0


def test_rests_get_the_price_that_tells_right_from_wrong_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a price of 0 nothing is worth aligning, and at a price of 5 nothing is worth leaving out."""
    monkeypatch.setattr(calibrate, "PRICES", (0.0, 0.55, 5.0))
    rng, backend = np.random.default_rng(0), alignment.choose("cpu")
    with written(tmp_path / "pieces", 8, rng) as pieces, written(tmp_path / "crowd", 70, rng) as crowd:
        scales = {"score": calibrate.calibrated([pieces], crowd, "score", Alignment(), backend)}
        noise = noisy(np.zeros((200, 32), np.float32), rng)
        price, fitted = calibrate.with_rests(
            [pieces], crowd, scales, {"score": [], "recording": [noise]}, Alignment(), backend
        )
    assert price == 0.55
    null = np.linspace(0, 0.1, calibrate.BACKGROUND, dtype=np.float32)
    found = np.array([9, 0.1], np.float32)
    sure, unsure = fitted["score"].rested_probabilities(found, null, snippets=200, documents=8)
    assert sure > 0.9
    assert unsure < 0.2


def test_a_background_needs_a_crowd(tmp_path: Path) -> None:
    with (
        written(tmp_path / "few", 4, np.random.default_rng(0)) as few,
        pytest.raises(ValueError, match="expected a crowd of more than 64"),
    ):
        calibrate.choose_background(few.packed("score"), np.random.default_rng(0))


def test_a_calibration_tells_right_matches_from_wrong_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with written(tmp_path / "pieces", 8, rng) as pieces, written(tmp_path / "crowd", 70, rng) as crowd:
        scale = calibrate.calibrated([pieces], crowd, "score", Alignment(), alignment.choose("cpu"))
    assert len(scale.background) == calibrate.BACKGROUND
    null = np.linspace(0.75, 0.9, calibrate.BACKGROUND, dtype=np.float32)
    costs = np.array([0.5, 0.8], np.float32)
    sure, unsure = scale.probabilities(costs, null, snippets=20, documents=8)
    assert sure > 0.9
    assert unsure < 0.2
