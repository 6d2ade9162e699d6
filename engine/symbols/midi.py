"""MIDI files -> notes in seconds. What is damaged or hostile costs no more than the limits below.

The files that people have are cut off, wrapped in RIFF, or end a billion ticks after the last note. A library that
reads all or nothing, and makes an object of every event, would refuse the first and choke on the last. Therefore this
module reads the events itself: what comes before the damage counts.
"""

import logging
import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import AudioError
from engine.symbols.playing import Playing

logger = logging.getLogger(__name__)

MAX_BYTES = 8 << 20
"""Size of a file. Performances of an hour with all movements of the pedal have less than one MiB."""
MAX_NOTES = 200_000
"""Number of notes: five hours of fast playing."""
MAX_S = 6 * 3600.0
"""Time of the last onset."""
MAX_HELD_S = 30.0
"""Longest time that a key is held: a key whose release is missing would sound to the end."""
KEYS = range(21, 109)
"""Pitches of a piano. Some programs write what has no pitch as the pitches below."""
PERCUSSION = 9
"""Channel whose notes are drums, by General MIDI."""
SUSTAIN = 64
"""MIDI controller of the sustain pedal."""
PEDAL_DOWN = 64
"""Controller value from which on the pedal is down, by General MIDI."""

_HEADER = struct.Struct(">4sIHHH")
_USUAL_TEMPO = 500_000
"""Microseconds a quarter where a file names no tempo."""
_NOTE_OFF, _NOTE_ON, _CONTROL, _PROGRAM, _TOUCH, _SYSTEM = 0x80, 0x90, 0xB0, 0xC0, 0xD0, 0xF0
_META, _SYSEX = 0xFF, (0xF0, 0xF7)
_SET_TEMPO, _END = 0x51, 0x2F

PedalChange = tuple[float, int]
"""A change of the pedal: second, and value of the controller from then on."""


@dataclass(frozen=True, slots=True)
class _Event:
    """A key, a movement of the pedal, or a change of the tempo."""

    tick: int
    status: int
    """Message and channel; `_META` for a tempo."""
    number: int
    """Pitch, or number of the controller."""
    value: int
    """Velocity, value of the controller, or microseconds a quarter."""


class _Damaged(Exception):
    """The bytes of a track are no events from here on."""


