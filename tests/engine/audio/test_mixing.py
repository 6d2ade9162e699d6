import numpy as np
import pytest
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, recording_of
from engine.audio.mixing import Mixer
from engine.config import FrontEnd


def noise(seconds: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * SAMPLE_RATE)).astype(np.float32)


def rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def test_channels_in_opposite_phase_are_not_silent() -> None:
    sound = noise()
    mixed = Mixer(2, SAMPLE_RATE).mix(np.stack([sound, -sound], axis=1))
    assert rms(mixed) == pytest.approx(rms(sound), rel=0.1)


@pytest.mark.parametrize("weights", [(1, -1, 0.02), (0.02, 1, -1), (1, -0.5, -0.5), (1, -1, 1, -1, 1, -1)])
def test_of_several_channels_that_cancel_out_the_loudest_is_heard(weights: tuple[float, ...]) -> None:
    sound = noise()
    mixed = Mixer(len(weights), SAMPLE_RATE).mix(np.stack([sound * weight for weight in weights], axis=1))
    assert rms(mixed) == pytest.approx(rms(sound), rel=0.1)


@pytest.mark.parametrize("right", [noise(seed=1), noise(seed=1) * 0, noise() * -0.5])
def test_channels_that_do_not_cancel_out_are_averaged(right: NDArray[np.float32]) -> None:
    left = noise()
    mixed = Mixer(2, SAMPLE_RATE).mix(np.stack([left, right], axis=1))
    np.testing.assert_allclose(mixed, (left + right) / 2, atol=1e-6)


def test_one_mix_passes_into_another_without_a_step() -> None:
    tone = np.sin(np.arange(SAMPLE_RATE) / 50).astype(np.float32)
    mixer = Mixer(2, SAMPLE_RATE)
    blocks = [np.stack([tone, sign * tone], axis=1) for sign in (1, -1, 1)]
    mixed = np.concatenate([mixer.mix(block) for block in blocks])
    jump_at_border = np.abs(np.diff(tone)).max() + abs(float(tone[-1] - tone[0]))
    assert np.abs(np.diff(mixed)).max() <= jump_at_border + 1e-3


def test_a_recording_in_opposite_phase_is_embedded_as_one_of_its_channels() -> None:
    sound = noise(6)
    one = recording_of(sound, SAMPLE_RATE, FrontEnd())
    both = recording_of(np.stack([sound, -sound], axis=1), SAMPLE_RATE, FrontEnd())
    np.testing.assert_allclose(both.spectrogram[:, 5:-5], one.spectrogram[:, 5:-5], atol=0.02)
