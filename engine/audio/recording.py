"""Recordings as spectrograms, from files and from samples in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from engine.audio.decoding import RATES, read_audio, require_sound
from engine.audio.spectrograms import FRAME_RATE, SAMPLE_RATE, Samples, Spectrogram, spectrogram
from engine.config import GENEROUS, FrontEnd, MediaLimits
from engine.errors import AudioError


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The spectrogram of a recording, or of a part of it, and its place in the file."""

    spectrogram: Spectrogram
    start_s: float
    """Start of the part in its file, in seconds."""
    duration_s: float
    """Length of the part, in seconds."""


def read_recording(
    path: Path | str,
    front_end: FrontEnd,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
) -> Recording:
    """The recording in a file, or its part from `start_s` to `end_s`, which holds at least one excerpt.

    Raises AudioError if `read_audio` does, or if the part is too short for an excerpt.
    """
    return _recording(read_audio(path, start_s, end_s, limits), path, start_s or 0.0, front_end)


def recording_of(samples: NDArray[Any], rate: int, front_end: FrontEnd) -> Recording:
    """The recording of samples in memory, which hold at least one excerpt.

    samples: float (n,) mono or (n, channels), in -1..1.
    rate: sampling rate of the samples, Hz.
    Raises AudioError if the samples are too short, silent or not finite, or if the rate is not in `RATES`.
    """
    path = "samples"
    if rate not in RATES:
        raise AudioError(path, f"expected a sampling rate of {RATES[0]}..{RATES[-1]} Hz, got {rate} Hz")
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(path, f"expected float (n,) or (n, channels), got {samples.dtype} {samples.shape}")
    mono = samples.astype(np.float32) if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
    resampled = soxr.resample(mono, rate, SAMPLE_RATE)
    require_sound(resampled, path)
    return _recording(resampled, path, 0.0, front_end)


def _recording(samples: Samples, path: Path | str, start_s: float, front_end: FrontEnd) -> Recording:
    """The recording of samples at 22050 Hz.

    path: name of the recording, for errors.
    """
    duration_s, min_s = len(samples) / SAMPLE_RATE, front_end.excerpt_frames / FRAME_RATE
    bands = spectrogram(samples, front_end.bands)
    if bands.shape[1] < front_end.excerpt_frames:
        raise AudioError(path, f"{duration_s:.1f} s of audio are too short; an excerpt takes {min_s:.1f} s")
    return Recording(spectrogram=bands, start_s=start_s, duration_s=duration_s)
