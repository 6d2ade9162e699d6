"""How tonal a sound is."""

import numpy as np

from engine.audio import SAMPLE_RATE
from engine.audio.spectrograms import spectrogram
from engine.audio.tonality import FRAMES_AT_A_TIME, tonality


def test_a_chord_is_more_tonal_than_noise_and_silence_is_not_tonal() -> None:
    times = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    chord = sum(0.1 * np.sin(2 * np.pi * pitch * times) for pitch in (220, 277, 330, 440)).astype(np.float32)
    noise = 0.1 * np.random.default_rng(0).standard_normal(len(times)).astype(np.float32)
    found = [float(np.median(tonality(spectrogram(sound, "published")))) for sound in (chord, noise, 0 * noise)]
    assert found[0] > 2 > 1.4 > found[1] > found[2] == 0


def test_loudness_does_not_count() -> None:
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE).astype(np.float32)
    loud, soft = (tonality(spectrogram(gain * noise, "published")) for gain in (0.5, 0.05))
    np.testing.assert_allclose(loud, soft, atol=0.1)


def test_many_frames_have_the_tonality_of_few() -> None:
    frames = np.random.default_rng(0).random((92, FRAMES_AT_A_TIME + 5), dtype=np.float32)
    np.testing.assert_array_equal(tonality(frames)[-5:], tonality(frames[:, -5:]))
