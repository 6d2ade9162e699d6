"""Synthesises MIDI files with a SoundFont."""

import importlib.util
import io
from functools import cache
from pathlib import Path

import midirenderer
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE

PIANOS = (0, 1, 3)
"""General MIDI programs that sound like a piano: grand, bright, honky-tonk."""


def default_soundfont() -> Path:
    """The SoundFont TimGM6mb of the package pretty_midi. Raises FileNotFoundError if the package is missing."""
    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("expected the package pretty_midi, which carries a SoundFont: install scorefind[demo]")
    return Path(spec.origin).parent / "TimGM6mb.sf2"


def synthesise(midi: bytes, soundfont: Path) -> NDArray[np.float32]:
    """The sound of a MIDI file: float32 (n,), mono, 22,050 Hz, peak at most 1."""
    wave = midirenderer.render_wave_from(_read(soundfont), midi)
    samples, rate = soundfile.read(io.BytesIO(wave), dtype="float32", always_2d=True)
    return limited(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE))


def limited(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The samples, float32 (n,), softer if their peak is above 1."""
    return np.asarray(samples / np.float32(max(1.0, float(np.abs(samples).max(initial=0.0)))), np.float32)


@cache
def _read(soundfont: Path) -> bytes:
    """The content of a SoundFont, kept in memory."""
    return soundfont.read_bytes()
