"""Reads MIDI files of human performances as performances that instruments play."""

import dataclasses

import numpy as np

from engine.symbols.midi import read_midi
from indexer.synthesis.perform import Performance


def read_performance(midi: bytes) -> Performance:
    """The performance in a MIDI file (`engine.symbols.midi.read_midi`).

    The file knows no beats, so the performance counts a quarter for each second.
    Raises AudioError if the file holds no notes.
    """
    played = read_midi(midi)
    seconds = np.array([0.0, float(played.release_s.max())])
    fields = {field.name: getattr(played, field.name) for field in dataclasses.fields(played)}
    return Performance(**fields, beat_quarter=seconds, beat_s=seconds)
