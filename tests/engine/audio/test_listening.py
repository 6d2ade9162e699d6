"""A recording that arrives in pieces gives the same excerpts as the whole recording."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, excerpts, spectrogram
from engine.audio.listening import Listener
from engine.config import Bands, FrontEnd

FRONT_END = FrontEnd()


def noise(seconds: float, rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def heard(listener: Listener, samples: NDArray[np.float32], sizes: list[int]) -> NDArray[np.float32]:
    found, start = [], 0
    while start < len(samples):
        size = sizes[len(found) % len(sizes)]
        found.append(listener.hear(samples[start : start + size]))
        start += size
    return np.concatenate(found)


@pytest.mark.parametrize("bands", ["published", "quarter_tone"])
@pytest.mark.parametrize("sizes", [[1000], [1, 7000, 0, 333], [100_000], [1102, 1103]])
def test_the_excerpts_are_those_of_the_whole(sizes: list[int], bands: Bands) -> None:
    samples, front_end = noise(9.0), FrontEnd(bands=bands)
    whole = excerpts(spectrogram(samples, bands), front_end)
    found = heard(Listener(SAMPLE_RATE, front_end), samples, sizes)
    assert len(whole) - 1 <= len(found) <= len(whole)
    np.testing.assert_allclose(found, whole[: len(found)], atol=1e-4)


def test_an_excerpt_comes_as_soon_as_its_frames_are_there() -> None:
    listener = Listener(SAMPLE_RATE, FRONT_END)
    assert len(listener.hear(noise(4.2))) == 0
    assert len(listener.hear(noise(0.2))) == 1
    assert len(listener.hear(noise(0.5))) == 1
    assert listener.heard_s == pytest.approx(4.9)


def test_other_sampling_rates_are_brought_to_ours() -> None:
    slow = Listener(SAMPLE_RATE, FRONT_END).hear(np.repeat(noise(6.0), 1))
    fast = Listener(2 * SAMPLE_RATE, FRONT_END).hear(np.repeat(noise(6.0), 2))
    assert len(fast) == len(slow)
    low = slice(0, 60)  # repeating samples adds images above the band
    np.testing.assert_allclose(fast[:, low].mean(), slow[:, low].mean(), rtol=0.05)


def test_silence_before_the_first_sound_is_left_out() -> None:
    listener = Listener(SAMPLE_RATE, FRONT_END)
    quiet, samples = np.zeros(3 * SAMPLE_RATE, np.float32), noise(6.0)
    found = np.concatenate([listener.hear(quiet), listener.hear(np.concatenate([quiet, samples]))])
    np.testing.assert_array_equal(found, Listener(SAMPLE_RATE, FRONT_END).hear(samples))
    assert listener.silent_s == 6.0
    assert listener.heard_s == 12.0
    assert len(listener.hear(np.zeros(10 * SAMPLE_RATE, np.float32))) > 15


def test_what_cannot_be_heard_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a sampling rate of 2000\.\.768000 Hz, got 8"):
        Listener(8, FRONT_END)
    with pytest.raises(ValueError, match="finite"):
        Listener(SAMPLE_RATE, FRONT_END).hear(np.array([0.1, np.nan], np.float32))
