"""Plays the notes of a score as a pianist might: with changing tempo, touch and pedal."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from engine.symbols.playing import Playing
from indexer.synthesis.engrave import ScoreNotes

_GRID_QUARTER = 0.25
"""Distance of the points between which the tempo is constant."""
_BAR_QUARTERS = 4.0
"""Length over which the tempo of bars changes."""
_SECTION_QUARTERS = 32.0
"""Mean length of a section; each section has its own tempo."""
_SLOWING_QUARTERS = 10.0
"""Length of the slowing before the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A style of playing: tempo, its freedom, loudness, articulation and pedal."""

    quarters_per_minute: float = 110.0
    """Mean tempo."""
    tempo_spread: float = 0.12
    """Standard deviation of the logarithm of the tempo from phrase to phrase."""
    phrase_quarters: float = 8.0
    """Length of a phrase: quarters over which its tempo changes."""
    bar_spread: float = 0.08
    """Standard deviation of the logarithm of the tempo from bar to bar."""
    section_spread: float = 0.1
    """Standard deviation of the logarithm of the tempo from section to section."""
    hesitation: float = 0.01
    """Probability that a quarter is lengthened."""
    onset_spread_s: float = 0.012
    """Standard deviation of a note's onset about its beat: hands and the notes of chords are not exactly together."""
    roll_probability: float = 0.05
    """Probability that a chord is spread from its lowest note upwards."""
    loudness: float = 70.0
    """Mean MIDI velocity."""
    loudness_spread: float = 14.0
    """Standard deviation of the MIDI velocity in slow swells."""
    articulation: float = 0.9
    """Share of a note's written length that it sounds."""
    pedal: float = 0.5
    """Probability that a stretch of two to four quarters is pedalled."""
    half_pedal: float = 0.2
    """Probability that a pedalled stretch is pedalled only half."""
    voicing: float = 8.0
    """MIDI velocity by which the highest sounding note is louder than the other notes."""
    hands: float = 3.0
    """Standard deviation of the difference in MIDI velocity between the lower and the upper hand."""
    final_slowing: float = 0.3
    """Logarithm of the factor by which the last beat is slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance(Playing):
    """A performance: its notes in the order of the score's notes, its pedalling and its tempo map."""

    beat_quarter: NDArray[np.float64]
    """(g,): points of the score, in quarters from the start of the piece."""
    beat_s: NDArray[np.float64]
    """(g,): when the performance reaches each of these points."""

    def seconds_at(self, quarter: NDArray[np.float64]) -> NDArray[np.float64]:
        """The seconds at which the performance reaches these points of the score."""
        return np.interp(quarter, self.beat_quarter, self.beat_s)

    def until(self, end_s: float) -> "Performance":
        """The notes and pedals that begin before this second; notes end at most one second after it."""
        kept = self.onset_s < end_s
        return replace(
            self,
            onset_s=self.onset_s[kept],
            release_s=np.minimum(self.release_s[kept], end_s + 1.0),
            pitch=self.pitch[kept],
            velocity=self.velocity[kept],
            pedal_s=self.pedal_s[self.pedal_s[:, 0] < end_s],
            pedal_depth=self.pedal_depth[self.pedal_s[:, 0] < end_s],
        )


def random_style(notes: ScoreNotes, rng: np.random.Generator, freedom: float = 1.0) -> Style:
    """A random style with a tempo that suits the piece: about 1.2 to 10 onsets a second, whatever the notation's unit.

    freedom: 0..1, scales how much timing and loudness vary. At 1, they vary as much as those of pianists
        (`python -m bench.tempo`).
    """
    onsets = len(np.unique(np.round(notes.onset_quarter, 2)))
    onsets_per_quarter = onsets / max(1.0, float(notes.onset_quarter[-1]))
    onsets_per_s = float(np.exp(rng.triangular(np.log(1.2), np.log(4.5), np.log(10.0))))
    return Style(
        quarters_per_minute=float(np.clip(60 * onsets_per_s / onsets_per_quarter, 35, 260)),
        tempo_spread=freedom * float(rng.uniform(0.03, 0.2)),
        phrase_quarters=float(rng.uniform(3, 16)),
        bar_spread=freedom * float(rng.uniform(0.02, 0.3)),
        section_spread=freedom * float(rng.uniform(0.0, 0.3)),
        hesitation=freedom * float(rng.uniform(0.0, 0.04)),
        onset_spread_s=freedom * float(rng.uniform(0.004, 0.022)),
        roll_probability=freedom * float(rng.choice((0.02, 0.1, 0.3), p=(0.6, 0.3, 0.1))),
        loudness=float(rng.uniform(50, 88)),
        loudness_spread=freedom * float(rng.uniform(6, 20)),
        articulation=float(rng.uniform(0.55, 1.05)),
        pedal=float(rng.choice((0.0, 0.4, 0.9), p=(0.25, 0.35, 0.4))),
        half_pedal=float(rng.choice((0.0, 0.3))),
        voicing=freedom * float(rng.uniform(0, 26)),
        hands=freedom * float(rng.uniform(0, 10)),
        final_slowing=freedom * float(rng.uniform(0.0, 1.5)),
    )


