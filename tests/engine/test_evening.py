"""Recordings of evenings that are transposed."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import audio, evening
from engine.audio import Recording
from engine.search.passages import Passage
from engine.search.segmentation import Evening, Found
from engine.values import Document, Place
from tests.fake_encoder import FakeEncoder

ENCODER: Any = FakeEncoder()


def _passage(seconds: float, confidence: float | None) -> Passage:
    document = Document(id="waltz", kind="score")
    stretch = Place(start_s=10.0, end_s=10.0 + seconds)
    return Passage(document=document, confidence=confidence, stretch=stretch, place=Place())


def _told(
    monkeypatch: pytest.MonkeyPatch, found: dict[float, list[Passage]], shifts: tuple[float, ...]
) -> tuple[tuple[Passage, ...], float]:
    """The passages of a recording, and its transposition. found: passages of each transposition."""
    asked: list[float] = []
    monkeypatch.setattr(audio, "transposed", lambda medium, shift, bands: asked.append(shift) or medium)
    monkeypatch.setattr(evening.documents, "sequences", lambda media, encoder: [None for _ in media])

    def of_evening(one: Evening) -> Found:
        assert one.tones is not None
        return Found(passages=tuple(found[asked[-1]]))

    segmenter: Any = SimpleNamespace(found=of_evening)
    recording = Recording(spectrogram=np.zeros((92, 100), np.float32), start_s=0.0, duration_s=5.0)
    chosen, shift = evening.segmented(recording, ENCODER, segmenter, "score", shifts)
    return chosen.passages, shift


def test_the_transposition_with_most_seconds_of_sure_passages_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {0.0: [_passage(30, 0.9)], 2.0: [_passage(60, 0.99), _passage(20, 0.95)], -2.0: []}
    passages, shift = _told(monkeypatch, found, (0.0, 2.0, -2.0))
    assert (len(passages), shift) == (2, 2.0)


def test_confidences_pay_for_the_tries_and_unlikely_passages_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {1.0: [_passage(30, 0.9), _passage(30, 0.6)], 2.0: []}
    passages, shift = _told(monkeypatch, found, (1.0, 2.0))
    assert ([one.confidence for one in passages], shift) == ([pytest.approx(0.9 / 1.1)], 1.0)


def test_one_transposition_costs_no_confidence(monkeypatch: pytest.MonkeyPatch) -> None:
    for shifts in ((), (0.0,)):
        passages, shift = _told(monkeypatch, {0.0: [_passage(30, 0.6)]}, shifts)
        assert ([one.confidence for one in passages], shift) == ([0.6], 0.0)


def test_without_a_calibration_passages_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    passages, shift = _told(monkeypatch, {1.0: [_passage(30, None)], 2.0: [_passage(40, None)]}, (1.0, 2.0))
    assert ([one.confidence for one in passages], shift) == ([None], 2.0)
