"""Samples -> log-frequency spectrogram -> excerpts.

There are two spectrograms. `published` equals the spectrogram of the published systems in every bin. Source: Dorfer et
al., "Learning Audio-Sheet Music Correspondences for Cross-Modal Retrieval and Piece Identification" (TISMIR 2018),
section 4. `quarter_tone` separates neighbouring keys in the low octaves. The published spectrogram cannot do so: at
55 Hz, one of its bins spans four semitones.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.config import Bands, FrontEnd

Samples = NDArray[np.float32]
"""Mono samples at 22050 Hz, float32 (n,), in -1..1."""
Spectrogram = NDArray[np.float32]
"""log10(1 + magnitude) in each band and frame, float32 (bands, frames)."""

SAMPLE_RATE = 22050
"""Sampling rate of all samples, Hz."""
FRAME_RATE = 20
"""Frames per second."""
FRAME_SAMPLES = 2048
"""Samples in a frame of the published spectrogram."""
HOP_SAMPLES = SAMPLE_RATE / FRAME_RATE
"""Samples between the starts of two frames, 1102.5: frame i starts at sample int(1102.5 * i)."""
BANDS: dict[Bands, int] = {"published": 92, "quarter_tone": 184}
"""Number of bands of each spectrogram."""

QUARTER_TONE_WINDOWS = ((8192, 220.0), (4096, 880.0), (2048, np.inf))
"""Length in samples of each Fourier transform of `quarter_tone`, and the frequency in Hz at which its bands end."""
LOWEST_HERTZ = 27.5 * 2 ** (-0.25 / 12)
"""Centre of the lowest quarter-tone band, which is the lower half of A0's semitone, Hz."""

MEAN_MAGNITUDE = 0.5
"""Mean magnitude of each excerpt after the gain `excerpt`."""
MAX_GAIN = 1000.0
"""Maximum factor by which the gain amplifies an excerpt (60 dB), so that near-silence stays near-silent."""

_BLOCK_FRAMES = 512
"""Frames transformed at a time, to limit memory."""


