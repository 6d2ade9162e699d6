"""Rooms, media and noises from folders of recordings; training and validation have different rooms and media."""

import csv
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from engine.audio import SAMPLE_RATE, Samples

VALIDATION_SHARE = 5
"""One in this many responses is for validation alone."""

MEDIA = ("old recording", "guitar cabinet", "loudspeaker", "telephone", "speaker", "radio")
"""Kinds of responses through which all sound passes. Other kinds are rooms, mixed with the direct sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acoustics:
    """The impulse responses and noise beds of one split."""

    rooms: tuple[Path, ...] = ()
    media: tuple[Path, ...] = ()
    noises: tuple[Path, ...] = ()

    def room(self, rng: np.random.Generator) -> Samples | None:
        """The impulse response of a random room, as `response` returns it; None if there are no rooms."""
        return response(self.rooms[int(rng.integers(len(self.rooms)))]) if self.rooms else None

    def medium(self, rng: np.random.Generator) -> Samples | None:
        """The impulse response of a random loudspeaker, radio or recorder; None if there are no media."""
        return response(self.media[int(rng.integers(len(self.media)))]) if self.media else None

    def noise(self, length: int, rng: np.random.Generator) -> Samples | None:
        """A random noise bed from a random place on, repeated as needed: float32 (length,), RMS 1; None if no beds."""
        if not self.noises:
            return None
        bed = _read(self.noises[int(rng.integers(len(self.noises)))])
        bed = np.roll(bed, -int(rng.integers(len(bed))))
        level = float(np.sqrt(np.mean(bed**2))) + 1e-9
        return np.asarray(np.resize(bed, length) / level, np.float32)


@lru_cache(maxsize=8)
def acoustics(responses: Path | None, noises: Path | None, split: str) -> Acoustics:
    """The acoustics of a split (`train` or `val`) from folders that hold `irs.csv` and `noise.csv`.

    A checksum of its name puts a fifth of the responses into `val`. Noise beds serve both splits.
    Raises OSError if a list is missing.
    """
    rooms: list[Path] = []
    media: list[Path] = []
    if responses is not None:
        with (responses / "irs.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                validates = zlib.crc32(row["file"].encode()) % VALIDATION_SHARE == 0
                if validates == (split == "val"):
                    (media if row["kind"] in MEDIA else rooms).append(responses / row["file"])
    beds: list[Path] = []
    if noises is not None:
        with (noises / "noise.csv").open(newline="") as file:
            beds = [noises / row["file"] for row in csv.DictReader(file)]
    return Acoustics(rooms=tuple(rooms), media=tuple(media), noises=tuple(beds))


@lru_cache(maxsize=256)
def response(path: Path) -> Samples:
    """An impulse response of unit energy: float32 (n,), at most 4 s. It starts with the direct sound, without delay."""
    samples = _read(path)
    direct = int(np.argmax(np.abs(samples) > 0.3 * np.abs(samples).max()))
    samples = samples[max(0, direct - 8) :][: 4 * SAMPLE_RATE]
    return np.asarray(samples / (np.sqrt(np.sum(samples**2)) + 1e-9), np.float32)


@lru_cache(maxsize=256)
def _read(path: Path) -> Samples:
    """The sound in a file: float32 (n,), mono, 22,050 Hz."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return np.asarray(mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE), np.float32)
