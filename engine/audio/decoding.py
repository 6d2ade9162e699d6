"""Any sound file -> mono samples at 22050 Hz."""

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from engine.audio.spectrograms import SAMPLE_RATE, Samples
from engine.config import GENEROUS, MediaLimits
from engine.errors import AudioError

log = logging.getLogger(__name__)

RATES = range(2000, 768001)
"""Sampling rates taken for real, Hz: a file that claims less would grow out of memory when brought to 22050 Hz."""

SILENCE = 1e-4
"""A peak below this part of full scale is silence; the last bit of 16 is 3e-5."""

_BLOCK_VALUES = 1 << 16
"""Samples decoded at a time; where a file breaks off, the rest of its block is lost, at most 3 s."""


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
    require_sound(samples, path, where)
    return samples


def require_sound(samples: Samples, path: Path | str, where: str = "") -> None:
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
