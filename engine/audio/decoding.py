"""Sound files -> mono samples at 22050 Hz."""

import logging
import os
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
"""Accepted sampling rates in Hz. Resampled to 22050 Hz, a file that claims a lower rate could exceed the memory."""

FFMPEG_FORMATS = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "eac3", "flac", "flv", "gsm"),
    *("loas", "m4a", "matroska", "mov", "mp3", "mp4", "mpc", "mpc8", "mpeg", "mpegts", "ogg", "rm", "shn", "tak"),
    *("tta", "voc", "w64", "wav", "webm", "wv", "xwma"),
)
"""Names of the formats that ffmpeg may read: containers that hold the sound itself."""

SILENCE = 1e-4
"""Peak amplitude, relative to full scale, below which samples are silent. The last bit of 16-bit samples is 3e-5."""

_BLOCK_VALUES = 1 << 16
"""Samples decoded at a time. If a file breaks off, the rest of the current block is lost, at most 3 s."""


def read_audio(
    path: Path | str,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
) -> Samples:
    """The samples of a recording, or of its part from `start_s` to `end_s`: float32 (n,), mono, 22050 Hz, in -1..1.

    libsndfile decodes WAV, FLAC, OGG, MP3, AIFF and similar formats; the ffmpeg program, if it is on the PATH, decodes
    all others. A file that breaks off is read up to that point, with a warning. Files are decoded block by block, so
    memory holds only the result: 318 MB per hour.

    Raises AudioError if the file cannot be decoded or is longer than `limits` allow, or if the part has no samples, is
    silent, or has samples that are not finite.
    """
    path, start = Path(path), 0.0 if start_s is None else start_s
    if not path.is_file():
        raise AudioError(path, "expected an audio file, got a folder" if path.is_dir() else "no such file")
    if path.stat().st_size == 0:
        raise AudioError(path, "is an empty file")
    if not 0 <= start < (np.inf if end_s is None else end_s):
        raise AudioError(path, f"expected a fragment with 0 <= start < end, got {start:g} s to {end_s} s")
    longest_s = limits.seconds + 1  # one second more shows whether the file is longer than the limit
    if np.isfinite(longest_s) and (end_s is None or end_s > start + longest_s):
        end_s = start + longest_s
    blocks = list(_decode(path, start, end_s))
    samples = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if len(samples) > limits.seconds * SAMPLE_RATE:
        raise AudioError(path, f"longer than {limits.seconds:g} s, the maximum")
    where = f" from {start:g} s on" if start else ""
    require_sound(samples, path, where)
    return samples


def require_sound(samples: Samples, path: Path | str, where: str = "") -> None:
    """Raises AudioError if there are no samples, or if they are silent or not finite.

    where: the part of the file, for the message.
    """
    if not len(samples):
        raise AudioError(path, f"holds no audio{where}")
    peak = float(max(samples.max(), -samples.min()))  # np.abs would copy samples of possibly hours
    if not np.isfinite(peak):
        raise AudioError(path, "holds samples that are not finite numbers")
    if peak < SILENCE:
        raise AudioError(path, f"is silent{where} (peak {peak:.1e} of full scale)")


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # has no types
    """A sound file that is read from beginning to end without seeking.

    soundfile seeks after each read of a seekable file. An MP3 decoder restarts there, which changes samples by up to
    0.008 and fills stderr with warnings.
    """

    def seekable(self) -> bool:
        return False


def _decode(path: Path, start_s: float, end_s: float | None) -> Iterator[Samples]:
    """Blocks of mono samples at 22050 Hz, from libsndfile if it knows the format, otherwise from ffmpeg."""
    try:
        file = _Stream(os.fsencode(path))  # a name may be no UTF-8
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
    """Blocks of mono samples at 22050 Hz that libsndfile decodes."""
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
            block_frames = max(1, _BLOCK_VALUES // file.channels)
            count = block_frames if left is None else min(block_frames, left)
            block = file.read(count, dtype="float32", always_2d=True)
            decoded += len(block)
            left = None if left is None else left - len(block)
            ended = len(block) < block_frames
            yield resampler.resample_chunk(np.ascontiguousarray(block.mean(axis=1)), last=ended)
            if ended:
                break
    except soundfile.LibsndfileError as exc:
        if decoded == first:
            raise AudioError(path, f"cannot be decoded: {exc}") from exc
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
        log.warning("%s: breaks off after %.1f s: %s", path, decoded / rate, exc)


def _decode_by_ffmpeg(path: Path, start_s: float, end_s: float | None) -> Iterator[Samples]:
    """Blocks of mono samples at 22050 Hz that the ffmpeg program decodes."""
    until = [] if end_s is None else ["-t", f"{end_s - start_s:.6f}"]
    # A playlist (HLS, concat, DASH) names other files, which ffmpeg would open and describe: only formats that hold the
    # sound itself are allowed, and only local files.
    allowed = ["-protocol_whitelist", "file", "-format_whitelist", ",".join(FFMPEG_FORMATS)]
    source = [*allowed, "-ss", f"{start_s:.6f}", "-i", f"file:{path.resolve()}"]
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
