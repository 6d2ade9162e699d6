import io
from dataclasses import replace

import mido
import numpy as np
import pytest

from engine.symbols.playing import to_midi
from indexer.synthesis.engrave import ScoreNotes
from indexer.synthesis.perform import Style, perform, random_style

NOTES = ScoreNotes(
    onset_quarter=np.repeat(np.arange(40.0), 3),
    duration_quarter=np.ones(120),
    pitch=np.tile([48, 64, 67], 40),
)

STRICT = Style(
    quarters_per_minute=120,
    tempo_spread=0,
    bar_spread=0,
    section_spread=0,
    hesitation=0,
    onset_spread_s=0,
    roll_probability=0,
    final_slowing=0,
)


def test_a_strict_style_keeps_the_tempo() -> None:
    performance = perform(NOTES, STRICT, np.random.default_rng(0))
    assert np.diff(performance.onset_s[::3]) == pytest.approx(0.5)


def test_a_free_style_breathes_but_never_goes_back() -> None:
    performance = perform(NOTES, Style(tempo_spread=0.2), np.random.default_rng(0))
    beats = np.diff(performance.seconds_at(np.arange(40.0)))
    assert beats.min() > 0
    assert beats.std() / beats.mean() > 0.05


@pytest.mark.parametrize("freedom", [{"bar_spread": 0.2}, {"section_spread": 0.3}, {"hesitation": 0.1}])
def test_each_freedom_moves_the_beats_but_not_the_tempo_overall(freedom: dict[str, float]) -> None:
    performance = perform(NOTES, replace(STRICT, **freedom), np.random.default_rng(1))
    beats = np.diff(performance.seconds_at(np.arange(41.0)))
    assert beats.std() > 0.02
    assert beats.mean() == pytest.approx(0.5, rel=0.02)


def test_a_free_style_slows_down_at_the_end() -> None:
    performance = perform(NOTES, replace(STRICT, final_slowing=1.0), np.random.default_rng(0))
    beats = np.diff(performance.seconds_at(np.arange(40.0)))
    assert beats[:28] == pytest.approx(0.5)
    assert beats[-1] > 1.0


def test_notes_sound_near_their_beats() -> None:
    performance = perform(NOTES, replace(Style(), roll_probability=1.0), np.random.default_rng(0))
    assert np.abs(performance.onset_s - performance.seconds_at(NOTES.onset_quarter)).max() < 0.25


def test_random_styles_play_at_a_human_rate() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        style = random_style(NOTES, rng)
        onsets_per_s = 40 / perform(NOTES, style, rng).beat_s[-1]
        assert 0.5 < onsets_per_s < 10


def test_the_midi_file_plays_every_note_when_it_was_performed() -> None:
    performance = perform(NOTES, Style(), np.random.default_rng(0))
    onsets, seconds = [], 0.0
    for message in mido.MidiFile(file=io.BytesIO(to_midi(performance))):
        seconds += message.time
        if message.type == "note_on":
            onsets.append(seconds)
    assert np.array(onsets) == pytest.approx(np.sort(performance.onset_s), abs=2e-3)


def test_until_keeps_what_has_begun() -> None:
    performance = perform(NOTES, Style(), np.random.default_rng(0)).until(5.0)
    assert 0 < len(performance.onset_s) < 120
    assert performance.onset_s.max() < 5.0
    assert performance.release_s.max() <= 6.0
