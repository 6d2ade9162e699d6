"""Sound files -> samples, by the ffmpeg program, for what libsndfile cannot read."""

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from engine.audio.mixing import MAX_CHANNELS
from engine.errors import AudioError

FORMATS = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "eac3", "flac", "flv", "gsm"),
    *("loas", "m4a", "matroska", "mov", "mp3", "mp4", "mpc", "mpc8", "mpeg", "mpegts", "ogg", "rm", "shn", "tak"),
    *("tta", "voc", "w64", "wav", "webm", "wv", "xwma"),
)
"""Names of the formats that ffmpeg may read: containers that hold the sound itself."""

_BLOCK_FRAMES = 1 << 15
_AU_HEADER = struct.Struct(">4sIIIII")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""Names of the first box of a file MP4 or MOV."""
_DURATION = re.compile(r"Duration: (\d+):(\d+):([\d.]+)")
_ERROR = re.compile(r"\[(?:error|fatal)\] *(.+)")


@dataclass(slots=True)
class Outcome:
    """What ffmpeg says of a file. Complete once the blocks have been read to their end."""

    cause: str = ""
    """The last error; empty if there was none."""
    promised_s: float | None = None
    """Length of the recording by its header; None if the header does not say, or ffmpeg only estimates."""


@dataclass(frozen=True, slots=True)
class RawSound:
    """Blocks of samples, with their sampling rate."""

    rate: int
    """In Hz."""
    blocks: Iterator[NDArray[np.float32]]
    """Blocks of float32 (n, channels)."""


def is_installed() -> bool:
    """Whether the ffmpeg program is on the PATH."""
    return shutil.which("ffmpeg") is not None


def decoded(path: Path, start_s: float, outcome: Outcome) -> Generator[RawSound, None, None]:
    """The sound of a file from `start_s` on, if it has any. Closing the iterator ends the program.

    Raises AudioError if ffmpeg cannot decode the file.
    """
    # In MP4 and MOV ffmpeg seeks to the sample. Elsewhere it trusts times that are rounded (Matroska), estimated, or
    # that start anew in a joined file; there the samples before the start are decoded and dropped.
    seeks = start_s > 0 and _is_mp4(path)
    # A playlist (HLS, concat, DASH) names other files, which ffmpeg would open and describe: only formats that hold the
    # sound itself are allowed, and only local files.
    allowed = ["-protocol_whitelist", "file", "-format_whitelist", ",".join(FORMATS)]
    source = [*(["-ss", f"{start_s:.6f}"] if seeks else []), "-i", f"file:{path.resolve()}"]
    sink = ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    command = [
        "ffmpeg",
        "-nostdin",
        "-hide_banner",
        "-nostats",
        "-v",
        "level+info",
        "-threads",
        "1",
        *allowed,
        *source,
        *sink,
    ]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            try:
                header = _header(process.stdout)
                if header is not None:
                    rate, channels = header
                    skipped = 0 if seeks else round(start_s * rate)
                    yield RawSound(rate, _blocks(process.stdout, channels, skipped))
            finally:
                with suppress(OSError):
                    process.kill()
        errors.seek(0)
        _tell(errors.read().decode(errors="replace"), outcome)
    if header is None:
        raise AudioError(path, f"ffmpeg cannot decode it: {outcome.cause or process.returncode}")


def _is_mp4(path: Path) -> bool:
    """Whether the file is MP4 or MOV, which hold a table of their samples."""
    with path.open("rb") as file:
        head = file.read(8)
    return head[4:8] in _MP4_BOXES


def _header(pipe: IO[bytes]) -> tuple[int, int] | None:
    """The sampling rate and the number of channels of an AU stream; None if the stream is empty."""
    data = pipe.read(_AU_HEADER.size)
    if len(data) < _AU_HEADER.size:
        return None
    _, offset, _, _, rate, channels = _AU_HEADER.unpack(data)
    pipe.read(offset - len(data))
    return rate, min(channels, MAX_CHANNELS)


def _blocks(pipe: IO[bytes], channels: int, skipped: int) -> Iterator[NDArray[np.float32]]:
    """Blocks of samples after the first `skipped` frames."""
    frame_bytes = 4 * channels
    while data := pipe.read(frame_bytes * _BLOCK_FRAMES):
        whole = len(data) // frame_bytes * frame_bytes
        block = np.frombuffer(data[:whole], ">f4").astype(np.float32).reshape(-1, channels)
        kept = block[skipped:]
        skipped = max(0, skipped - len(block))
        if len(kept):
            yield kept


def _tell(log: str, outcome: Outcome) -> None:
    """Reads ffmpeg's log."""
    if found := _DURATION.search(log):
        hours, minutes, seconds = found.groups()
        outcome.promised_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if "Estimating duration from bitrate" in log:
        outcome.promised_s = None
    if causes := _ERROR.findall(log):
        outcome.cause = causes[-1].strip()
