"""Sound files -> mono samples at 22050 Hz, block by block."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engine.audio import containers, ffmpeg
from engine.audio.complaints import withheld
from engine.audio.containers import Substream, View
from engine.audio.ffmpeg import RawSound
from engine.audio.mixing import Mixer
from engine.audio.spectrograms import SAMPLE_RATE, Samples
from engine.config import FASTEST, GENEROUS, SLOWEST, MediaLimits
from engine.errors import AudioError

log = logging.getLogger(__name__)

RATES = range(2000, 768001)
"""Accepted sampling rates in Hz. Resampled to 22050 Hz, a file that claims a lower rate could exceed the memory."""

SILENCE = 1e-4
"""Peak amplitude, relative to full scale, below which samples are silent. The last bit of 16-bit samples is 3e-5."""

_BLOCK_VALUES = 1 << 16
"""Samples decoded at a time. If a file breaks off, the rest of the current block is lost, at most 3 s."""
_MISSING_S, _MISSING_SHARE = 0.5, 0.005
"""Seconds, and share of a recording, that may be missing without a warning: codecs drop a few frames at the ends."""
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile's length of a stream whose length it does not know is at least this."""


def read_audio(
    path: Path | str,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
) -> Samples:
    """The samples of a recording, or of its part from `start_s` to `end_s`: float32 (n,), mono, 22050 Hz, in -1..1.

    Memory holds the result, 318 MB per hour. Arguments and errors are those of `decoded`.
    """
    return np.concatenate(list(decoded(path, start_s, end_s, limits)))


def decoded(
    path: Path | str,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: MediaLimits = GENEROUS,
    speed: float = 1.0,
) -> Iterator[Samples]:
    """Blocks of the samples of a recording, or of its part from `start_s` to `end_s`: float32 (n,), mono, 22050 Hz.

    libsndfile decodes WAV, FLAC, OGG, MP3, AIFF and similar formats, all streams of a joined file, whatever length
    their headers give. The ffmpeg program, if it is on the PATH, decodes all other formats, and what follows damage
    that libsndfile does not get past. A warning says how much of a file is missing.

    speed: the recording runs at this multiple of the speed at which it was played, from `SLOWEST` to `FASTEST`; the
        samples are as it was played.
    Raises AudioError for another speed, if the file cannot be decoded or is longer than `limits` allow, or, after the
    last block, if the part has no samples, is silent, or has samples that are not finite.
    """
    path, start = Path(path), 0.0 if start_s is None else start_s
    require_speed(path, speed)
    if not path.is_file():
        raise AudioError(path, "expected an audio file, got a folder" if path.is_dir() else "no such file")
    if path.stat().st_size == 0:
        raise AudioError(path, "is an empty file")
    if not 0 <= start < (np.inf if end_s is None else end_s):
        raise AudioError(path, f"expected a fragment with 0 <= start < end, got {start:g} s to {end_s} s")
    longest_s = limits.seconds + 1  # one second more shows whether the file is longer than the limit
    if np.isfinite(longest_s) and (end_s is None or end_s > start + longest_s):
        end_s = start + longest_s
    return _checked(path, start, end_s, limits, speed)


def require_speed(path: Path | str, speed: float) -> None:
    """Raises AudioError if a recording of this name cannot be heard at a speed."""
    if not SLOWEST <= speed <= FASTEST:
        raise AudioError(path, f"expected a speed from {SLOWEST:g} to {FASTEST:g}, got {speed:g}")


def _checked(path: Path, start_s: float, end_s: float | None, limits: MediaLimits, speed: float) -> Iterator[Samples]:
    """The blocks of `decoded`."""
    check = SoundCheck(path, f" from {start_s:g} s on" if start_s else "")
    for block in _resampled(path, _Reading(path, start_s, end_s).sounds(), speed):
        check.hear(block)
        if check.samples > limits.seconds * speed * SAMPLE_RATE:
            raise AudioError(path, f"longer than {limits.seconds:g} s, the maximum")
        yield block
    check.finish()


