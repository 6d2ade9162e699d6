"""Instruments that play performances: sampled instruments (SFZ files, folders with regions.csv), SoundFont programs."""

import csv
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.signal
import soundfile
import soxr
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, Samples
from engine.machine_code import kept
from engine.symbols.playing import to_midi
from engine.symbols.soundfont import synthesise
from indexer.synthesis.perform import Performance

HALF_PEDAL = 0.6
"""Depth of the pedal, 0..1, below which the dampers touch the strings."""

_TAIL_S = 3.0
"""Length of the sound after the last damper has fallen."""
_LAST_DAMPER = 88
"""MIDI pitch of the highest key with a damper; higher strings ring until they are silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """The state of an instrument: tuning, evenness, dampers. The default is a well-kept instrument."""

    tuning_cents: float = 0.0
    """Tuning offset of the whole instrument."""
    detune_cents: float = 0.0
    """Standard deviation of the tuning from key to key."""
    stretch_cents: float = 0.0
    """Tuning offset at the ends of the keyboard; the offset grows with the cube of the distance from the middle."""
    uneven_db: float = 0.0
    """Standard deviation of the level from key to key."""
    release: float = 1.0
    """Factor on the time in which dampers silence a string; 1 is usual."""
    touch: float = 1.5
    """Exponent of the amplitude as a power of velocity."""
    resonance: float = 0.0
    """Level of the other strings, which resonate while the pedal is down, relative to the struck strings."""


WELL_KEPT = Condition()


def random_condition(rng: np.random.Generator) -> Condition:
    """The condition of a random piano in a home, school or hall; one in four is badly out of tune."""
    neglected = rng.random() < 0.25
    return Condition(
        tuning_cents=float(np.clip(rng.normal(0, 18 if neglected else 6), -40, 40)),
        detune_cents=float(rng.uniform(4, 14) if neglected else rng.uniform(0, 4)),
        stretch_cents=float(rng.normal(4, 6)),
        uneven_db=float(rng.uniform(0, 2.5)),
        release=float(np.exp(rng.normal(0, 0.4))),
        touch=float(rng.uniform(0.8, 2.2)),
        resonance=float(rng.choice((0.0, rng.uniform(0.02, 0.25)))),
    )


class Instrument(Protocol):
    """Plays a performance."""

    def play(self, performance: Performance, condition: Condition, rng: np.random.Generator) -> Samples:
        """The sound from the start of the performance: float32 (n,), mono, 22,050 Hz; the peak may exceed 1."""
        ...


@lru_cache(maxsize=64)
def load(name: str) -> Instrument:
    """The instrument that a configuration names, kept in memory.

    name: `FOLDER` with a regions.csv, `FILE.sfz`, or `FILE.sf2#PROGRAM` with a General MIDI program.
    Raises OSError if a file is missing, and ValueError if its content makes no sense.
    """
    path, _, program = name.partition("#")
    if path.endswith((".sf2", ".sf3")):
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such SoundFont")
        return SoundFontProgram(Path(path), int(program or 0))
    regions = read_sfz(Path(path)) if path.endswith(".sfz") else read_regions(Path(path))
    for region in regions:
        if not region.file.is_file():
            raise FileNotFoundError(f"{name}: no such sample: {region.file}")
    return SampledInstrument(regions)


@dataclass(frozen=True, slots=True)
class SoundFontProgram:
    """A program of a SoundFont; it ignores the condition."""

    path: Path
    program: int

    def play(self, performance: Performance, condition: Condition, rng: np.random.Generator) -> Samples:
        """The sound of the performance, as `Instrument.play` describes it."""
        return synthesise(to_midi(performance, self.program), self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A sample, with the keys and velocities that it is used for."""

    file: Path
    centre: float
    """MIDI pitch of the recorded sample, corrected by its tuning."""
    keys: tuple[int, int]
    """Lowest and highest MIDI pitch that the sample is used for."""
    velocities: tuple[int, int]
    """Lowest and highest velocity that the sample is used for."""
    gain_db: float


def read_regions(folder: Path) -> list[Region]:
    """The regions in a folder's regions.csv, one a row; volume_db makes all samples equally loud."""
    with (folder / "regions.csv").open(newline="") as file:
        return [
            Region(
                file=folder / row["file"],
                centre=int(row["pitch_keycenter"]) - float(row["tune_cents"]) / 100,
                keys=(int(row["lokey"]), int(row["hikey"])),
                velocities=(int(row["lovel"]), int(row["hivel"])),
                gain_db=float(row["volume_db"]),
            )
            for row in csv.DictReader(file)
        ]


_SFZ_TOKEN = re.compile(r"<(\w+)>|(\w+)=(.*?)(?=\s+\w+=|\s*<|\s*$)", re.MULTILINE)
_SFZ_LEVELS = ("control", "global", "master", "group", "region")
_KEY_NAME = re.compile(r"([a-g])([#b]?)(-?\d+)", re.IGNORECASE)


