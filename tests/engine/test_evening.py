"""Recordings of evenings that are transposed."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import audio, evening
from engine.audio import Recording
from engine.search.passages import Passage
from engine.search.segmentation import Evening, Found
from engine.values import Document, Place, UnseenShard
from tests.fake_encoder import FakeEncoder

ENCODER: Any = FakeEncoder()


def _passage(seconds: float, confidence: float | None) -> Passage:
    document = Document(id="waltz", kind="score")
    stretch = Place(start_s=10.0, end_s=10.0 + seconds)
    return Passage(document=document, confidence=confidence, stretch=stretch, followed=stretch, place=Place())


def _told(
    monkeypatch: pytest.MonkeyPatch,
    found: dict[float, list[Passage]],
    shifts: tuple[float, ...],
    lost: dict[float, str] = {},  # noqa: B006  # is not changed
) -> tuple[Found, float]:
    """What is found in a recording, and its transposition.

    found: passages of each transposition. lost: the shard that does not answer at a transposition.
    """
    asked: list[float] = []
    monkeypatch.setattr(audio, "transposed", lambda medium, shift, bands: asked.append(shift) or medium)
    monkeypatch.setattr(evening.documents, "sequences", lambda media, encoder: [None for _ in media])

    def of_evening(one: Evening) -> Found:
        assert one.tones is not None
        unseen = [UnseenShard(name=lost[asked[-1]], documents={})] if asked[-1] in lost else []
        return Found(passages=tuple(found[asked[-1]]), unseen=tuple(unseen))

    segmenter: Any = SimpleNamespace(found=of_evening)
    recording = Recording(spectrogram=np.zeros((92, 100), np.float32), start_s=0.0, duration_s=5.0)
    return evening.segmented(recording, ENCODER, segmenter, "score", shifts)


def test_the_transposition_with_most_seconds_of_sure_passages_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {0.0: [_passage(30, 0.9)], 2.0: [_passage(60, 0.99), _passage(20, 0.95)], -2.0: []}
    chosen, shift = _told(monkeypatch, found, (0.0, 2.0, -2.0))
    assert (len(chosen.passages), shift) == (2, 2.0)


def test_shards_that_did_not_answer_at_any_transposition_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {0.0: [_passage(30, 0.9)], 2.0: [_passage(60, 0.99)], -2.0: [], 4.0: []}
    lost = {0.0: "shard-1", 2.0: "shard-2", -2.0: "shard-1"}
    chosen, shift = _told(monkeypatch, found, (0.0, 2.0, -2.0, 4.0), lost)
    assert ([shard.name for shard in chosen.unseen], shift) == (["shard-1", "shard-2"], 2.0)


def test_confidences_pay_for_the_tries_and_unlikely_passages_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {1.0: [_passage(30, 0.9), _passage(30, 0.6)], 2.0: []}
    chosen, shift = _told(monkeypatch, found, (1.0, 2.0))
    assert ([one.confidence for one in chosen.passages], shift) == ([pytest.approx(0.9 / 1.1)], 1.0)


def test_one_transposition_costs_no_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    for shifts in ((), (0.0,)):
        chosen, shift = _told(monkeypatch, {0.0: [_passage(30, 0.6)]}, shifts)
        assert ([one.confidence for one in chosen.passages], shift) == ([0.6], 0.0)


def test_without_a_calibration_passages_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, shift = _told(monkeypatch, {1.0: [_passage(30, None)], 2.0: [_passage(40, None)]}, (1.0, 2.0))
    assert ([one.confidence for one in chosen.passages], shift) == ([None], 2.0)
