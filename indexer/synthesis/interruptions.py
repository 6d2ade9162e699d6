"""Sounds before, between and after music that are no music: applause, speech, the noise of a room.

A recording of a concert begins with talk and ends with applause. The calibration lays these sounds round music, so that
confidence knows them (`indexer.training.calibrate`). They are made from random numbers alone, and sound roughly right.
"""

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import fftconvolve, lfilter

from engine.audio import SAMPLE_RATE, Samples

VOICED_SHARE = 0.75
"""Share of the syllables that have a pitch; the others are hissed."""


def interruptions(seconds: float, rng: Generator) -> Iterator[Samples]:
    """Yields one sound of each kind, float32 (n,) in -1..1, at 22,050 Hz."""
    count = round(seconds * SAMPLE_RATE)
    for make in (applause, speech, room_noise):
        samples = make(count, rng)
        yield np.asarray(samples / (2 * np.max(np.abs(samples))), dtype=np.float32)


def applause(count: int, rng: Generator) -> Samples:
    """Returns `count` samples of some dozens of people who clap."""
    people, clap = int(rng.integers(8, 80)), np.arange(SAMPLE_RATE // 30)
    times = rng.integers(0, count, round(people * 4 * count / SAMPLE_RATE))
    sound = np.zeros(count)
    for shape in np.array_split(times, 12):
        hands = np.zeros(count)
        np.add.at(hands, shape, rng.lognormal(0, 0.7, len(shape)))
        hertz, decay = rng.uniform(700, 2500), rng.uniform(150, 500)
        ring = np.sin(2 * np.pi * hertz * clap / SAMPLE_RATE) + rng.normal(0, 1, len(clap))
        sound += fftconvolve(hands, ring * np.exp(-decay * clap / SAMPLE_RATE), mode="full")[:count]
    return sound.astype(np.float32)


def speech(count: int, rng: Generator) -> Samples:
    """Returns `count` samples of one voice: syllables of a gliding pitch or of a hiss, through changing formants."""
    low = rng.uniform(90, 220)
    sound: list[NDArray[np.float64]] = []
    while sum(len(part) for part in sound) < count:
        length = round(rng.uniform(0.1, 0.35) * SAMPLE_RATE)
        pitch = low * 2 ** (rng.uniform(-0.4, 0.4) + np.linspace(0, rng.uniform(-0.3, 0.2), length))
        pulses = np.diff(np.floor(np.cumsum(pitch) / SAMPLE_RATE), prepend=0)
        syllable = pulses if rng.random() < VOICED_SHARE else rng.normal(0, 0.05, length)
        for formant in (rng.uniform(300, 800), rng.uniform(900, 2300), rng.uniform(2400, 3200)):
            pole = 0.97 * np.exp(2j * np.pi * formant / SAMPLE_RATE)
            syllable = lfilter([1.0], np.poly([pole, pole.conjugate()]).real, syllable)
        sound.append(syllable / (np.max(np.abs(syllable)) + 1e-9) * np.hanning(length) * rng.uniform(0.4, 1))
        if rng.random() < 0.15:  # a breath
            sound.append(np.zeros(round(rng.uniform(0.15, 0.7) * SAMPLE_RATE)))
    return np.concatenate(sound)[:count].astype(np.float32)


def room_noise(count: int, rng: Generator) -> Samples:
    """Returns `count` samples of noise whose power falls with the frequency, with the hum of the mains."""
    noise = lfilter([1.0], [1.0, -rng.uniform(0.8, 0.995)], rng.normal(0, 1, count))
    hum = np.sin(2 * np.pi * 50 * np.arange(count) / SAMPLE_RATE)
    return np.asarray(noise / np.std(noise) + rng.uniform(0, 1) * hum, dtype=np.float32)
