"""Reads MIDI files of human performances as performances that instruments play."""

import io
from collections import defaultdict
from collections.abc import Iterable

import mido
import numpy as np
from numpy.typing import NDArray

from indexer.synthesis.perform import Performance

SUSTAIN = 64
"""MIDI controller of the sustain pedal."""
PEDAL_DOWN = 64
"""Controller value from which on the pedal is down, as General MIDI has it."""

PedalChange = tuple[float, int]
"""A change of the pedal: second, and value of the controller from then on."""


def read_performance(midi: bytes) -> Performance:
    """The notes and the sustain pedal of a MIDI file, all tracks and channels together, in the order of the onsets.

    A key that is struck again before its release sounds until the first of its releases; a key that is never released
    sounds until the file ends. The file knows no beats, so the performance counts a quarter for each second.
    Raises ValueError if the file holds no notes.
    """
    notes: list[tuple[float, float, int, int]] = []
    sounding: dict[tuple[int, int], list[tuple[float, int]]] = defaultdict(list)
    pedal: list[PedalChange] = []
    now = 0.0
    for message in mido.MidiFile(file=io.BytesIO(midi)):
        now += message.time
        if message.type == "control_change" and message.control == SUSTAIN:
            pedal.append((now, message.value))
        elif message.type in ("note_on", "note_off"):
            key = (message.channel, message.note)
            if message.type == "note_on" and message.velocity > 0:
                sounding[key].append((now, message.velocity))
            elif sounding[key]:
                onset, velocity = sounding[key].pop(0)
                notes.append((onset, now, message.note, velocity))
    for (_, pitch), held in sounding.items():
        notes += [(onset, now, pitch, velocity) for onset, velocity in held]
    if not notes:
        raise ValueError("expected a MIDI file with notes, got none")
    onset_s, release_s, pitches, velocities = np.array(sorted(notes)).T
    pedal_s, pedal_depth = _pedal(pedal, now)
    return Performance(
        onset_s=onset_s,
        release_s=release_s,
        pitch=pitches.astype(np.int64),
        velocity=velocities.astype(np.int64),
        pedal_s=pedal_s,
        pedal_depth=pedal_depth,
        beat_quarter=np.array([0.0, now]),
        beat_s=np.array([0.0, now]),
    )


def _pedal(changes: Iterable[PedalChange], end_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The spans in seconds in which the pedal is down (p, 2), and the largest depth in each span (p,), 0..1."""
    spans: list[tuple[float, float]] = []
    depths: list[float] = []
    down_s, deepest = 0.0, 0
    for second, value in [*changes, (end_s, 0)]:
        if value >= PEDAL_DOWN:
            down_s = down_s if deepest else second
            deepest = max(deepest, value)
        elif deepest:
            spans.append((down_s, second))
            depths.append(deepest / 127)
            deepest = 0
    return np.array(spans, np.float64).reshape(-1, 2), np.array(depths, np.float64)
