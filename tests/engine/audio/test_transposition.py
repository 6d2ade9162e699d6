import numpy as np
import pytest
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, Recording, recording_of, transposed
from engine.config import Bands, FrontEnd


def chord(transpose: float = 0.0) -> NDArray[np.float32]:
    """Ten seconds of chords over four octaves, higher by so many semitones."""
    rng, seconds = np.random.default_rng(0), np.arange(SAMPLE_RATE) / SAMPLE_RATE
    beats = []
    for _ in range(10):
        pitches = rng.integers(43, 92, 5) + transpose
        beats.append(sum(np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * seconds) for pitch in pitches))
    return (np.concatenate(beats) / 8).astype(np.float32)


def recorded(bands: Bands, transpose: float = 0.0, speed: float = 1.0) -> Recording:
    return recording_of(chord(transpose), SAMPLE_RATE, FrontEnd(bands=bands), speed=speed)


def likeness(one: Recording, other: Recording) -> float:
    frames = slice(2, min(one.spectrogram.shape[1], other.spectrogram.shape[1]) - 2)
    return float(np.corrcoef(one.spectrogram[:, frames].ravel(), other.spectrogram[:, frames].ravel())[0, 1])


@pytest.mark.parametrize("bands", ["published", "quarter_tone"])
@pytest.mark.parametrize("semitones", [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
def test_a_transposed_spectrogram_is_like_that_of_music_played_higher(bands: Bands, semitones: float) -> None:
    played, as_played = recorded(bands), recorded(bands, semitones)
    assert likeness(transposed(played, semitones, bands), as_played) > 0.93
    assert likeness(transposed(played, -semitones, bands), as_played) < 0.8


def test_a_quarter_tone_is_one_band() -> None:
    played = recorded("quarter_tone")
    higher = transposed(played, 0.5, "quarter_tone").spectrogram
    np.testing.assert_array_equal(higher[1:], played.spectrogram[:-1])
    assert not higher[0].any()


def test_no_transposition_changes_nothing() -> None:
    played = recorded("published")
    assert transposed(played, 0.0, "published") is played


def test_a_transposition_of_more_than_an_octave_is_refused() -> None:
    with pytest.raises(ValueError, match="-12 to 12 semitones, got 13"):
        transposed(recorded("published"), 13.0, "published")


@pytest.mark.parametrize("speed", [0.5, 1.03])
def test_a_tape_at_its_true_speed_is_the_music_as_it_was_played(speed: float) -> None:
    sound = chord()
    at = np.arange(0, len(sound) - 1, speed)
    tape = np.interp(at, np.arange(len(sound)), sound).astype(np.float32)
    restored = recording_of(tape, SAMPLE_RATE, FrontEnd(), speed=speed)
    assert likeness(restored, recorded("published")) > 0.95
    assert restored.duration_s == pytest.approx(10 / speed, abs=0.01)  # seconds of the tape
