"""Evenings hold what they say, and what is counted of their passages adds up."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import paired_collection
from bench import segment
from bench.lib import recitals, volumes
from bench.lib.recitals import Form, Played, Programme
from engine.audio import SAMPLE_RATE
from engine.collection import Collection


def tone(path: Path, hertz: float, seconds: float) -> Path:
    sounding = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)
    soundfile.write(path, np.concatenate([sounding, np.zeros(2 * SAMPLE_RATE)]), SAMPLE_RATE)
    return path


def pitch(samples: np.ndarray) -> float:
    """The loudest frequency, Hz."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples))


@pytest.mark.parametrize("form", ["recital", "medley", "practice"])
def test_each_piece_sounds_where_the_evening_says(form: Form, tmp_path: Path) -> None:
    known = {f"{hertz}": tone(tmp_path / f"{hertz}.flac", hertz, 50) for hertz in (440, 550, 660)}
    stranger = tone(tmp_path / "stranger.flac", 880, 50)
    programme = Programme(form=form, minutes=6)
    evening = recitals.evening(programme, known, [stranger], lambda samples: samples, np.random.default_rng(0))
    assert len(evening.samples) >= 6 * 60 * SAMPLE_RATE
    assert {one.piece for one in evening.played} - {""} == {"440", "550", "660"}
    assert form == "practice" or "" in {one.piece for one in evening.played}
    for one in evening.played:
        part = evening.samples[round(one.start_s * SAMPLE_RATE) : round(one.end_s * SAMPLE_RATE)]
        assert pitch(part) == pytest.approx(float(one.piece or 880), abs=1)
        if form == "recital":
            assert one.end_s - one.start_s == pytest.approx(50, abs=0.1)  # without the silence at its end


def test_noise_lies_as_far_below_the_evening_as_it_should(tmp_path: Path) -> None:
    known = {"a": tone(tmp_path / "a.flac", 440, 30)}
    plain, noisy = (
        recitals.evening(Programme(minutes=1, snr_db=snr), known, [], lambda one: one, np.random.default_rng(0))
        for snr in (np.inf, 10)
    )
    noise = noisy.samples - plain.samples
    assert 10 * np.log10(np.mean(plain.samples**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.1)


def played(piece: str, start_s: float, end_s: float) -> Played:
    return Played(piece=piece, start_s=start_s, end_s=end_s)


def test_a_passage_is_right_once_where_it_covers_half_and_a_work_is_false_where_it_is_not_played() -> None:
    truth = [played("a", 0, 100), played("", 100, 200), played("b", 200, 300), played("c", 300, 400)]
    told = [played("a", 2, 99), played("a", 100, 110), played("b", 200, 240), played("c", 120, 190)]
    result = segment.judged(told, truth, 0.5)
    assert result.right == (("a", 2, -1),)
    assert result.wrong == ("a", "b", "c")
    assert result.missed == ("b", "c")
    assert result.false_works == 2  # the second a, and c


def test_rows_count_f1_borders_and_false_works_an_hour() -> None:
    truth = [played("a", 0, 100), played("b", 200, 300)]
    results = [segment.judged([played("a", 1, 108), played("x", 120, 150)], truth, 0.5)] * 2
    cost = segment.EveningCost(embed_s=3, search_s=1, megabytes=20)
    row = segment.row("whole pieces", "piano", results, [cost, cost])
    assert (row["n"], row["told"], row["F1"]) == (4, 4, 0.5)
    assert (row["border median s"], row["within 5 s"]) == (4.5, 0.5)
    assert (row["false works/h"], row["embed CPU s/h"], row["search CPU s/h"], row["search MB"]) == (2, 6, 2, 20)
    low, high = row["false works/h 95%"]
    assert low == pytest.approx(0.242, abs=0.001)  # Poisson's interval of two events
    assert high == pytest.approx(7.225, abs=0.001)


def test_a_volume_has_its_pieces_where_it_says(tmp_path: Path) -> None:
    paired_collection.write(tmp_path / "c")
    pieces = [paired_collection.piece(number) for number in range(4)]
    with Collection.open(tmp_path / "c") as collection:
        made = volumes.volume(collection, pieces, frozenset({"piece0", "piece2"}), np.random.default_rng(0))
        for one, number in zip(made.printed, np.random.default_rng(0).permutation(4).tolist(), strict=True):
            assert one.piece == (pieces[number].recording_id if number in (0, 2) else "")
            inside = (made.sequence.places["system"] > one.start_s) & (made.sequence.places["system"] <= one.end_s)
            own = collection.sequence(f"piece{number}").embeddings
            np.testing.assert_array_equal(made.sequence.embeddings[inside], own)
    assert [system.number for system in made.systems] == list(range(1, 49))
