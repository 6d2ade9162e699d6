"""Evenings hold what they say, and what is counted of their passages adds up."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import paired_collection
from bench import segment
from bench.lib import live_evenings, recitals, volumes
from bench.lib.live_evenings import LiveDelays
from bench.lib.recitals import Form, Played, PlayedEvening, Programme
from engine import audio
from engine.audio import SAMPLE_RATE
from engine.collection import Collection, CollectionWriter
from engine.embedding import documents
from engine.finder import Engine, Finder
from engine.values import Document
from fake_encoder import FakeEncoder
from media import write_recording


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


def test_rooms_of_effects_are_all_rooms_but_the_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{name}.flac" for name in ("made_hall_1", "plate", "seminar_room", "silo")]
    monkeypatch.setattr(segment, "acoustics", lambda *arguments: SimpleNamespace(rooms=paths))
    named = [
        [one.keywords["path"].stem for one in segment.rooms(tmp_path, effects=effects)]  # type: ignore[attr-defined]
        for effects in (False, True)
    ]
    assert named == [["made_hall_1", "seminar_room"], ["plate", "silo"]]


def test_delays_of_borders_that_are_never_told_are_blank_and_counted() -> None:
    one = LiveDelays(starts=(8.0, 10.0, 30.0), ends=(4.0, np.inf, np.inf), cpu_s=60, slowest_s=0.2, hours=2)
    told = live_evenings.row("recital", [one, one])
    assert (told["start after s, median"], told["start after s, 90%"], told["start never"]) == (10, 30, 0)
    assert (told["end after s, median"], told["end after s, 90%"], told["end never"]) == (
        None,
        None,
        pytest.approx(2 / 3),
    )
    assert (told["n"], told["CPU s/h"]) == (6, 30)


def test_a_live_evening_is_told_with_the_delay_of_each_border(tmp_path: Path) -> None:
    """Twenty seconds of noise, a tune of half a minute among recordings of tunes, and twenty seconds of noise."""
    rng = np.random.default_rng(0)
    tune = soundfile.read(write_recording(tmp_path / "tune.flac", 1, seconds=40), dtype="float32")[0]
    noise = [0.1 * rng.standard_normal(20 * SAMPLE_RATE).astype(np.float32) for _ in range(2)]
    samples = np.concatenate([noise[0], tune, noise[1]])
    evening = PlayedEvening(samples=samples, played=(played("tune", 20, 60), played("", 60, 61)))
    encoder = FakeEncoder()
    with CollectionWriter(tmp_path / "c", encoder.identity) as writer:
        recording = audio.recording_of(tune, SAMPLE_RATE, encoder.identity.front_end)
        (sequence,) = documents.sequences([recording], encoder)
        writer.put(Document(id="tune", kind="recording"), sequence)
        writer.commit()
    with Finder(tmp_path / "c", Engine.load(encoder=encoder, backend="cpu")) as finder:
        told = live_evenings.delays(evening, finder.engine, finder.segmenter, among="recording")
    assert 0 < told.starts[0] < 40
    assert -5 <= told.ends[0] < 20
    assert told.hours == pytest.approx(80 / 3600)
    assert 0 < told.slowest_s <= told.cpu_s
