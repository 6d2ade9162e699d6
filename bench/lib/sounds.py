"""The sounds that performances are played with: an instrument, and effects that its sound passes through.

A sound is named INSTRUMENT[+EFFECT...], such as `TimGM6mb`, `steinhoff_upright` or `iowa_steinway_b+made_hall_1+mp3`.
INSTRUMENT is `TimGM6mb` or the last part of a path in indexer/training/instruments.csv. EFFECT is the stem of an
impulse response in pianos/irs of the data folder, or `mp3`. Effects act in the order of the name.

A sound counts as heard if the training corpus may use its instrument and each of its responses. MP3 changes nothing
about that, because the corpus compresses recordings, too.
"""

import csv
import functools
import importlib.resources
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal

from engine.audio import Samples
from engine.symbols.soundfont import default_soundfont, limited
from indexer.synthesis import instruments
from indexer.synthesis.acoustics import acoustics, response
from indexer.synthesis.degrade import mp3
from indexer.synthesis.instruments import WELL_KEPT
from indexer.synthesis.perform import Performance

RESPONSES = "pianos/irs"
"""Folder of the impulse responses in the data folder."""
ROOM_SHARE = 0.5
"""Share of a room's response in what is heard; the rest is the dry sound. Some responses hold no direct sound."""
MP3 = "mp3"
MP3_COMPRESSION = 0.6
"""Compression level of `degrade.mp3`, about 64 kbit/s."""

Effect = Callable[[Samples], Samples]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """An instrument and the effects that its sound passes through."""

    name: str
    heard: bool
    """Whether a network trained by indexer/training/default.toml has heard all parts of the sound."""
    instrument: str = ""
    """Name for `instruments.load`. Empty: the SoundFont in the pretty_midi package."""
    effects: tuple[Effect, ...] = ()

    def play(self, performance: Performance) -> Samples:
        """The performance, played by the instrument through the effects: float32 (n,), mono, 22,050 Hz, peak <= 1."""
        instrument = instruments.load(self.instrument or f"{default_soundfont()}#0")
        samples = limited(instrument.play(performance, WELL_KEPT, np.random.default_rng(0)))
        for effect in self.effects:
            samples = limited(effect(samples))
        return samples


TIMGM6MB = Sound(name="TimGM6mb", heard=True)
"""The SoundFont in the pretty_midi package. Heard in training, because the corpus has its samples in sf_GMbank."""
REAL = Sound(name="real", heard=False)
"""Label of recordings that exist already and are not synthesised."""


def sound(name: str, data: Path) -> Sound:
    """The sound of this name. The module's docstring explains names.

    data: folder of the unpacked data sets.
    Raises ValueError if a part of the name is unknown, FileNotFoundError if the instrument or `irs.csv` is missing.
    """
    instrument, *names = name.split("+")
    effects = [_effect(part, data) for part in names]
    heard_effects = all(heard for _, heard in effects)
    passed = tuple(effect for effect, _ in effects)
    if instrument == TIMGM6MB.name:
        return Sound(name=name, heard=heard_effects, effects=passed)
    listed = {path.name: (path, heard) for path, heard in _instruments(data)}
    if instrument not in listed:
        raise ValueError(f"expected an instrument of {[TIMGM6MB.name, *listed]}, got {instrument!r}")
    path, heard = listed[instrument]
    if not _file(path).exists():
        raise FileNotFoundError(f"{name}: expected the instrument {_file(path)}")
    return Sound(name=name, heard=heard and heard_effects, instrument=str(path), effects=passed)


def default_sounds(data: Path) -> list[Sound]:
    """TimGM6mb, and the instruments for validation that the data folder holds."""
    validating = [path for path, heard in _instruments(data) if not heard and _file(path).exists()]
    return [TIMGM6MB, *(Sound(name=path.name, heard=False, instrument=str(path)) for path in validating)]


def _instruments(data: Path) -> Iterator[tuple[Path, bool]]:
    """The listed instruments in the data folder, each with whether it serves training."""
    with (importlib.resources.files("indexer.training") / "instruments.csv").open() as file:
        for row in csv.DictReader(file):
            yield data / row["instrument"], row["split"] == "train"


def _file(instrument: Path) -> Path:
    """The file or folder of an instrument, without the program of a SoundFont."""
    return Path(str(instrument).partition("#")[0])


def _effect(name: str, data: Path) -> tuple[Effect, bool]:
    """The effect of this name, and whether it is heard in training."""
    if name == MP3:
        return functools.partial(mp3, compression=MP3_COMPRESSION), True
    for split in ("train", "val"):
        known = acoustics(data / RESPONSES, None, split)
        for paths, share in ((known.rooms, ROOM_SHARE), (known.media, 1.0)):
            for path in paths:
                if path.stem == name:
                    return functools.partial(convolved, path=path, share=share), split == "train"
    raise ValueError(f"expected {MP3!r} or the stem of a file in {data / RESPONSES}, got {name!r}")


def convolved(samples: Samples, path: Path, share: float) -> Samples:
    """The samples mixed with what passes an impulse response, which has this share: float32, same length."""
    passed = scipy.signal.oaconvolve(samples, response(path))[: len(samples)]
    return np.asarray(share * passed + (1 - share) * samples, np.float32)
