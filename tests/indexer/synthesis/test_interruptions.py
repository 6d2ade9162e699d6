"""Made applause, speech and noise sound as they should, as far as numbers tell."""

import numpy as np

from engine.audio import SAMPLE_RATE
from indexer.synthesis.interruptions import interruptions, speech


def test_each_kind_of_sound_is_as_long_as_asked_never_clips_and_differs_by_the_seed() -> None:
    made = list(interruptions(3.0, np.random.default_rng(0)))
    assert len(made) == 3
    for samples, other in zip(made, interruptions(3.0, np.random.default_rng(1)), strict=True):
        assert (samples.dtype, samples.shape) == (np.float32, (3 * SAMPLE_RATE,))
        assert np.max(np.abs(samples)) == np.float32(0.5)
        assert abs(np.corrcoef(samples, other)[0, 1]) < 0.3


def test_applause_and_noise_go_on_and_speech_has_breaths() -> None:
    applause, spoken, noise = (
        np.abs(s).reshape(-1, 2205).max(1) for s in interruptions(20.0, np.random.default_rng(0))
    )
    assert min(applause.min(), noise.min()) > 0.01
    assert 0.03 < np.mean(spoken < 0.002) < 0.6


def test_speech_is_mostly_voiced_below_4000_hertz() -> None:
    power = np.abs(np.fft.rfft(speech(10 * SAMPLE_RATE, np.random.default_rng(0)))) ** 2
    assert power[: 10 * 4000].sum() > 0.8 * power.sum()
