"""Any recording -> mono samples at 22050 Hz -> log-frequency spectrogram -> excerpts.

There are two spectrograms. `published` is the one of the published systems, to the bin: Dorfer et al., "Learning
Audio-Sheet Music Correspondences for Cross-Modal Retrieval and Piece Identification" (TISMIR 2018), section 4.
`quarter_tone` keeps neighbouring keys apart in the low octaves, which the published one cannot: one of its bins spans
four semitones at 55 Hz.
"""

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import soundfile
import soxr
from numpy.typing import NDArray

from engine.config import GENEROUS, Bands, FrontEnd, MediaLimits
from engine.errors import AudioError

log = logging.getLogger(__name__)

Samples = NDArray[np.float32]
Spectrogram = NDArray[np.float32]

SAMPLE_RATE = 22050
FRAME_RATE = 20
FRAME_SAMPLES = 2048
HOP_SAMPLES = SAMPLE_RATE / FRAME_RATE
"""1102.5: frame i starts at sample int(1102.5 * i) and looks forward."""
BANDS: dict[Bands, int] = {"published": 92, "quarter_tone": 184}

QUARTER_TONE_WINDOWS = ((8192, 220.0), (4096, 880.0), (2048, np.inf))
"""Samples of each Fourier transform of `quarter_tone`, and the frequency in Hz up to which its bands are taken."""
LOWEST_HERTZ = 27.5 * 2 ** (-0.25 / 12)
"""Middle of the lowest quarter-tone band: the lower half of A0's semitone."""

RATES = range(2000, 768001)
"""Sampling rates taken for real, Hz: a file that claims less would grow out of memory when brought to 22050 Hz."""

SILENCE = 1e-4
"""A peak below this part of full scale is silence; the last bit of 16 is 3e-5."""

MEAN_MAGNITUDE = 0.5
MAX_GAIN = 1000.0
"""An excerpt is not amplified more than this (60 dB), so that near-silence stays near silence."""