def perform(notes: ScoreNotes, style: Style, rng: np.random.Generator) -> Performance:
    """A performance of the notes in this style."""
    beat_quarter, beat_s = _tempo_map(float((notes.onset_quarter + notes.duration_quarter).max()), style, rng)
    count = len(notes.pitch)
    onset = np.interp(notes.onset_quarter, beat_quarter, beat_s)
    release = np.interp(notes.onset_quarter + notes.duration_quarter, beat_quarter, beat_s)
    onset = onset + rng.normal(0, style.onset_spread_s, count) + _rolls(notes, style, rng)
    onset = np.maximum(onset, 0.0)
    length = (release - onset) * np.clip(style.articulation + rng.normal(0, 0.1, count), 0.25, 1.1)
    pedal_s = _pedal(beat_quarter, beat_s, style, rng)
    depth = np.where(rng.random(len(pedal_s)) < style.half_pedal, rng.uniform(0.2, 0.55, len(pedal_s)), 1.0)
    return Performance(
        onset_s=onset,
        release_s=onset + np.maximum(length, 0.05),
        pitch=notes.pitch,
        velocity=_velocities(notes, style, rng),
        pedal_s=pedal_s,
        pedal_depth=depth,
        beat_quarter=beat_quarter,
        beat_s=beat_s,
    )


def _tempo_map(
    end_quarter: float, style: Style, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of the score, in quarters, and their times, in seconds; the first note follows a short silence."""
    beat_quarter = np.arange(0.0, end_quarter + 2 * _GRID_QUARTER, _GRID_QUARTER)
    pace = np.exp(np.clip(_log_pace(len(beat_quarter), style, rng), -1.5, 1.5))
    slowing = style.final_slowing * np.clip(1 - (end_quarter - beat_quarter) / _SLOWING_QUARTERS, 0, 1)
    seconds_per_quarter = 60 / style.quarters_per_minute * pace / pace.mean() * np.exp(slowing)
    steps = np.concatenate([[rng.uniform(0.0, 1.0)], seconds_per_quarter[:-1] * _GRID_QUARTER])
    return beat_quarter, np.cumsum(steps)


def _log_pace(count: int, style: Style, rng: np.random.Generator) -> NDArray[np.float64]:
    """The logarithm of the slowness at `count` points: that of sections, phrases and bars, and of hesitations."""
    section = np.cumsum(rng.random(count) < _GRID_QUARTER / _SECTION_QUARTERS)
    hesitation = (rng.random(count) < style.hesitation * _GRID_QUARTER) * rng.exponential(0.8, count)
    return (
        style.section_spread * rng.normal(size=count)[section]
        + style.tempo_spread * _smooth_noise(count, style.phrase_quarters / _GRID_QUARTER, rng)
        + style.bar_spread * _smooth_noise(count, _BAR_QUARTERS / _GRID_QUARTER, rng)
        + np.convolve(hesitation, np.ones(round(1 / _GRID_QUARTER)))[:count]
    )


def _smooth_noise(count: int, width: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise (count,) of unit variance that changes over `width` points."""
    noise = gaussian_filter1d(rng.normal(size=count + int(4 * width)), width / 2.5, mode="wrap")[:count]
    return np.asarray(noise / (noise.std() + 1e-9) if count > 4 else noise, np.float64)


def _rolls(notes: ScoreNotes, style: Style, rng: np.random.Generator) -> NDArray[np.float64]:
    """The delay of each note in seconds; only notes of chords that are spread upwards have a delay."""
    delay = np.zeros(len(notes.pitch))
    beat = np.round(notes.onset_quarter, 3)
    order = np.lexsort((notes.pitch, beat))
    for start, stop in _runs(beat[order]):
        if stop - start >= 3 and rng.random() < style.roll_probability:
            delay[order[start:stop]] = np.arange(stop - start) * rng.uniform(0.015, 0.05)
    return delay


def _velocities(notes: ScoreNotes, style: Style, rng: np.random.Generator) -> NDArray[np.int64]:
    """MIDI velocities (n,): slow swells, a louder melody, a balance of the hands, and an uneven touch."""
    slots = np.round(notes.onset_quarter / _GRID_QUARTER).astype(np.int64)
    swell = _smooth_noise(int(slots.max()) + 1, 4 * style.phrase_quarters, rng)[slots]
    melody = style.voicing * (_is_highest(notes) - 0.5)
    lower = notes.pitch < np.median(notes.pitch)
    balance = style.hands * _smooth_noise(int(slots.max()) + 1, 8 * style.phrase_quarters, rng)[slots]
    touch = rng.normal(0, 5.0, len(slots))
    loudness = style.loudness + style.loudness_spread * swell + melody - lower * (style.voicing / 4 + balance) + touch
    return np.clip(loudness, 12, 124).astype(np.int64)


def _is_highest(notes: ScoreNotes) -> NDArray[np.bool_]:
    """Whether each note is the highest that sounds when it begins: bool (n,)."""
    order = np.argsort(notes.onset_quarter, kind="stable")
    highest = np.zeros(len(order), bool)
    sounding: list[tuple[float, int]] = []
    for start, stop in _runs(np.round(notes.onset_quarter[order], 3)):
        together = order[start:stop]
        now = float(notes.onset_quarter[together[0]])
        sounding = [(end, pitch) for end, pitch in sounding if end > now + 1e-3]
        sounding += [(now + float(notes.duration_quarter[note]), int(notes.pitch[note])) for note in together]
        top = max(pitch for _, pitch in sounding)
        highest[together] = notes.pitch[together] >= top
    return highest


def _runs(values: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The start and stop of each run of equal values."""
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1.0))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True))


def _pedal(
    beat_quarter: NDArray[np.float64], beat_s: NDArray[np.float64], style: Style, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The times (p, 2) when the pedal goes down and up: some of the stretches of two to four quarters are pedalled.

    The pedal is changed just after the beat.
    """
    stretch = int(rng.choice((2, 3, 4)) / _GRID_QUARTER)
    edges = beat_s[::stretch]
    pedalled = rng.random(len(edges) - 1) < style.pedal
    return np.stack([edges[:-1] + 0.06, edges[1:]], axis=1)[pedalled] if len(edges) > 1 else np.zeros((0, 2))