class SoundCheck:
    """Refuses a recording that has no samples, or only silence, or samples that are not finite."""

    def __init__(self, path: Path | str, where: str = "") -> None:
        """path: name of the recording, for messages. where: the part of the file, for messages."""
        self.samples = 0
        """Number of samples so far."""
        self._peak = 0.0
        self._path, self._where = path, where

    def hear(self, block: Samples) -> None:
        """Takes the next samples. Raises AudioError if one is not finite."""
        if len(block):
            self.samples += len(block)
            self._peak = max(self._peak, float(block.max()), -float(block.min()))
            if not (np.isfinite(self._peak) and np.isfinite(block.sum())):
                raise AudioError(self._path, "holds samples that are not finite numbers")

    def finish(self) -> None:
        """Raises AudioError if there were no samples, or all were silent."""
        if not self.samples:
            raise AudioError(self._path, f"holds no audio{self._where}")
        if self._peak < SILENCE:
            raise AudioError(self._path, f"is silent{self._where} (peak {self._peak:.1e} of full scale)")


def _resampled(path: Path, sounds: Iterator[RawSound], speed: float) -> Iterator[Samples]:
    """Blocks of mono samples at 22050 Hz."""
    for sound in sounds:
        if sound.rate not in RATES:
            raise AudioError(path, f"expected a sampling rate of {RATES[0]}..{RATES[-1]} Hz, got {sound.rate} Hz")
        resampler = soxr.ResampleStream(sound.rate / speed, SAMPLE_RATE, 1, dtype="float32")
        mixer: Mixer | None = None
        for block in sound.blocks:
            mixer = mixer or Mixer(block.shape[1], sound.rate)
            yield resampler.resample_chunk(mixer.mix(block))
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # has no types
    """A sound file that is read from beginning to end without seeking.

    soundfile seeks after each read of a seekable file. An MP3 decoder restarts there, which changes samples by up to
    0.008 and fills stderr with warnings.
    """

    def seekable(self) -> bool:
        return False


