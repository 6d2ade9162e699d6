"""Mixtures: queries hold what they should, and what is counted adds up."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench import mixtures
from bench.lib.sounds import TIMGM6MB
from bench.mixtures import FORMS, WAYS, MixedResult
from engine.audio import SAMPLE_RATE
from paired_collection import piece


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Recordings of 40 s, each a tone of its own."""
    found = {piece(number).id: tmp_path / f"{number}.flac" for number in range(6)}
    for number, path in enumerate(found.values()):
        tone = np.sin(2 * np.pi * 110 * (number + 1) * np.arange(40 * SAMPLE_RATE) / SAMPLE_RATE)
        soundfile.write(path, 0.3 * tone, SAMPLE_RATE)
    return found


def pitch(samples: np.ndarray) -> float:
    """The loudest frequency, Hz."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples))


def test_each_query_ends_with_its_piece_and_begins_with_something_else(files: dict[str, Path]) -> None:
    asked = list(mixtures.mixed([piece(number) for number in range(6)], files))
    assert [form for form, *_ in asked] == list(FORMS) * 6
    for form, one, _, _, samples, start_s in asked:
        first = round(start_s * SAMPLE_RATE)
        own = 110 * (int(one.id.removeprefix("piece")) + 1)
        assert len(samples) - first == 30 * SAMPLE_RATE
        assert pitch(samples[first:]) == pytest.approx(own, abs=1)
        if form == "another piece":
            assert pitch(samples[:first]) % 110 == pytest.approx(0, abs=1)
            assert pitch(samples[:first]) != pytest.approx(own, abs=1)
        elif form == "silence":
            assert first == 60 * SAMPLE_RATE
            assert not samples[:first].any()


def test_the_other_piece_of_a_query_is_of_its_own_half(files: dict[str, Path]) -> None:
    asked = list(mixtures.mixed([piece(number) for number in range(6)], files))
    halves = {one.id: half for _, one, _, half, _, _ in asked}
    assert sorted(halves.values()) == [0, 0, 0, 1, 1, 1]
    for form, one, other, half, samples, start_s in asked:
        if form == "another piece":
            number = round(pitch(samples[: round(start_s * SAMPLE_RATE)]) / 110) - 1
            assert piece(number).id == other
            assert halves[other] == half == halves[one.id]
        else:
            assert other == ""


def test_rows_count_what_was_likely_or_sure_and_what_was_falsely_so() -> None:
    results = [
        MixedResult(
            before=form,
            way=way,
            piece=f"piece{number}",
            rank=1.0 if way != "no rests" or form == "clean" else 2.0,
            confidence=0.0 if way == "no rests" else 0.6 if number < 3 else 0.9,
            overlap=0.9 if way != "no rests" else None,
            absent_confidence=0.8 if number == 0 else 0.5 if number == 1 else 0.1,
        )
        for form in FORMS
        for way in WAYS
        for number in range(10)
    ]
    rows = list(mixtures.rows(TIMGM6MB, results))
    assert len(rows) == len(FORMS) * len(WAYS)
    plain = next(row for row in rows if (row["before"], row["way"]) == ("talk", "no rests"))
    assert (plain["n"], plain["MRR"], plain["likely"], plain["sure"], plain["overlap"]) == (10, 0.5, 0, 0, None)
    assert (plain["falsely likely"], plain["falsely sure"]) == (0.2, 0.1)
    assert plain["likely 95%"] == pytest.approx([0, 0.3085], abs=1e-3)
    rested = next(row for row in rows if (row["before"], row["way"]) == ("talk", "rests"))
    assert (rested["MRR"], rested["likely"], rested["sure"], rested["overlap"]) == (1, 1, 0.7, pytest.approx(0.9))
    assert rested["likely 95%"] == pytest.approx([0.6915, 1], abs=1e-3)
