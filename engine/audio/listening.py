"""Excerpts of a recording that still arrives, each as soon as its samples are complete."""

import numpy as np
import soxr
from numpy.typing import NDArray

from engine import audio
from engine.audio import BANDS, RATES, SAMPLE_RATE, SILENCE, Framer, Samples
from engine.config import FrontEnd


class Listener:
    """Turns arriving samples into the same excerpts as `audio.excerpts` of the whole recording, except at its end.

    Silence before the first sound is left out, because otherwise it would become part of the query.
    """

    def __init__(self, rate: int, front_end: FrontEnd) -> None:
        """Starts an empty recording.

        rate: sampling rate of the samples, Hz.
        Raises ValueError if the rate is not in `RATES`.
        """
        if rate not in RATES:
            raise ValueError(f"expected a sampling rate of {RATES[0]}..{RATES[-1]} Hz, got {rate}")
        self.silent_s = 0.0
        """Length of the silence left out so far, in seconds."""
        self.heard_s = 0.0
        """Length of all samples so far, in seconds, including the silence left out."""
        self._front_end = front_end
        self._rate = rate
        self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        self._sounding = False
        self._framer = Framer(front_end.bands)
        self._frames = np.empty((BANDS[front_end.bands], 0), np.float32)
        """Frames from the start of the next excerpt on, float32 (bands, frames)."""

    def hear(self, samples: Samples) -> NDArray[np.float32]:
        """The excerpts that these samples complete, float32 (k, bands, excerpt_frames); k is often 0.

        samples: float32 (n,), mono, in -1..1.
        Raises ValueError if a sample is not finite.
        """
        if not np.isfinite(samples).all():
            raise ValueError("expected finite samples, got NaN or infinity")
        self.heard_s += len(samples) / self._rate
        if not self._sounding:
            first = int(np.argmax(np.abs(samples) >= SILENCE)) if len(samples) else 0
            self._sounding = len(samples) > 0 and bool(np.abs(samples[first]) >= SILENCE)
            silent = first if self._sounding else len(samples)
            self.silent_s += silent / self._rate
            samples = samples[silent:]
        resampled = self._resampler.resample_chunk(np.ascontiguousarray(samples))
        self._frames = np.concatenate([self._frames, self._framer.hear(resampled)], axis=1)
        excerpts = audio.excerpts(self._frames, self._front_end)
        self._frames = self._frames[:, len(excerpts) * self._front_end.excerpt_hop_frames :]
        return excerpts