def read_midi(data: bytes, path: Path | str = "MIDI file") -> Playing:
    """The notes and the sustain pedal of a MIDI file, all tracks and channels together, in the order of the onsets.

    Drums are left out, and pitches that no piano has. A key that is struck again before its release sounds until the
    first of its releases. The tracks of a file of format 2 are played one after the other.

    path: name of the file, for errors and warnings.
    Raises AudioError if the file is none of MIDI, holds no notes of a piano, or exceeds a limit of this module.
    """
    if len(data) > MAX_BYTES:
        raise AudioError(path, f"a MIDI file of {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    header, tracks = _chunks(data, path)
    form, division = header
    keys, pedal = _Keys(path), list[PedalChange]()
    offset_s = 0.0
    for group in [[track] for track in tracks] if form == 2 else [tracks]:
        events = sorted((event for track in group for event in _events(track, path)), key=lambda event: event.tick)
        clock = _Clock(events, division)
        for event in events:
            second = offset_s + clock.second(event.tick)
            if event.status & 0xF0 == _CONTROL:
                pedal.append((second, event.value))
            elif event.status != _META:
                keys.move(second, event)
        offset_s = keys.end()
    return keys.played(pedal)


class _Clock:
    """Says when a tick is, by the changes of the tempo."""

    def __init__(self, events: Iterable[_Event], division: int) -> None:
        """events: in order. division: ticks of a quarter, or ticks of a frame of film, by the file's header."""
        self._ticks, self._seconds, self._rates = [0], [0.0], [_second_of_tick(_USUAL_TEMPO, division)]
        for event in events:
            if event.status == _META:
                self._seconds.append(self.second(event.tick))
                self._ticks.append(event.tick)
                self._rates.append(_second_of_tick(event.value, division))

    def second(self, tick: int) -> float:
        """The second at which a tick is."""
        last = bisect_right(self._ticks, tick) - 1
        return self._seconds[last] + (tick - self._ticks[last]) * self._rates[last]


def _second_of_tick(tempo: int, division: int) -> float:
    """The length of a tick in seconds."""
    if division & 0x8000:
        frames, ticks = 256 - (division >> 8), division & 0xFF
        return 1 / (max(1, frames) * max(1, ticks))
    return tempo * 1e-6 / max(1, division)


class _Keys:
    """The keys of a piano, and the notes that they have played."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._held: defaultdict[tuple[int, int], list[tuple[float, int]]] = defaultdict(list)
        """Onset and velocity of the notes that sound, by channel and pitch."""
        self._notes: list[tuple[float, float, int, int]] = []
        """Onset, release, pitch and velocity of the notes that are over."""
        self._struck = 0
        self._now = 0.0

    def move(self, second: float, event: _Event) -> None:
        """Strikes or releases a key. Raises AudioError if there are too many notes, or too late ones."""
        channel, pitch = event.status & 0x0F, event.number
        if channel == PERCUSSION or pitch not in KEYS:
            return
        self._now = second
        if event.status & 0xF0 == _NOTE_ON and event.value:
            self._struck += 1
            if self._struck > MAX_NOTES:
                raise AudioError(self._path, f"more than {MAX_NOTES:,} notes, the largest number that is played")
            if second > MAX_S:
                raise AudioError(
                    self._path, f"a note {second:,.0f} s after the start; at most {MAX_S:,.0f} s are played"
                )
            self._held[channel, pitch].append((second, event.value))
        elif held := self._held[channel, pitch]:
            self._release(second, pitch, *held.pop(0))

    def end(self) -> float:
        """Releases all keys, and returns the second at which the last note ends."""
        for (_, pitch), held in self._held.items():
            for onset, velocity in held:
                self._release(self._now, pitch, onset, velocity)
        self._held.clear()
        return max((release for _, release, _, _ in self._notes), default=0.0)

    def played(self, pedal: Sequence[PedalChange]) -> Playing:
        """The notes in the order of their onsets, with these changes of the pedal. Raises AudioError without notes."""
        if not self._notes:
            raise AudioError(self._path, "expected a MIDI file with notes, got none that a piano can play")
        onset_s, release_s, pitches, velocities = np.array(sorted(self._notes)).T
        pedal_s, depth = _pedal([change for change in pedal if change[0] <= self._now + MAX_HELD_S], self._now)
        return Playing(
            onset_s=onset_s,
            release_s=release_s,
            pitch=pitches.astype(np.int64),
            velocity=velocities.astype(np.int64),
            pedal_s=pedal_s,
            pedal_depth=depth,
        )

    def _release(self, second: float, pitch: int, onset: float, velocity: int) -> None:
        self._notes.append((onset, min(second, onset + MAX_HELD_S), pitch, velocity))


def _pedal(changes: Sequence[PedalChange], end_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The spans in seconds in which the pedal is down (p, 2), and the largest depth in each span (p,), 0..1.

    end_s: when the last key moves. A pedal that is still down goes up then, or at its own last change if that is later.
    """
    spans: list[tuple[float, float]] = []
    depths: list[float] = []
    down_s, deepest = 0.0, 0
    for second, value in [*changes, (max(end_s, changes[-1][0] if changes else 0.0), 0)]:
        if value >= PEDAL_DOWN:
            down_s = down_s if deepest else second
            deepest = max(deepest, value)
        elif deepest:
            spans.append((down_s, second))
            depths.append(deepest / 127)
            deepest = 0
    return np.array(spans, np.float64).reshape(-1, 2), np.array(depths, np.float64)


# --- bytes ------------------------------------------------------------------------------------------------------------


def _chunks(data: bytes, path: Path | str) -> tuple[tuple[int, int], list[bytes]]:
    """The format and the division of a file, and the bytes of its tracks. Raises AudioError if there is no header."""
    start = data.find(b"MThd", 0, 1024)  # wrapped in RIFF, or after the header of an old Macintosh
    if start < 0 or len(data) - start < _HEADER.size:
        raise AudioError(path, "expected a MIDI file, got something else")
    _, size, form, _, division = _HEADER.unpack_from(data, start)
    at, tracks = start + 8 + size, list[bytes]()
    while at + 8 <= len(data):
        name, size = struct.unpack_from(">4sI", data, at)
        if name == b"MTrk":
            tracks.append(data[at + 8 : at + 8 + size])
            if at + 8 + size > len(data):
                logger.warning("%s: ends in the middle of a track; what there is of it is read", path)
        at += 8 + size
    return (form, division), tracks


def _events(track: bytes, path: Path | str) -> Iterator[_Event]:
    """Yields the events of a track that matter here. Where bytes are no events, the rest of the track is left out."""
    try:
        yield from _read_events(track)
    except (_Damaged, IndexError):
        logger.warning("%s: a track is damaged; what comes before the damage is read", path)


def _read_events(track: bytes) -> Iterator[_Event]:
    """Yields the events of a track that matter here. Raises _Damaged or IndexError."""
    at, tick, running = 0, 0, 0
    while at < len(track):
        delta, at = _quantity(track, at)
        tick += delta
        status = track[at]
        if status & 0x80:
            at += 1
        else:
            status = running
        if status == _META or status in _SYSEX:
            kind = track[at] if status == _META else None
            size, first = _quantity(track, at + (status == _META))
            at = first + size
            if kind == _END:
                return
            if kind == _SET_TEMPO and size == 3:
                yield _Event(tick, _META, 0, int.from_bytes(track[first:at], "big"))
        elif _NOTE_OFF <= status < _SYSTEM:
            running = status
            number, message = track[at], status & 0xF0
            has_value = message not in (_PROGRAM, _TOUCH)
            value = track[at + 1] if has_value else 0
            at += 1 + has_value
            if message in (_NOTE_OFF, _NOTE_ON) or (message == _CONTROL and number == SUSTAIN):
                yield _Event(tick, status, number, min(value, 127))
        else:
            raise _Damaged


def _quantity(track: bytes, at: int) -> tuple[int, int]:
    """A number of variable length at a place in a track, and the place after it. Raises _Damaged or IndexError."""
    value = 0
    for place in range(at, at + 4):
        value = value << 7 | track[place] & 0x7F
        if not track[place] & 0x80:
            return value, place + 1
    raise _Damaged