_BLOCK_VALUES = 1 << 16
"""Samples decoded at a time; where a file breaks off, the rest of its block is lost, at most 3 s."""
_BLOCK_FRAMES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A recording, or a fragment of one, as the embedding hears it."""

    spectrogram: Spectrogram
    start_s: float
    """Where in its file it starts."""
    duration_s: float


def read_recording(
    path: Path | str,
    front_end: FrontEnd,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
) -> Recording:
    """The recording, or what lies from `start_s` to `end_s` of it; at least one excerpt.

    Raises AudioError as `read_audio` does, and if it is too short for an excerpt.
    """
    return _recording(read_audio(path, start_s, end_s, limits), path, start_s or 0.0, front_end)


def recording_of(samples: NDArray[Any], rate: int, front_end: FrontEnd) -> Recording:
    """The recording that samples in memory make; at least one excerpt.

    samples: float (n,) mono or (n, channels), in -1..1. rate: Hz.
    Raises AudioError if they are too short, silent or not finite, or there is no such sampling rate.
    """
    path = "samples"
    if rate not in RATES:
        raise AudioError(path, f"expected a sampling rate of {RATES[0]}..{RATES[-1]} Hz, got {rate} Hz")
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(path, f"expected float (n,) or (n, channels), got {samples.dtype} {samples.shape}")
    mono = samples.astype(np.float32) if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
    resampled = soxr.resample(mono, rate, SAMPLE_RATE)
    _require_sound(resampled, path)
    return _recording(resampled, path, 0.0, front_end)


def _recording(samples: Samples, path: Path | str, start_s: float, front_end: FrontEnd) -> Recording:
    """The recording of these samples; path: named in errors."""
    duration_s, least_s = len(samples) / SAMPLE_RATE, front_end.excerpt_frames / FRAME_RATE
    heard = spectrogram(samples, front_end.bands)
    if heard.shape[1] < front_end.excerpt_frames:
        raise AudioError(path, f"{duration_s:.1f} s of audio are too short; an excerpt takes {least_s:.1f} s")
    return Recording(spectrogram=heard, start_s=start_s, duration_s=duration_s)


def read_audio(
    path: Path | str,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
) -> Samples:
    """The recording, or what lies from `start_s` to `end_s` of it, as float32 (n,) mono at 22050 Hz in -1..1.

    WAV, FLAC, OGG, MP3, AIFF and the like are decoded by libsndfile, all else by the ffmpeg program where it is on
    the PATH. A file that breaks off is read as far as it goes, with a warning. Files are decoded block by block: what
    is held is the result, 318 MB an hour.

    Raises AudioError if the file cannot be decoded, holds no samples in the range asked for, is silent there, has
    samples that are not finite, or is longer than `limits` allow.
    """
    path, start = Path(path), 0.0 if start_s is None else start_s
    if not path.is_file():
        raise AudioError(path, "expected an audio file, got a folder" if path.is_dir() else "no such file")
    if path.stat().st_size == 0:
        raise AudioError(path, "is an empty file")
    if not 0 <= start < (np.inf if end_s is None else end_s):
        raise AudioError(path, f"expected a fragment with 0 <= start < end, got {start:g} s to {end_s} s")
    longest_s = limits.seconds + 1  # so that one too long is told from one that is just as long
    if np.isfinite(longest_s) and (end_s is None or end_s > start + longest_s):
        end_s = start + longest_s
    blocks = list(_decode(path, start, end_s))
    samples = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if len(samples) > limits.seconds * SAMPLE_RATE:
        raise AudioError(path, f"longer than {limits.seconds:g} s, the most that is taken")
    where = f" from {start:g} s on" if start else ""
    _require_sound(samples, path, where)
    return samples


def _require_sound(samples: Samples, path: Path | str, where: str = "") -> None:
    """Raises AudioError if there are no samples, or they are silent or not finite; where: named in it."""
    if not len(samples):
        raise AudioError(path, f"holds no audio{where}")
    peak = float(max(samples.max(), -samples.min()))  # no copy of what may be hours
    if not np.isfinite(peak):
        raise AudioError(path, "holds samples that are not finite numbers")
    if peak < SILENCE:
        raise AudioError(path, f"is silent{where} (peak {peak:.1e} of full scale)")


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # has no types
    """A sound file that is read on end.

    soundfile seeks after each read of a seekable file; an MP3 decoder starts anew there, which changes samples (by up
    to 0.008) and fills stderr with its complaints.
    """

    def seekable(self) -> bool:
        return False


def _decode(path: Path, start_s: float, end_s: float | None) -> Iterator[Samples]:
    """Blocks of mono samples at 22050 Hz by whichever decoder knows the format."""
    try:
        file = _Stream(path)
    except (soundfile.LibsndfileError, OSError, TypeError) as exc:  # TypeError: headerless .raw
        if shutil.which("ffmpeg") is None:
            cause = f"not readable by libsndfile ({exc}), and the ffmpeg program, which reads M4A, AAC and others,"
            raise AudioError(path, f"{cause} is not on the PATH; install ffmpeg, or convert the file to FLAC") from exc
        yield from _decode_by_ffmpeg(path, start_s, end_s)
        return
    with file:
        yield from _decode_by_libsndfile(file, path, start_s, end_s)


def _decode_by_libsndfile(
    file: soundfile.SoundFile, path: Path, start_s: float, end_s: float | None
) -> Iterator[Samples]:
    rate = file.samplerate
    if rate not in RATES:
        raise AudioError(path, f"expected a sampling rate of {RATES[0]}..{RATES[-1]} Hz, got {rate} Hz")
    first = min(round(start_s * rate), file.frames)
    left = None if end_s is None else round(end_s * rate) - first
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    decoded = first
    try:
        file.seek(first)
        while True:
            most = max(1, _BLOCK_VALUES // file.channels)
            block = file.read(most if left is None else min(most, left), dtype="float32", always_2d=True)
            decoded += len(block)
            left = None if left is None else left - len(block)
            ended = len(block) < most
            yield resampler.resample_chunk(np.ascontiguousarray(block.mean(axis=1)), last=ended)
            if ended:
                break
    except soundfile.LibsndfileError as exc:
        if decoded == first:
            raise AudioError(path, f"cannot be decoded: {exc}") from exc
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
        log.warning("%s: breaks off after %.1f s: %s", path, decoded / rate, exc)


def _decode_by_ffmpeg(path: Path, start_s: float, end_s: float | None) -> Iterator[Samples]:
    until = [] if end_s is None else ["-t", f"{end_s - start_s:.6f}"]
    # `file:` and the whitelist keep names and playlists from opening anything but local files.
    source = ["-protocol_whitelist", "file", "-ss", f"{start_s:.6f}", "-i", f"file:{path.resolve()}"]
    sink = ["-vn", "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le", "pipe:1"]
    command = ["ffmpeg", "-nostdin", "-v", "error", *source, *until, *sink]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            decoded = False
            while data := process.stdout.read(4 * _BLOCK_VALUES):
                decoded = True
                yield np.frombuffer(data[: len(data) // 4 * 4], "<f4").astype(np.float32)
        if process.returncode == 0:
            return
        errors.seek(0)
        cause = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
    if not decoded:
        raise AudioError(path, f"ffmpeg cannot decode it: {cause or process.returncode}")
    log.warning("%s: breaks off: %s", path, cause)


@cache
def filterbank() -> NDArray[np.float32]:
    """float32 (1024, 92): a column a band, triangles over FFT bins spaced 16 to the octave, each of sum 1."""
    hertz = 440.0 * 2.0 ** (np.arange(-80, 80) / 16)
    hertz = hertz[(hertz >= 30) & (hertz <= 6000)]
    bins = np.unique(np.rint(hertz * FRAME_SAMPLES / SAMPLE_RATE).astype(int))
    bank = np.zeros((FRAME_SAMPLES // 2, len(bins) - 2), np.float32)
    for band, (start, centre, stop) in enumerate(zip(bins[:-2], bins[1:-1], bins[2:], strict=True)):
        bank[start:centre, band] = np.linspace(0, 1, centre - start, endpoint=False)
        bank[centre:stop, band] = np.linspace(1, 0, stop - centre, endpoint=False)
    bank /= bank.sum(axis=0)
    bank.setflags(write=False)  # the cache hands the same array to every caller
    return bank


@dataclass(frozen=True, slots=True)
class _Transform:
    """A Fourier transform and the bands that are read from it."""

    window: NDArray[np.float32]
    """(samples,)."""
    bank: NDArray[np.float32]
    """(samples / 2, bands)."""


@cache
def _transforms(bands: Bands) -> tuple[_Transform, ...]:
    """The transforms of a spectrogram, from its lowest bands to its highest."""
    if bands == "published":
        return (_Transform(np.hanning(FRAME_SAMPLES).astype(np.float32), filterbank()),)
    centres = LOWEST_HERTZ * 2.0 ** (np.arange(-1, BANDS[bands] + 1) / 24)
    found, first = [], 0
    for samples, up_to in QUARTER_TONE_WINDOWS:
        stop = min(BANDS[bands], int(np.searchsorted(centres[1:-1], up_to)))
        # All windows have the same sum, so that a tone is about as loud in each transform.
        window = np.hanning(samples) * (FRAME_SAMPLES / samples)
        found.append(_Transform(window.astype(np.float32), _triangles(centres[first : stop + 2], samples)))
        first = stop
    return tuple(found)


def _triangles(centres: NDArray[np.float64], samples: int) -> NDArray[np.float32]:
    """float32 (samples / 2, len(centres) - 2): a column a band, from its lower to its upper neighbour, of sum 1.

    A band narrower than a bin is widened to reach the bins about its centre.
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
    """float32 (bands, frames): log10(1 + magnitude) in bands of log frequency, 20 frames a second.

    samples: float32 (n,) mono at 22050 Hz in -1..1. frames = ceil(n / 1102.5); beyond both ends lies silence.
    """
    return frames(samples, int(np.ceil(len(samples) / HOP_SAMPLES)), bands)