def read_sfz(path: Path) -> list[Region]:
    """The regions of an SFZ file that are struck notes: sample, keys, velocities, tuning and volume.

    Effects, envelopes, release samples and included files are ignored. Raises ValueError if no region is left.
    Source: sfzformat.com, version 1 of the format.
    """
    text = re.sub(r"//.*", "", path.read_text(errors="replace"))
    scopes: dict[str, dict[str, str]] = {level: {} for level in _SFZ_LEVELS}
    regions: list[dict[str, str]] = []
    level = "global"
    for match in _SFZ_TOKEN.finditer(text):
        header, name, value = match.groups()
        if header:
            level = header if header in _SFZ_LEVELS else level
            for inner in _SFZ_LEVELS[_SFZ_LEVELS.index(level) :]:
                scopes[inner] = {}
            if level == "region":
                scopes["region"] = {name: text for outer in _SFZ_LEVELS[:-1] for name, text in scopes[outer].items()}
                regions.append(scopes["region"])
        else:
            scopes[level][name] = value.strip()
    struck = [_sfz_region(path.parent, opcodes) for opcodes in regions if _is_struck(opcodes)]
    if not struck:
        raise ValueError(f"{path}: expected <region> headers with samples, got none")
    return struck


def _is_struck(opcodes: dict[str, str]) -> bool:
    """Whether a region is a sample that sounds when its key is pressed."""
    return "sample" in opcodes and opcodes.get("trigger", "attack") == "attack"


def _sfz_region(folder: Path, opcodes: dict[str, str]) -> Region:
    """The region with these opcodes; sample paths are relative to `folder`."""
    key = opcodes.get("key")
    centre = _key(opcodes.get("pitch_keycenter", key or "60"))
    sample = (opcodes.get("default_path", "") + opcodes["sample"]).replace("\\", "/")
    return Region(
        file=folder / sample,
        centre=centre - float(opcodes.get("tune", 0)) / 100,
        keys=(_key(opcodes.get("lokey", key or "0")), _key(opcodes.get("hikey", key or "127"))),
        velocities=(int(opcodes.get("lovel", 0)), int(opcodes.get("hivel", 127))),
        gain_db=float(opcodes.get("volume", 0)),
    )


def _key(text: str) -> int:
    """The MIDI pitch of a key written as a number, or as c4, f#3 or bb2 (c4 = 60)."""
    named = _KEY_NAME.fullmatch(text)
    if named is None:
        return int(text)
    letter, accidental, octave = named.groups()
    return {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[letter.lower()] + (
        {"#": 1, "b": -1}.get(accidental, 0) + 12 * (int(octave) + 1)
    )


class SampledInstrument:
    """Plays samples: moves them to the pitch of the key and damps them.

    If there is only one velocity layer, soft notes are darkened.
    """

    def __init__(self, regions: list[Region]) -> None:
        self._regions = regions
        self._one_layer = len({region.velocities for region in regions}) == 1
        self._samples: dict[Path, Samples] = {}
        self._zones: dict[tuple[int, int], list[Region]] = {}

    def play(self, performance: Performance, condition: Condition, rng: np.random.Generator) -> Samples:
        """The sound of the performance, as `Instrument.play` describes it."""
        count = len(performance.pitch)
        keys = np.arange(128)
        cents = condition.tuning_cents + condition.detune_cents * rng.normal(size=128)
        cents += condition.stretch_cents * ((keys - 60) / 44.0) ** 3
        level_db = condition.uneven_db * rng.normal(size=128)
        damped, silenced = damper_falls(performance)
        end_s = float(silenced.max(initial=0.0)) + _TAIL_S
        sound = np.zeros(int(min(end_s, performance.onset_s.max(initial=0.0) + 12.0) * SAMPLE_RATE), np.float32)
        for note in range(count):
            pitch, velocity = int(performance.pitch[note]), int(performance.velocity[note])
            zone = self._zone(pitch, velocity)
            region = zone[note % len(zone)]
            onset = float(performance.onset_s[note])
            release_s = condition.release * (0.035 + 0.16 * ((88 - min(pitch, 88)) / 67.0) ** 2)
            undamped = pitch > _LAST_DAMPER
            _add_note(
                sound,
                int(onset * SAMPLE_RATE),
                self._sample(region),
                2.0 ** ((pitch + cents[pitch] / 100 - region.centre) / 12),
                np.float32(10 ** ((region.gain_db + level_db[pitch]) / 20) * (velocity / 127) ** condition.touch),
                self._brightness(pitch, velocity),
                len(sound) if undamped else int((damped[note] - onset) * SAMPLE_RATE),
                len(sound) if undamped else int((silenced[note] - onset) * SAMPLE_RATE),
                np.float32(np.exp(-1 / (release_s * SAMPLE_RATE))),
            )
        if condition.resonance and len(performance.pedal_s):
            sound += np.float32(condition.resonance) * _resonance(sound, performance, cents, rng)
        return sound

    def _zone(self, pitch: int, velocity: int) -> list[Region]:
        """The regions for a key at a velocity; the nearest region if none covers both."""
        if (pitch, velocity) not in self._zones:
            inside = [
                region
                for region in self._regions
                if region.keys[0] <= pitch <= region.keys[1]
                and region.velocities[0] <= velocity <= region.velocities[1]
            ]
            self._zones[pitch, velocity] = inside or [
                min(self._regions, key=lambda region: _distance(region, pitch, velocity))
            ]
        return self._zones[pitch, velocity]

    def _sample(self, region: Region) -> Samples:
        """The sample of a region: float32 (n,), mono, 22,050 Hz; kept in memory."""
        if region.file not in self._samples:
            samples, rate = soundfile.read(region.file, dtype="float32", always_2d=True)
            mono = samples.mean(axis=1)
            resampled = mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE)
            self._samples[region.file] = np.ascontiguousarray(resampled, np.float32)
        return self._samples[region.file]

    def _brightness(self, pitch: int, velocity: int) -> np.float32:
        """Coefficient of the low-pass that replaces the missing soft samples; 1 changes nothing."""
        if not self._one_layer or velocity >= 90:
            return np.float32(1.0)
        softness = (90 - velocity) / 70
        cutoff = max(440 * 2 ** ((pitch - 69) / 12) * (12 - 9 * min(1, softness)), 5000 - 4000 * min(1, softness))
        return np.float32(1 - np.exp(-2 * np.pi * min(cutoff / SAMPLE_RATE, 0.5)))


