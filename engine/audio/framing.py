"""Blocks of samples -> the frames of the whole recording's spectrogram, so that memory need not hold the samples."""

import numpy as np

from engine.audio.spectrograms import HOP_SAMPLES, SAMPLE_RATE, Samples, Spectrogram, frames, reach
from engine.config import Bands

PAIR_SAMPLES = round(2 * HOP_SAMPLES)
"""Samples of two hops, 2205. One hop is no whole number of samples, but two are, so frames are computed in pairs."""
_BLOCK_SAMPLES = 10 * SAMPLE_RATE
"""Samples for which a spectrogram grows at a time."""


class Framer:
    """Turns arriving samples into the frames of `spectrogram` of all of them, each as soon as its samples are there."""

    def __init__(self, bands: Bands) -> None:
        self._bands = bands
        self._before, self._after = reach(bands)
        self._samples: Samples = np.zeros(self._before, np.float32)
        """Samples that the next frame and later frames need."""
        self._ends_at = 0
        """Number of samples from the start of the next frame to the end of the samples so far."""

    def hear(self, samples: Samples) -> Spectrogram:
        """The frames that these samples complete, float32 (bands, k)."""
        self._samples = np.concatenate([self._samples, samples])
        self._ends_at += len(samples)
        ready = len(self._samples) - self._before - self._after - int(HOP_SAMPLES)
        pairs = max(0, ready // PAIR_SAMPLES + 1)
        result = self._next_frames(2 * pairs)
        self._samples = self._samples[pairs * PAIR_SAMPLES :]
        self._ends_at -= pairs * PAIR_SAMPLES
        return result

    def finish(self) -> Spectrogram:
        """The frames that start before the end and reach beyond it, float32 (bands, k); beyond the end, samples are 0.

        Nothing may arrive afterwards.
        """
        return self._next_frames(max(0, int(np.ceil(self._ends_at / HOP_SAMPLES))))

    def _next_frames(self, count: int) -> Spectrogram:
        """The next frames, float32 (bands, count)."""
        return frames(self._samples, count, self._bands, first=self._before)


class GrowingSpectrogram:
    """The spectrogram of a recording that arrives in blocks. Memory holds the spectrogram once, and no samples."""

    def __init__(self, framer: Framer, bands: int) -> None:
        self._framer = framer
        self._frames = np.empty((0, bands), np.float32)
        self._waiting: list[Samples] = []
        self._waiting_samples = 0

    def hear(self, samples: Samples) -> None:
        """Takes the next samples, float32 (n,)."""
        self._waiting.append(samples)
        self._waiting_samples += len(samples)
        if self._waiting_samples >= _BLOCK_SAMPLES:
            self._grow()

    def finish(self) -> Spectrogram:
        """The spectrogram of all samples, float32 (bands, frames)."""
        self._grow()
        self._append(self._framer.finish())
        return self._frames.T

    def _grow(self) -> None:
        """Computes the frames of the samples that wait."""
        if self._waiting:
            self._append(self._framer.hear(np.concatenate(self._waiting)))
        self._waiting, self._waiting_samples = [], 0

    def _append(self, new: Spectrogram) -> None:
        """Lengthens the array in place: the system moves its pages, so no second copy is made."""
        done = len(self._frames)
        self._frames.resize((done + new.shape[1], len(new)), refcheck=False)
        self._frames[done:] = new.T