@dataclass(slots=True)
class _Reading:
    """One reading of a file, or of its part from `start_s` to `end_s`."""

    path: Path
    start_s: float
    end_s: float | None
    reached_s: float = 0.0
    """Second of the recording up to which it has been decoded, or skipped."""
    cause: str = ""
    """Why a decoder could not go on; empty if all could be decoded."""
    is_open: bool = False
    """Whether libsndfile could open a stream of the file."""
    has_sound: bool = False
    """Whether anything has been decoded."""

    def sounds(self) -> Iterator[RawSound]:
        """The sound of the file, stream by stream. Raises AudioError if no decoder can read the file."""
        parts, has_ffmpeg = containers.parts(self.path), ffmpeg.is_installed()
        for part in parts:
            yield from self._by_libsndfile(part)
            if self._is_over():
                return
            if self.cause and has_ffmpeg:
                break
        if not self.is_open and not has_ffmpeg:
            cause = (
                f"not readable by libsndfile ({self.cause}), and the ffmpeg program, which reads M4A, AAC and others,"
            )
            raise AudioError(self.path, f"{cause} is not on the PATH; install ffmpeg, or convert the file to FLAC")
        promised_s = sum(part.promised_s or part.seconds or 0.0 for part in parts)
        if self.cause and has_ffmpeg:
            outcome = ffmpeg.Outcome()
            yield from self._by_ffmpeg(outcome)
            promised_s = promised_s or outcome.promised_s or 0.0
        if self.cause and not self.has_sound:
            raise AudioError(self.path, f"cannot be decoded: {self.cause}")
        self._warn(promised_s)

    def _is_over(self) -> bool:
        """Whether the part that is asked for has been decoded."""
        return self.end_s is not None and self.reached_s >= self.end_s - 1e-6

    def _by_libsndfile(self, part: Substream) -> Iterator[RawSound]:
        """The sound of one stream, as far as it lies in the part that is asked for and can be decoded."""
        begun_s = self.reached_s
        try:
            with View(self.path, part) as view:
                with withheld():
                    file = _Stream(view)
                with file:
                    self.is_open = True
                    length_s = file.frames / file.samplerate
                    if file.frames < _UNKNOWN_FRAMES and begun_s + length_s <= self.start_s:
                        self.reached_s += length_s
                    else:
                        yield RawSound(file.samplerate, self._frames(file, begun_s))
        except (soundfile.LibsndfileError, OSError) as exc:
            self.cause = str(exc)
            return
        if not self.cause and not self._is_over() and _lacks(self.reached_s - begun_s, part.seconds or 0.0):
            self.cause = "libsndfile cannot decode what follows"

    def _frames(self, file: soundfile.SoundFile, begun_s: float) -> Iterator[NDArray[np.float32]]:
        """Blocks of one stream that begins at the second `begun_s` of the recording."""
        rate = file.samplerate
        first = max(0, round((self.start_s - begun_s) * rate))
        stop = np.inf if self.end_s is None else round((self.end_s - begun_s) * rate)
        block_frames = max(1, _BLOCK_VALUES // file.channels)
        try:
            with _quietly(file):
                done = _skip(file, first)
            self.reached_s = begun_s + done / rate
            while done < stop:
                with _quietly(file):
                    block = file.read(int(min(block_frames, stop - done)), "float32", always_2d=True)
                if not len(block):
                    return
                done += len(block)
                self.reached_s, self.has_sound = begun_s + done / rate, True
                yield block
        except soundfile.LibsndfileError as exc:
            self.cause = str(exc)

    def _by_ffmpeg(self, outcome: ffmpeg.Outcome) -> Iterator[RawSound]:
        """The sound that ffmpeg decodes after what has been decoded. Raises AudioError if there is nothing at all."""
        first_s = max(self.start_s, self.reached_s)
        try:
            with closing(ffmpeg.decoded(self.path, first_s, outcome)) as sounds:
                for sound in sounds:
                    self.reached_s = first_s
                    yield RawSound(sound.rate, self._until_the_end(sound))
        except AudioError:
            if not self.has_sound:
                raise
        self.cause = outcome.cause

    def _until_the_end(self, sound: RawSound) -> Iterator[NDArray[np.float32]]:
        """The blocks of a sound up to the end of the part that is asked for."""
        left = None if self.end_s is None else round((self.end_s - self.reached_s) * sound.rate)
        for block in sound.blocks:
            kept = block if left is None else block[:left]
            self.reached_s, self.has_sound = self.reached_s + len(kept) / sound.rate, True
            yield kept
            left = None if left is None else left - len(kept)
            if left == 0:
                return

    def _warn(self, promised_s: float) -> None:
        """Warns if the recording ends before the end of the part that is asked for, or was damaged before."""
        wanted_s = promised_s if self.end_s is None else min(promised_s, self.end_s)
        cause = f": {self.cause}" if self.cause else ""
        if _lacks(self.reached_s, wanted_s):
            left_s = promised_s - self.reached_s
            log.warning("%s: breaks off after %.1f s; %.1f s are missing%s", self.path, self.reached_s, left_s, cause)
        elif self.cause:
            log.warning("%s: is damaged; %.1f s could be read%s", self.path, self.reached_s, cause)


def _lacks(reached_s: float, wanted_s: float) -> bool:
    """Whether so much is missing that it is worth a warning."""
    return reached_s < wanted_s - max(_MISSING_S, _MISSING_SHARE * wanted_s)


def _quietly(file: soundfile.SoundFile) -> AbstractContextManager[None]:
    """Withholds the complaints of the decoder that complains."""
    return withheld() if file.format == "MP3" else nullcontext()


def _skip(file: soundfile.SoundFile, frames: int) -> int:
    """Skips the first frames of a stream, and returns how many. Raises LibsndfileError if they cannot be decoded."""
    if frames == 0:
        return 0
    try:
        return int(file.seek(min(frames, file.frames)))
    except soundfile.LibsndfileError:  # GSM cannot seek
        done = 0
        while done < frames and (count := len(file.read(min(_BLOCK_VALUES, frames - done), "float32"))):
            done += count
        return done
