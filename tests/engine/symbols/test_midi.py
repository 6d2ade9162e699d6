"""MIDI files: the notes that people and programs write, and what damage and malice cost."""

import struct
import time
from collections.abc import Sequence

import pytest

from engine.errors import AudioError
from engine.symbols import midi
from engine.symbols.midi import read_midi

ON, OFF, PROGRAM = 0x90, 0x80, 0xC0
TEMPO_60 = b"\x00\xff\x51\x03" + (1_000_000).to_bytes(3, "big")


def quantity(value: int) -> bytes:
    """A number as MIDI writes it."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))


def event(delta: int, *message: int) -> bytes:
    return quantity(delta) + bytes(message)


def note(pitch: int, ticks: int = 480, delta: int = 0, channel: int = 0) -> bytes:
    return event(delta, ON | channel, pitch, 80) + event(ticks, OFF | channel, pitch, 0)


def file(*tracks: bytes, form: int = 1, division: int = 480) -> bytes:
    header = b"MThd" + struct.pack(">IHHH", 6, form, len(tracks), division)
    return header + b"".join(b"MTrk" + struct.pack(">I", len(track)) + track for track in tracks)


def onsets(data: bytes) -> list[tuple[float, int]]:
    played = read_midi(data)
    return list(zip(played.onset_s.round(3).tolist(), played.pitch.tolist(), strict=True))


def test_a_tempo_in_one_track_holds_for_all() -> None:
    slower = event(480, 0xFF, 0x51, 3, *(2_000_000).to_bytes(3, "big"))
    notes = note(60) + note(62) + note(64)
    assert onsets(file(TEMPO_60 + slower, notes)) == [(0.0, 60), (1.0, 62), (3.0, 64)]


def test_tracks_of_format_2_are_played_one_after_the_other() -> None:
    assert onsets(file(TEMPO_60 + note(60), note(62), form=2)) == [(0.0, 60), (1.0, 62)]


def test_times_of_film_do_not_know_a_tempo() -> None:
    division = (256 - 25) << 8 | 40  # 25 frames of 40 ticks: a tick is a millisecond
    assert onsets(file(TEMPO_60 + note(60) + note(62), division=division)) == [(0.0, 60), (0.48, 62)]


def test_a_status_that_is_left_out_is_that_before() -> None:
    running = event(0, ON, 60, 80) + event(480, 60, 0) + event(0, 62, 80) + event(480, 62, 0)
    assert onsets(file(TEMPO_60 + running)) == [(0.0, 60), (1.0, 62)]


def test_messages_of_all_lengths_are_passed_over() -> None:
    others = event(0, PROGRAM, 5) + event(0, 0xE0, 1, 2) + b"\x00\xf0\x03\x01\x02\xf7" + b"\x00\xff\x01\x02hi"
    assert onsets(file(others + note(60))) == [(0.0, 60)]


def test_drums_and_what_no_piano_has_are_left_out() -> None:
    played = read_midi(file(note(40, channel=9) + note(0) + note(127) + note(72)))
    assert played.pitch.tolist() == [72]
    with pytest.raises(
        AudioError, match=r"drums\.mid: expected a MIDI file with notes, got none that a piano can play"
    ):
        read_midi(file(note(40, channel=9)), "drums.mid")


@pytest.mark.parametrize("data", [b"", b"no music", b"MThd", b"RIFF\x00\x00\x00\x00WAVEfmt "])
def test_what_is_no_midi_is_told(data: bytes) -> None:
    with pytest.raises(AudioError, match=r"a\.mid: expected a MIDI file, got something else"):
        read_midi(data, "a.mid")


def test_a_file_wrapped_in_riff_is_read() -> None:
    inner = file(note(60))
    assert onsets(b"RIFF" + struct.pack("<I", len(inner) + 12) + b"RMIDdata" + struct.pack("<I", len(inner)) + inner)


def test_a_file_cut_off_gives_what_there_is(caplog: pytest.LogCaptureFixture) -> None:
    whole = file(note(60) + note(62) + note(64))
    assert onsets(whole[:-6]) == [(0.0, 60), (0.5, 62)]
    assert "ends in the middle of a track" in caplog.text


@pytest.mark.parametrize("damage", [b"\x00\xf4\x01", b"\xff\xff\xff\xff\xff", b"\x00\x90\x3c"])
def test_a_damaged_track_gives_what_comes_before(damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert onsets(file(note(60) + damage, note(72))) == [(0.0, 60), (0.0, 72)]
    assert "a track is damaged; what comes before the damage is read" in caplog.text


def test_a_billion_ticks_after_the_last_note_cost_nothing() -> None:
    played = read_midi(file(note(60) + event(0x0FFFFFFF, 0xFF, 0x2F, 0)))
    assert played.release_s.tolist() == [0.5]


def test_a_key_that_is_never_released_is_held_for_a_while() -> None:
    played = read_midi(file(event(0, ON, 60, 80) + note(62, delta=480 * 1000)))
    assert played.release_s.tolist() == [midi.MAX_HELD_S, 500.5]


@pytest.mark.parametrize(
    ("tracks", "division", "cause"),
    [
        ([note(60) + note(62, delta=0x0FFFFFFF)], 480, r"a note 279,621 s after the start; at most 21,600 s"),
        ([b"\x00\xff\x51\x03\xff\xff\xff" + note(60) + note(60, delta=9000)], 1, r"at most 21,600 s are played"),
        ([note(60, ticks=1) * (midi.MAX_NOTES + 1)], 480, r"more than 200,000 notes"),
        ([b"\x00" * (midi.MAX_BYTES + 1)], 480, r"a MIDI file of [\d,]+ bytes; at most 8,388,608"),
    ],
)
def test_hostile_files_are_refused_soon(tracks: Sequence[bytes], division: int, cause: str) -> None:
    started = time.process_time()
    with pytest.raises(AudioError, match=rf"bad\.mid: .*{cause}"):
        read_midi(file(*tracks, division=division), "bad.mid")
    assert time.process_time() - started < 10


def test_a_million_changes_of_tempo_are_read_in_time() -> None:
    change = b"\x01\xff\x51\x03\x07\xa1\x20"
    started = time.process_time()
    assert len(onsets(file(change * 1_000_000 + note(60)))) == 1
    assert time.process_time() - started < 20
