import io
from typing import Any

import mido
import numpy as np
import pytest

from bench.lib.midi import read_performance
from engine.errors import AudioError

TICKS = 480
"""A second: a quarter at 60 quarters a minute."""


def midi(*tracks: list[tuple[float, str, dict[str, Any]]]) -> bytes:
    """A file whose messages are given with their seconds."""
    file = mido.MidiFile(ticks_per_beat=TICKS)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)]))
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for second, kind, values in events:
            tick = round(second * TICKS)
            track.append(mido.Message(kind, time=tick - now, **values))
            now = tick
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def pedal(second: float, value: int) -> tuple[float, str, dict[str, Any]]:
    return second, "control_change", {"control": 64, "value": value}


def on(second: float, note: int, velocity: int = 80, channel: int = 0) -> tuple[float, str, dict[str, Any]]:
    return second, "note_on", {"note": note, "velocity": velocity, "channel": channel}


def off(second: float, note: int, channel: int = 0) -> tuple[float, str, dict[str, Any]]:
    return second, "note_off", {"note": note, "channel": channel}


def test_notes_of_all_tracks_come_in_the_order_of_their_onsets() -> None:
    right = [on(0.5, 72, 90), off(2.0, 72)]
    left = [on(0.25, 48, 60, channel=1), on(1.0, 48, 0, channel=1)]  # a note of velocity 0 is a release
    played = read_performance(midi(right, left))
    assert played.pitch.tolist() == [48, 72]
    assert played.onset_s.tolist() == [0.25, 0.5]
    assert played.release_s.tolist() == [1.0, 2.0]
    assert played.velocity.tolist() == [60, 90]
    assert {str(played.pitch.dtype), str(played.velocity.dtype)} == {"int64"}


def test_a_key_struck_again_before_its_release_has_the_first_release_first() -> None:
    played = read_performance(midi([on(0, 60), on(1, 60), off(2, 60), off(3, 60)]))
    assert played.release_s.tolist() == [2.0, 3.0]


def test_a_key_that_is_never_released_sounds_until_the_end() -> None:
    played = read_performance(midi([on(0, 60), on(1, 62), off(4, 62)]))
    assert played.release_s.tolist() == [4.0, 4.0]


def test_the_pedal_is_down_from_half_way_on_and_as_deep_as_at_its_deepest() -> None:
    changes = [pedal(0.5, 40), pedal(1, 64), pedal(1.5, 127), pedal(2, 100), pedal(3, 63), pedal(4, 70)]
    played = read_performance(midi([on(0, 60), *changes, off(5, 60)]))
    np.testing.assert_allclose(played.pedal_s, [[1, 3], [4, 5]])
    np.testing.assert_allclose(played.pedal_depth, [1, 70 / 127])


def test_a_performance_without_pedal_has_no_spans() -> None:
    played = read_performance(midi([on(0, 60), off(1, 60)]))
    assert (played.pedal_s.shape, played.pedal_depth.shape) == ((0, 2), (0,))


def test_a_file_without_notes_is_refused() -> None:
    with pytest.raises(AudioError, match="with notes"):
        read_performance(midi([pedal(1, 127)]))
