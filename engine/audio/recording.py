"""Recordings as spectrograms, from files and from samples in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from engine.audio.decoding import RATES, SoundCheck, decoded, require_speed
from engine.audio.framing import Framer, GrowingSpectrogram
from engine.audio.mixing import MAX_CHANNELS, Mixer
from engine.audio.spectrograms import BANDS, FRAME_RATE, SAMPLE_RATE, Samples, Spectrogram
from engine.config import GENEROUS, FrontEnd, MediaLimits
from engine.errors import AudioError

_BLOCK_FRAMES = 1 << 17
"""Frames of samples in memory that are resampled at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The spectrogram of a recording, or of a part of it, and its place in the file."""

    spectrogram: Spectrogram
    start_s: float
    """Start of the part in its file, in seconds."""
    duration_s: float
    """Length of the part, in seconds of the file."""
    speed: float = 1.0
    """A second of the spectrogram takes 1 / `speed` seconds of the file."""


def read_recording(
    path: Path | str,
    front_end: FrontEnd,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
    *,
    speed: float = 1.0,
) -> Recording:
    """The recording in a file, or its part from `start_s` to `end_s`, which holds at least one excerpt.

    The file is decoded and transformed block by block: memory holds only the spectrogram, 26 or 53 MB per hour.

    speed: see `engine.audio.decoding.decoded`.
    Raises AudioError if `decoded` does, or if the part is too short for an excerpt.
    """
    return recording_of_blocks(decoded(path, start_s, end_s, limits, speed), path, start_s or 0.0, front_end, speed)


def recording_of(samples: NDArray[Any], rate: int, front_end: FrontEnd, *, speed: float = 1.0) -> Recording:
    """The recording of samples in memory, which hold at least one excerpt.

    samples: float (n,) mono or (n, channels), in -1..1.
    rate: sampling rate of the samples, Hz. speed: see `engine.audio.decoding.decoded`.
    Raises AudioError if there are no samples, if they are too short, silent or not finite, if they have more than
    `MAX_CHANNELS` channels, or if the rate is not in `RATES`.
    """
    path = "samples"
    require_speed(path, speed)
    if rate not in RATES:
        raise AudioError(path, f"expected a sampling rate of {RATES[0]}..{RATES[-1]} Hz, got {rate} Hz")
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(path, f"expected float (n,) or (n, channels), got {samples.dtype} {samples.shape}")
    if not samples.size:
        raise AudioError(path, f"holds no audio, shape {samples.shape}")
    if samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS:
        channels = f"expected (n, channels) with {MAX_CHANNELS} channels at most, got {samples.shape}"
        raise AudioError(path, f"{channels}: (channels, n) must be transposed")
    return recording_of_blocks(_resampled(samples, rate, speed), path, 0.0, front_end, speed)


def _resampled(samples: NDArray[Any], rate: int, speed: float) -> Iterator[Samples]:
    """Blocks of samples in memory at 22050 Hz. Raises the errors of `SoundCheck`."""
    check, columns = SoundCheck("samples"), samples.reshape(len(samples), -1)
    mixer = Mixer(columns.shape[1], rate)
    resampler = soxr.ResampleStream(rate / speed, SAMPLE_RATE, 1, dtype="float32")
    for first in range(0, len(columns) + 1, _BLOCK_FRAMES):
        mixed = mixer.mix(columns[first : first + _BLOCK_FRAMES].astype(np.float32))
        block = resampler.resample_chunk(mixed, last=first + _BLOCK_FRAMES > len(columns))
        check.hear(block)
        yield block
    check.finish()


def recording_of_blocks(
    blocks: Iterable[Samples], path: Path | str, start_s: float, front_end: FrontEnd, speed: float = 1.0
) -> Recording:
    """The recording of blocks of samples at 22050 Hz, which hold at least one excerpt.

    path: name of the recording, for errors. start_s: where the blocks start in it. speed: see `Recording.speed`.
    Raises AudioError if the samples are too short.
    """
    growing, samples = GrowingSpectrogram(Framer(front_end.bands), BANDS[front_end.bands]), 0
    for block in blocks:
        growing.hear(block)
        samples += len(block)
    bands, duration_s = growing.finish(), samples / SAMPLE_RATE / speed
    if bands.shape[1] < front_end.excerpt_frames:
        min_s = front_end.excerpt_frames / FRAME_RATE / speed
        raise AudioError(path, f"{duration_s:.1f} s of audio are too short; an excerpt takes {min_s:.1f} s")
    return Recording(spectrogram=bands, start_s=start_s, duration_s=duration_s, speed=speed)
