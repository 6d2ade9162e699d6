"""Evenings at the piano, made of performances: what is played from when to when, and between it applause and talk.

A *recital* plays whole pieces, or long parts of them, on one piano in one room. Each piece is applauded, and some are
announced, or the next follows after a breath. Some pieces are *strangers*: the collection that is searched lacks them.
A *medley* plays short parts one after the other. *Practice* plays a passage, breaks it off, begins it again, goes on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.random import Generator

from engine.audio import SAMPLE_RATE, Samples
from indexer.synthesis.interruptions import applause, room_noise, speech

Form = Literal["recital", "medley", "practice"]

STRANGERS = 0.25
"""Share of the pieces of an evening that the collection lacks."""
ATTACCA = 0.25
"""Share of the pieces of a recital that the next follows without applause or talk."""
MEDLEY_S = (20.0, 45.0)
"""Shortest and longest part of a piece in a medley, in seconds."""
TRY_S, PRACTICE_S = (8.0, 40.0), 180.0
"""Shortest and longest try at a passage in practice, and for how long one piece is practised, in seconds."""
SILENT = 0.003
"""Share of the peak below which the end of a recording is silence, -50 dB, and no longer the piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A stretch of an evening in which one piece is played."""

    piece: str
    """Id of the piece; empty for a stranger."""
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedEvening:
    """The sound of an evening, and what is played in it."""

    samples: Samples
    """At 22,050 Hz."""
    played: tuple[Played, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """How an evening is made."""

    form: Form = "recital"
    minutes: float = 60.0
    length_s: float = float("inf")
    """Longest part of a piece in a recital, in seconds."""
    snr_db: float = float("inf")
    """Level of the evening over the noise of the room, in dB."""


def evening(
    programme: Programme,
    known: Mapping[str, Path],
    strangers: Sequence[Path],
    room: Callable[[Samples], Samples],
    rng: Generator,
) -> PlayedEvening:
    """Returns an evening of pieces in random order. None is played twice until all were played.

    known: recordings of pieces that the collection has, by id. strangers: recordings of others.
    room: what the room makes of a recording.
    """
    parts: list[Samples] = []
    played: list[Played] = []
    at, count = 0, _count(programme.minutes * 60)
    pieces = _shuffled(list(known.items()), rng)
    others = _shuffled([("", file) for file in strangers], rng)
    while at < count:
        name, file = next(others if strangers and rng.random() < STRANGERS else pieces)
        for sound, is_music in _turn(programme, file, room, rng):
            parts.append(sound)
            at += len(sound)
            if is_music:
                start_s, end_s = (at - len(sound)) / SAMPLE_RATE, at / SAMPLE_RATE
                played.append(Played(piece=name, start_s=start_s, end_s=end_s))
    samples = np.concatenate(parts)
    if np.isfinite(programme.snr_db):
        noise = room_noise(len(samples), rng)
        level = np.sqrt(np.mean(samples**2) / np.mean(noise**2)) * 10 ** (-programme.snr_db / 20)
        samples += np.float32(level) * noise
    return PlayedEvening(samples=samples, played=tuple(played))


def _shuffled(pieces: Sequence[tuple[str, Path]], rng: Generator) -> Iterator[tuple[str, Path]]:
    """Yields the pieces in random order, again and again."""
    while True:
        yield from (pieces[i] for i in rng.permutation(len(pieces)))


def _turn(
    programme: Programme, file: Path, room: Callable[[Samples], Samples], rng: Generator
) -> Iterator[tuple[Samples, bool]]:
    """Yields the sounds of one turn of the programme, each with whether it is music."""
    music = _sounding(room(_read(file)))
    if programme.form == "practice":
        yield np.concatenate(list(_tries(music, rng))), True
        yield _quiet(rng.uniform(2, 20), rng), False
    elif programme.form == "medley":
        yield _part(music, rng.uniform(*MEDLEY_S), rng), True
    else:
        yield _part(music, programme.length_s, rng), True
        if rng.random() >= ATTACCA:
            yield _levelled(applause(_count(rng.uniform(8, 30)), rng), 0.5), False
            if rng.random() < 0.5:
                yield _levelled(speech(_count(rng.uniform(8, 40)), rng), 0.4), False
        yield _quiet(rng.uniform(0.2, 5), rng), False


def _tries(music: Samples, rng: Generator) -> Iterator[Samples]:
    """Yields tries at passages of a piece, each up to three times in a row, with short pauses between."""
    start, total = 0, 0
    while total == 0 or (start < len(music) - _count(TRY_S[0]) and total < _count(PRACTICE_S)):
        for _ in range(int(rng.integers(1, 4))):
            if total:
                yield _quiet(rng.uniform(0.3, 3), rng)
            one = music[start : start + _count(rng.uniform(*TRY_S))]
            total += len(one)
            yield one
        start += _count(rng.uniform(*TRY_S))


def _read(file: Path) -> Samples:
    """Returns a recording at half of full scale."""
    samples, rate = soundfile.read(file, dtype="float32")
    assert rate == SAMPLE_RATE  # as `pieces.recording` writes them
    return _levelled(samples, 0.5)


def _sounding(samples: Samples) -> Samples:
    """Returns a recording without the silence at its end."""
    heard = np.flatnonzero(np.abs(samples) > SILENT * np.abs(samples).max())
    return samples[: int(heard[-1]) + 1]


def _part(samples: Samples, seconds: float, rng: Generator) -> Samples:
    """Returns a random part of a recording; the whole if the recording is shorter."""
    if seconds * SAMPLE_RATE >= len(samples):
        return samples
    first = int(rng.integers(len(samples) - _count(seconds) + 1))
    return samples[first : first + _count(seconds)]


def _quiet(seconds: float, rng: Generator) -> Samples:
    """Returns the noise of a room in which nobody plays."""
    return _levelled(room_noise(_count(seconds), rng), 0.01)


def _count(seconds: float) -> int:
    """Returns the number of samples of some seconds."""
    return round(seconds * SAMPLE_RATE)


def _levelled(samples: Samples, peak: float) -> Samples:
    """Returns samples whose largest magnitude is `peak`."""
    return np.asarray(samples * (peak / float(np.abs(samples).max())), np.float32)