def frames(samples: Samples, count: int, bands: Bands, first: int = 0) -> Spectrogram:
    """float32 (bands, count): the frames that start at sample `first` and every 1102.5 from there; see `spectrogram`.

    The transforms of a frame have one middle, that of the published frame, which looks forward from its start.
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
            magnitude = np.abs(scipy.fft.rfft(framed)[:, : length // 2])  # NumPy's transforms take twice the time
            result[rows, begin : begin + len(starts)] = np.log10(1 + magnitude @ transform.bank).T
    return result


def reach(bands: Bands) -> tuple[int, int]:
    """How many samples before its start, and after it, a frame is made of."""
    longest = max(len(transform.window) for transform in _transforms(bands))
    return (longest - FRAME_SAMPLES) // 2, (longest + FRAME_SAMPLES) // 2


def _padded(samples: Samples, start: int, stop: int) -> Samples:
    """The samples from `start` to `stop`, zeros where there are none."""
    part = samples[max(0, start) : max(0, stop)]
    before = max(0, -start)
    return np.pad(part, (before, stop - start - before - len(part)))


def excerpts(spectrogram: Spectrogram, front_end: FrontEnd) -> NDArray[np.float32]:
    """float32 (n, bands, excerpt_frames): windows of the spectrogram, one every `excerpt_hop_frames`.

    Each has the gain and the compression of `front_end`. Shorter than one excerpt gives n = 0.
    """
    length = front_end.excerpt_frames
    if spectrogram.shape[1] < length:
        return np.empty((0, len(spectrogram), length), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(spectrogram, length, axis=1)
    cut = np.ascontiguousarray(windows[:, :: front_end.excerpt_hop_frames].transpose(1, 0, 2))
    return levelled(cut, front_end)


def levelled(excerpts: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.float32]:
    """float32 (n, bands, frames): log10(1 + c m), c the front end's compression, m the magnitude after its gain.

    excerpts: log10(1 + magnitude), float32 (n, bands, frames). With the gain `excerpt` the mean of m is 0.5 in each;
    nothing is amplified more than a thousandfold.
    """
    if front_end.gain == "none" and front_end.compression == 1.0:
        return excerpts
    result = np.empty_like(excerpts)
    for first in range(0, len(excerpts), 64):  # in the cache, and no second copy of a long recording
        magnitude = np.expm1(excerpts[first : first + 64] * np.float32(np.log(10)))
        result[first : first + 64] = compressed(magnitude, front_end)
    return result


def compressed(magnitude: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.float32]:
    """float32 (n, bands, frames): what `levelled` returns, from magnitudes, which it overwrites."""
    gain = np.full((len(magnitude), 1, 1), front_end.compression, np.float32)
    if front_end.gain == "excerpt":
        mean = magnitude.mean(axis=(1, 2), keepdims=True)
        gain *= MEAN_MAGNITUDE / np.maximum(mean, MEAN_MAGNITUDE / MAX_GAIN)
    magnitude *= gain
    np.log1p(magnitude, out=magnitude)
    magnitude *= np.float32(1 / np.log(10))
    return magnitude