@cache
def filterbank() -> NDArray[np.float32]:
    """The bands of the published spectrogram, float32 (1024, 92): one column per band, 16 bands per octave.

    Each column is a triangle over the bins of the Fourier transform, and its sum is 1.
    """
    hertz = 440.0 * 2.0 ** (np.arange(-80, 80) / 16)
    hertz = hertz[(hertz >= 30) & (hertz <= 6000)]
    bins = np.unique(np.rint(hertz * FRAME_SAMPLES / SAMPLE_RATE).astype(int))
    bank = np.zeros((FRAME_SAMPLES // 2, len(bins) - 2), np.float32)
    for band, (start, centre, stop) in enumerate(zip(bins[:-2], bins[1:-1], bins[2:], strict=True)):
        bank[start:centre, band] = np.linspace(0, 1, centre - start, endpoint=False)
        bank[centre:stop, band] = np.linspace(1, 0, stop - centre, endpoint=False)
    bank /= bank.sum(axis=0)
    bank.setflags(write=False)  # the cache returns the same array to every caller
    return bank


@dataclass(frozen=True, slots=True)
class _Transform:
    """A Fourier transform and the bands that it provides."""

    window: NDArray[np.float32]
    """Window of the transform, (samples,)."""
    bank: NDArray[np.float32]
    """Weight of each bin in each band, (samples / 2, bands)."""


@cache
def _transforms(bands: Bands) -> tuple[_Transform, ...]:
    """The transforms of a spectrogram, from its lowest bands to its highest."""
    if bands == "published":
        return (_Transform(np.hanning(FRAME_SAMPLES).astype(np.float32), filterbank()),)
    centres = LOWEST_HERTZ * 2.0 ** (np.arange(-1, BANDS[bands] + 1) / 24)
    transforms, first = [], 0
    for samples, up_to in QUARTER_TONE_WINDOWS:
        stop = min(BANDS[bands], int(np.searchsorted(centres[1:-1], up_to)))
        # All windows have the same sum, so a tone is about equally loud in each transform.
        window = np.hanning(samples) * (FRAME_SAMPLES / samples)
        transforms.append(_Transform(window.astype(np.float32), _triangles(centres[first : stop + 2], samples)))
        first = stop
    return tuple(transforms)


def _triangles(centres: NDArray[np.float64], samples: int) -> NDArray[np.float32]:
    """Triangular bands, float32 (samples / 2, len(centres) - 2): one column per band, of sum 1.

    A band reaches from the centre of the band below to the centre of the band above. A band narrower than a bin is
    widened to reach the bins next to its centre.
    centres: centres of all bands, and of one more band at each end, Hz.
    """
    bins = np.arange(samples // 2)
    at = centres * samples / SAMPLE_RATE
    lower, middle, upper = at[:-2], at[1:-1], at[2:]
    below, above = np.maximum(middle - lower, 1.0), np.maximum(upper - middle, 1.0)
    offset = bins[:, None] - middle
    bank = np.maximum(0.0, 1 - np.where(offset < 0, -offset / below, offset / above))
    bank /= bank.sum(axis=0)
    bank.setflags(write=False)
    return np.asarray(bank, np.float32)


def spectrogram(samples: Samples, bands: Bands = "published") -> Spectrogram:
    """The spectrogram of samples, float32 (bands, frames): log10(1 + magnitude) in 20 frames per second.

    The bands are spaced by the logarithm of frequency. frames = ceil(n / 1102.5); beyond both ends, samples are 0.
    samples: float32 (n,), mono, 22050 Hz, in -1..1.
    """
    return frames(samples, int(np.ceil(len(samples) / HOP_SAMPLES)), bands)


def frames(samples: Samples, count: int, bands: Bands, first: int = 0) -> Spectrogram:
    """`count` frames of a spectrogram, float32 (bands, count); frame i starts at sample `first` + int(1102.5 * i).

    All transforms of a frame have the same centre: the centre of the published frame, 1024 samples after its start.
    """
    middles = first + (np.arange(count) * HOP_SAMPLES).astype(np.int64) + FRAME_SAMPLES // 2
    result = np.empty((BANDS[bands], count), np.float32)
    top = 0
    for transform in _transforms(bands):
        length, rows = len(transform.window), slice(top, top + transform.bank.shape[1])
        top = rows.stop
        for begin in range(0, count, _BLOCK_FRAMES):
            starts = middles[begin : begin + _BLOCK_FRAMES] - length // 2
            part = _padded(samples, int(starts[0]), int(starts[-1]) + length)
            framed = np.lib.stride_tricks.sliding_window_view(part, length)[starts - starts[0]] * transform.window
            result[rows, begin : begin + len(starts)] = np.log10(1 + _magnitude(framed) @ transform.bank).T
    return result


def _magnitude(framed: NDArray[np.float32]) -> NDArray[np.float32]:
    """The magnitudes of the Fourier transforms of frames, float32 (n, samples / 2), without the highest bin.

    OpenCV transforms 400 frames in 1.4 ms, as SciPy does, and NumPy in 6 ms. SciPy would be 143 MB of an installation.
    framed: float32 (n, samples).
    """
    # A row is Re 0, Re 1, Im 1, Re 2, Im 2, ..., and last Re of the highest bin.
    packed: NDArray[np.float32] = np.asarray(cv2.dft(framed, flags=cv2.DFT_ROWS), np.float32)
    magnitude = np.empty((len(packed), packed.shape[1] // 2), np.float32)
    np.abs(packed[:, 0], out=magnitude[:, 0])
    np.abs(packed[:, 1:-1].copy().view(np.complex64), out=magnitude[:, 1:])
    return magnitude


def reach(bands: Bands) -> tuple[int, int]:
    """Numbers of samples before and after the start of a frame that the frame depends on."""
    longest = max(len(transform.window) for transform in _transforms(bands))
    return (longest - FRAME_SAMPLES) // 2, (longest + FRAME_SAMPLES) // 2


def _padded(samples: Samples, start: int, stop: int) -> Samples:
    """The samples from `start` to `stop`, with zeros before the first and after the last sample."""
    part = samples[max(0, start) : max(0, stop)]
    before = max(0, -start)
    return np.pad(part, (before, stop - start - before - len(part)))


def excerpt_count(spectrogram: Spectrogram, front_end: FrontEnd) -> int:
    """The number of excerpts of a spectrogram; 0 if the spectrogram is shorter than an excerpt."""
    frames = int(spectrogram.shape[1])
    return max(0, (frames - front_end.excerpt_frames) // front_end.excerpt_hop_frames + 1)


def excerpts(
    spectrogram: Spectrogram, front_end: FrontEnd, first: int = 0, count: int | None = None
) -> NDArray[np.float32]:
    """The excerpts of a spectrogram, float32 (n, bands, excerpt_frames), one every `excerpt_hop_frames`.

    Each excerpt has the gain and the compression of `front_end`. A spectrogram shorter than an excerpt gives n = 0.

    first, count: the first excerpt, and the largest number of excerpts; None: all from the first on.
    """
    length = front_end.excerpt_frames
    if excerpt_count(spectrogram, front_end) <= first:
        return np.empty((0, len(spectrogram), length), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(spectrogram, length, axis=1)[:, :: front_end.excerpt_hop_frames]
    chosen = windows[:, first : None if count is None else first + count]
    return levelled(np.ascontiguousarray(chosen.transpose(1, 0, 2)), front_end)


def levelled(excerpts: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.float32]:
    """Excerpts after gain and compression, float32 (n, bands, frames): log10(1 + c m).

    c is the compression of the front end, and m is the magnitude after its gain. With the gain `excerpt`, the mean of m
    is 0.5 in each excerpt, unless the excerpt would be amplified more than a thousandfold.
    excerpts: log10(1 + magnitude), float32 (n, bands, frames).
    """
    if front_end.gain == "none" and front_end.compression == 1.0:
        return excerpts
    result = np.empty_like(excerpts)
    for first in range(0, len(excerpts), 64):  # blocks fit the cache, and avoid a second copy of a long recording
        magnitude = np.expm1(excerpts[first : first + 64] * np.float32(np.log(10)))
        result[first : first + 64] = compressed(magnitude, front_end)
    return result


def compressed(magnitude: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.float32]:
    """Excerpts after gain and compression, as `levelled` returns them, float32 (n, bands, frames).

    magnitude: float32 (n, bands, frames); overwritten with the result.
    """
    gain = np.full((len(magnitude), 1, 1), front_end.compression, np.float32)
    if front_end.gain == "excerpt":
        mean = magnitude.mean(axis=(1, 2), keepdims=True)
        gain *= MEAN_MAGNITUDE / np.maximum(mean, MEAN_MAGNITUDE / MAX_GAIN)
    magnitude *= gain
    np.log1p(magnitude, out=magnitude)
    magnitude *= np.float32(1 / np.log(10))
    return magnitude
