"""Channels -> one channel, without loss of a sound that its channels hold in opposite phase."""

import numpy as np
from numpy.typing import NDArray

from engine.audio.spectrograms import Samples

WEAK = 0.01
"""Power of a mix, relative to the loudest channel or difference, below which the mix has lost the sound (20 dB)."""
FADE_S = 0.05
"""Seconds in which one mix passes into another."""


MAX_CHANNELS = 1024
"""Most channels of a recording; libsndfile has the same limit."""


class Mixer:
    """Mixes the blocks of one recording: by the mean of the channels, unless the channels cancel each other there.

    Where they do, as in a recording with a swapped lead, the loudest of the channels and of half the difference of two
    channels takes the place of the mean, and keeps it: a mix that changes with each block would be heard.
    """

    def __init__(self, channels: int, rate: int) -> None:
        choices = [np.full((1, channels), 1 / channels), np.eye(channels)]
        if channels == 2:
            choices.insert(1, np.array([[0.5, -0.5]]))
        self._choices = np.concatenate(choices).astype(np.float32)
        """Weight of each channel in each mix, (mixes, channels); the mean of the channels comes first."""
        self._chosen = 0
        self._fade_frames = max(1, round(FADE_S * rate))

    def mix(self, block: NDArray[np.float32]) -> Samples:
        """The samples of a block, float32 (n,).

        block: float32 (n, channels).
        """
        if len(self._choices) == 2 or len(block) == 0:  # one channel
            return _mean(block)
        before, power = self._chosen, self._powers(block)
        if power[before] < WEAK * power.max():
            self._chosen = int(power.argmax())
        samples = self._mixed(block, self._chosen)
        if before != self._chosen:
            fade = min(len(block), self._fade_frames)
            share = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
            samples[:fade] = (1 - share) * self._mixed(block[:fade], before) + share * samples[:fade]
        return samples

    def _mixed(self, block: NDArray[np.float32], choice: int) -> Samples:
        """The samples of a block by one of the mixes, float32 (n,)."""
        if choice == 0:
            return _mean(block)
        return np.ascontiguousarray(block @ self._choices[choice])

    def _powers(self, block: NDArray[np.float32]) -> NDArray[np.float64]:
        """The mean power of each mix in a block, (mixes,)."""
        with np.errstate(invalid="ignore", over="ignore"):  # samples that are not finite are refused later
            products = (block.T @ block).astype(np.float64) / len(block)
            return np.asarray(np.nan_to_num(np.einsum("mc,cd,md->m", self._choices, products, self._choices)))


def _mean(block: NDArray[np.float32]) -> Samples:
    """The mean of the channels, float32 (n,). NumPy's mean of rows takes seven times as long.

    block: float32 (n, channels).
    """
    total = block[:, 0].copy()
    for channel in block.T[1:]:
        total += channel
    total *= np.float32(1 / block.shape[1])
    return total
