"""Notes as they are played: when each key goes down and up, how hard it is struck, and when the pedal is down."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TICKS_PER_S = 960
"""Resolution of the MIDI files that are written: 480 ticks a quarter at 120 quarters a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Playing:
    """What keys and pedal do; each array of notes is (n,), and all have the same order."""

    onset_s: NDArray[np.float64]
    release_s: NDArray[np.float64]
    """When each key is released; the pedal may let the note sound longer."""
    pitch: NDArray[np.int64]
    """MIDI pitch of each note."""
    velocity: NDArray[np.int64]
    """MIDI velocity of each note."""
    pedal_s: NDArray[np.float64]
    """(p, 2): the seconds when the pedal goes down and up."""
    pedal_depth: NDArray[np.float64]
    """(p,): how deep the pedal is pressed, 0..1."""


def to_midi(playing: Playing, program: int = 0, tail_s: float = 0.0) -> bytes:
    """The notes and the pedal as a MIDI file for this General MIDI program, that ends `tail_s` after its events."""
    import mido  # a package of the extra `symbols`, which reading other files does without

    events: list[tuple[float, int, Any]] = []
    for onset, release, pitch, velocity in zip(
        playing.onset_s, playing.release_s, playing.pitch, playing.velocity, strict=True
    ):
        events.append((onset, 1, mido.Message("note_on", note=int(pitch), velocity=int(velocity))))
        # Before its onset, the end of a note that has no length would be lost, and the note would ring on.
        end = max(release, onset + 1 / TICKS_PER_S)
        events.append((end, 0, mido.Message("note_off", note=int(pitch), velocity=0)))
    for (down, up), depth in zip(playing.pedal_s, playing.pedal_depth, strict=True):
        events.append((down, 2, mido.Message("control_change", control=64, value=round(127 * depth))))
        events.append((up, 0, mido.Message("control_change", control=64, value=0)))
    events.sort(key=lambda event: event[:2])
    track = mido.MidiTrack(
        [mido.MetaMessage("set_tempo", tempo=500_000), mido.Message("program_change", program=program)]
    )
    ticks = 0
    for seconds, _, message in events:
        now = max(ticks, round(seconds * TICKS_PER_S))
        track.append(message.copy(time=now - ticks))
        ticks = now
    track.append(mido.MetaMessage("end_of_track", time=round(tail_s * TICKS_PER_S)))
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_S // 2, tracks=[track])
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()
