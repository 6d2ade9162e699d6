"""The sound of notes on the piano of a SoundFont, in blocks: memory holds a minute, however long the piece is."""

import importlib.util
import io
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import midirenderer
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, Samples
from engine.symbols.playing import Playing, to_midi

PIANOS = (0, 1, 3)
"""General MIDI programs that sound like a piano: grand, bright, honky-tonk."""
BLOCK_S = 60.0
"""Length of a block."""
TAIL_S = 2.0
"""Length of the sound after the last release."""
_MAX_RING_S = 12.0
"""Longest time that a note rings on by the pedal into a later block."""


def default_soundfont() -> Path:
    """The SoundFont TimGM6mb of the package pretty_midi. Raises FileNotFoundError if the package is missing."""
    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "expected the package pretty_midi, which carries a SoundFont: install scorefind[symbols]"
        )
    return Path(spec.origin).parent / "TimGM6mb.sf2"


def synthesise(midi: bytes, soundfont: Path) -> NDArray[np.float32]:
    """The sound of a MIDI file: float32 (n,), mono, 22,050 Hz, peak at most 1."""
    wave = midirenderer.render_wave_from(_read(soundfont), midi)
    samples, rate = soundfile.read(io.BytesIO(wave), dtype="float32", always_2d=True)
    return limited(soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE))


def limited(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The samples, float32 (n,), softer if their peak is above 1."""
    return np.asarray(samples / np.float32(max(1.0, float(np.abs(samples).max(initial=0.0)))), np.float32)


def sound(playing: Playing, start_s: float = 0.0, end_s: float | None = None) -> Iterator[Samples]:
    """Yields the sound of notes from `start_s` to `end_s`, float32 (n,), mono, 22,050 Hz, in blocks of `BLOCK_S`.

    A note sounds if its key goes down in this part. Without an end, the sound ends `TAIL_S` after the last release.
    """
    last_s = float(playing.release_s.max(initial=0.0)) + TAIL_S
    end_s = last_s if end_s is None else min(end_s, last_s)
    soundfont, ringing = default_soundfont(), np.zeros(0, np.float32)
    for first_s in np.arange(start_s, end_s, BLOCK_S).tolist():
        until_s = min(first_s + BLOCK_S, end_s)
        block = np.zeros(round((until_s - first_s) * SAMPLE_RATE), np.float32)
        struck = _struck(playing, first_s, until_s)
        played = synthesise(to_midi(struck, tail_s=TAIL_S), soundfont) if len(struck.pitch) else block
        mixed = np.zeros(max(len(block), len(ringing), len(played)), np.float32)
        mixed[: len(ringing)] += ringing
        mixed[: len(played)] += played
        block, ringing = mixed[: len(block)], mixed[len(block) :]
        yield block


def _struck(playing: Playing, first_s: float, until_s: float) -> Playing:
    """The notes whose keys go down in a part, with the pedal while they sound; times count from the part's start."""
    kept = (playing.onset_s >= first_s) & (playing.onset_s < until_s)
    end_s = float(playing.release_s[kept].max(initial=until_s)) + _MAX_RING_S
    pedalled = (playing.pedal_s[:, 0] < until_s) & (playing.pedal_s[:, 1] > first_s)
    return replace(
        playing,
        onset_s=playing.onset_s[kept] - first_s,
        release_s=playing.release_s[kept] - first_s,
        pitch=playing.pitch[kept],
        velocity=playing.velocity[kept],
        pedal_s=np.clip(playing.pedal_s[pedalled], first_s, end_s) - first_s,
        pedal_depth=playing.pedal_depth[pedalled],
    )


@cache
def _read(soundfont: Path) -> bytes:
    """The content of a SoundFont, kept in memory."""
    return soundfont.read_bytes()