def _distance(region: Region, pitch: int, velocity: int) -> tuple[int, float]:
    """The distance of a region from a velocity, then from a pitch; for `min`."""
    low, high = region.velocities
    return max(low - velocity, velocity - high, 0), abs(region.centre - pitch)


def damper_falls(performance: Performance) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The seconds when the damper first touches each note's string, and when it lies on the string: both float64 (n,).

    The two differ if the key is released while the pedal is half pressed. A key that is struck again ends its earlier
    note.
    """
    touched = performance.release_s.copy()
    if len(performance.pedal_s):
        down, up = performance.pedal_s.T
        last = np.searchsorted(down, touched, side="right") - 1
        pedalled = (last >= 0) & (touched < up[np.maximum(last, 0)])
        silenced = np.where(pedalled, up[np.maximum(last, 0)], touched)
        touched = np.where(pedalled & (performance.pedal_depth[np.maximum(last, 0)] >= HALF_PEDAL), silenced, touched)
    else:
        silenced = touched.copy()
    following: dict[int, float] = {}
    for note in np.argsort(-performance.onset_s, kind="stable"):
        struck_again = following.get(int(performance.pitch[note]), np.inf)
        touched[note], silenced[note] = min(touched[note], struck_again), min(silenced[note], struck_again)
        following[int(performance.pitch[note])] = float(performance.onset_s[note])
    return touched, silenced


@kept(nogil=True)
def _add_note(sound, start, sample, step, gain, brightness, damped, silenced, decay):  # type: ignore[no-untyped-def]
    """Adds a sample to `sound`, read at `step` times its speed (cubic interpolation), and damps it.

    start: index in `sound`. damped, silenced: samples from the start to when the damper touches the string, and to when
    it lies on the string; in between (half-pressed pedal) the note decays a sixth as fast. decay: factor a sample.
    """
    position, darkened, floor = 0.0, np.float32(0.0), gain * np.float32(1e-3)
    slow = decay ** np.float32(1 / 6)
    for i in range(start, len(sound)):
        k = int(position)
        if k + 2 >= len(sample):
            return
        f = np.float32(position - k)
        before, here, after, beyond = sample[max(k - 1, 0)], sample[k], sample[k + 1], sample[k + 2]
        slope, bend = np.float32(0.5) * (after - before), np.float32(0.5) * (beyond - here)
        third = 2 * (here - after) + slope + bend
        cubic = here + f * (slope + f * (3 * (after - here) - 2 * slope - bend + f * third))
        darkened += brightness * (cubic - darkened)
        if i - start >= silenced:
            gain *= decay
        elif i - start >= damped:
            gain *= slow
        if gain < floor:
            return
        sound[i] += gain * darkened
        position += step


def _resonance(
    sound: Samples, performance: Performance, cents: NDArray[np.float64], rng: np.random.Generator
) -> Samples:
    """The resonance of the undamped strings while the pedal is down: the sound filtered by strings that ring freely."""
    open_strings = np.zeros(len(sound), np.float32)
    for down, up in performance.pedal_s:
        open_strings[int(down * SAMPLE_RATE) : int(up * SAMPLE_RATE)] = 1.0
    t = np.arange(int(1.5 * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    response = np.zeros(len(t), np.float32)
    for pitch in range(28, 85):
        hertz = 440 * 2 ** ((pitch + cents[pitch] / 100 - 69) / 12)
        phase, decay = rng.uniform(0, 2 * np.pi), 0.3 + 1.2 * (84 - pitch) / 56
        response += np.sin(np.float32(2 * np.pi * hertz) * t + np.float32(phase)) * np.exp(-t / np.float32(decay))
    response /= np.sqrt(np.sum(response**2))
    excited = scipy.signal.oaconvolve(sound * open_strings, response)[: len(sound)]
    return np.asarray(excited * open_strings, np.float32)
