"""Degrades clean pages and clean audio, so that they look and sound like old prints, scans and recordings.

All random numbers come from the generator passed in, so a page or a recording can be made again from its seed.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.signal
import soundfile
import soxr
from numpy.random import Generator
from numpy.typing import NDArray

from engine.audio import SAMPLE_RATE, Samples
from indexer.synthesis.acoustics import Acoustics

Page = NDArray[np.uint8]
Points = NDArray[np.float64]
Field = NDArray[np.float32]

NO_ACOUSTICS = Acoustics()
"""No recorded rooms, media and noises."""

MAX_DETUNE_CENTS = 40.0
"""Largest detuning. A recording is at most 2 ** (40 / 1200) = 1.0234 times faster or slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DegradedPage:
    """A page that looks like a scan."""

    image: Page
    """uint8 (h, w), white = 255, as large as the clean page."""
    warp: Callable[[Points], Points]
    """Maps float (n, 2) points (x, y), in pixels of the clean page, to their places on `image`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DegradedAudio:
    """A recording that sounds as from an old disc, a cheap microphone or a room."""

    samples: Samples
    """float32 (m,), mono, 22,050 Hz."""
    time_factor: float
    """Factor from the time in the clean audio to the time in `samples`; within 1 +- 0.024."""


def degrade_page(page: Page, staff_space_px: float, rng: Generator, strength: float = 1.0) -> DegradedPage:
    """The page printed, aged and scanned; about half of the scans have 1 bit a pixel.

    The page is resampled to the resolution of a scan (a staff space of 7 to 16 px, at most that of the page). At this
    resolution it is bent, inked and dirtied, then made black and white or put on paper, and resampled to its own size.

    page: uint8 (h, w), white = 255. staff_space_px: distance of two staff lines.
    strength: 0..1, the largest damage. The damage of a page is random, so some pages stay nearly clean at any strength.
    """
    harm = strength * float(rng.beta(1.3, 1.1))
    scale = min(1.0, float(rng.uniform(7.0, 16.0 if rng.random() < 0.4 else 11.0)) / staff_space_px)
    space = staff_space_px * scale
    scan = np.asarray(cv2.resize(page, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    displacement = _displacement((scan.shape[0], scan.shape[1]), space, harm, rng)
    darkness = _remap(255 - scan, displacement)
    darkness = np.maximum(darkness, _dirt(darkness.shape, space, harm, rng))
    if rng.random() < 0.55:
        image = _bilevel(darkness, space, harm, rng)
    else:
        image = _grey(darkness, space, harm, rng)
    height, width = page.shape
    full = image if image.shape == page.shape else cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    # Between pixel centres: one pixel of the page is exactly these many pixels of the scan.
    factors = np.array([scan.shape[1] / width, scan.shape[0] / height])

    def warp(points: Points) -> Points:
        source = (np.asarray(points, np.float64) + 0.5) * factors - 0.5
        target = source
        for _ in range(6):  # converges, because the displacement changes by less than 0.05 px a px
            target = source - displacement(target)
        back: Points = (target + 0.5) / factors - 0.5
        return back

    return DegradedPage(image=np.asarray(full, np.uint8), warp=warp)


def _displacement(shape: tuple[int, int], space: float, harm: float, rng: Generator) -> Callable[[Points], Points]:
    """A function from points (n, 2) of the scan to their source minus themselves: skew about the centre and a bend."""
    centre = np.array([shape[1] / 2, shape[0] / 2])
    angle = float(np.clip(rng.normal(0.0, 0.45), -1.5, 1.5)) * min(1.0, 1.5 * harm) * np.pi / 180
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) - np.eye(2)
    square, cube, wave, slant, squeeze = rng.normal(0.0, 0.35, 5) * harm * space
    phase, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.2)

    def displacement(points: Points) -> Points:
        offset = points - centre
        u, v = (offset / centre).T
        down = square * u**2 + cube * u**3 + wave * np.sin(np.pi * stretch * u + phase) + slant * u * v
        moved: Points = offset @ rotation.T + np.stack([squeeze * v**2, down], axis=1)
        return moved

    return displacement


def _remap(scan: Page, displacement: Callable[[Points], Points]) -> Page:
    """The scan (ink = 255) bent. The displacement is smooth, so it is computed on a coarse grid and interpolated."""
    height, width = scan.shape
    rows, columns = height // 16 + 2, width // 16 + 2
    # cv2.resize takes values to be at the centres of the cells.
    y = (np.arange(rows) + 0.5) * (height / rows) - 0.5
    x = (np.arange(columns) + 0.5) * (width / columns) - 0.5
    grid = np.stack(np.meshgrid(x, y), axis=2).reshape(-1, 2)
    coarse = displacement(grid).astype(np.float32).reshape(rows, columns, 2)
    field = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    field[..., 0] += np.arange(width, dtype=np.float32)
    field[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(scan, field, np.empty(0, np.float32), cv2.INTER_CUBIC, borderValue=0), np.uint8)


def _noise(shape: tuple[int, ...], cell_px: float, rng: Generator) -> Field:
    """Smooth noise of roughly unit variance with grains `cell_px` wide: float32 `shape`."""
    rows, columns = (max(2, int(n / cell_px) + 1) for n in shape)
    grains = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(grains, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def _dirt(shape: tuple[int, ...], space: float, harm: float, rng: Generator) -> Page:
    """Specks, and by chance pencil marks and a dark edge: uint8 `shape`, ink = 255."""
    dirt = np.zeros(shape, np.uint8)
    height, width = shape
    for _ in range(rng.poisson(60 * harm**2)):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        radii = tuple(int(r) for r in np.minimum(rng.exponential(0.06, 2) * space, 0.4 * space))
        cv2.ellipse(dirt, centre, radii, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(90, 256)), -1)
    if rng.random() < 0.6 * harm:  # salt and pepper
        peppered = rng.integers(height * width, size=int(height * width * 0.0006 * harm * rng.random()))
        dirt.reshape(-1)[peppered] = 255
    if rng.random() < 0.3 * harm:
        _pencil(dirt, space, rng)
    if rng.random() < 0.3 * harm:
        edge = max(1, int(rng.uniform(0.002, 0.012) * width))
        side = int(rng.integers(4))
        np.rot90(dirt, side)[:, :edge] = 255
    return dirt


def _pencil(dirt: Page, space: float, rng: Generator) -> None:
    """Draws a few grey strokes and rings into `dirt`, at most about a system high."""
    height, width = dirt.shape
    for _ in range(int(rng.integers(1, 8))):
        start = rng.uniform((0, 0), (width, height))
        turn = np.cumsum(rng.normal(rng.uniform(-0.3, 0.3), 0.25, 24)) + rng.uniform(0, 2 * np.pi)
        step = space * rng.uniform(0.1, 0.6)
        path = start + step * np.cumsum(np.stack([np.cos(turn), np.sin(turn)], axis=1), axis=0)
        thickness = max(1, round(space * rng.uniform(0.05, 0.2)))
        shade = int(rng.integers(70, 200))
        cv2.polylines(dirt, [np.rint(path).astype(np.int32)], False, shade, thickness, cv2.LINE_AA)


def _ink(darkness: Page, space: float, harm: float, rng: Generator) -> Field:
    """Signed ink, float32, in units of full ink; values above 0 become black in a 1-bit scan.

    The print is blurred and a random threshold is subtracted. A low threshold spreads ink over the edges; a high
    threshold loses ink. The threshold is relative to the ink of thin lines, so that at any resolution staff lines stay
    whole, thin out or break.
    """
    grains = _noise(darkness.shape, max(1.0, 0.12 * space), rng) * np.float32(
        rng.uniform(0.01, 0.02 + 0.12 * harm**1.5)
    )
    coarse = _noise(darkness.shape, space * rng.uniform(3, 25), rng) * np.float32(rng.uniform(0, 0.08) * harm)
    ink = np.asarray(cv2.GaussianBlur(darkness, (0, 0), 0.3 + space * float(rng.uniform(0.0, 0.09)) * harm), np.float32)
    ink *= np.float32(1 / 255)
    thin = _thin_ink(ink)
    threshold = thin * float(rng.uniform(0.65 - 0.25 * harm, 0.65 + 0.4 * harm))
    ink -= threshold
    # The noise is clipped, so that it changes edges and thin strokes, but neither full ink nor bare paper.
    ink += np.clip(grains + coarse, -0.8 * thin, 0.8 * threshold)
    return ink


def _thin_ink(ink: Field) -> float:
    """The ink, 0..1, that nine in ten strokes reach; most strokes that a column crosses are staff lines."""
    columns = np.ascontiguousarray(ink[:, ::8])
    peaks = columns[(columns >= cv2.dilate(columns, np.ones((3, 1), np.uint8))) & (columns > 0.15)]
    return float(np.quantile(peaks, 0.1)) if peaks.size else 1.0


def _bilevel(darkness: Page, space: float, harm: float, rng: Generator) -> Page:
    """The scan in black and white, as most public scans are: uint8, 0 or 255."""
    ink = _ink(darkness, space, harm, rng)
    return np.asarray(cv2.threshold(ink, 0.0, 255.0, cv2.THRESH_BINARY_INV)[1], np.uint8)


def _grey(darkness: Page, space: float, harm: float, rng: Generator) -> Page:
    """The scan in grey, uint8: soft ink on shaded, rough, stained paper; by chance with show-through and JPEG noise."""
    shape = darkness.shape
    ink = _ink(darkness, space, harm, rng)
    ink = np.clip(ink * np.float32(rng.uniform(2.0, 6.0)) + np.float32(0.5), 0, 1)
    if rng.random() < 0.4 * harm:
        behind = cv2.GaussianBlur(darkness[:, ::-1], (0, 0), 0.15 * space).astype(np.float32)
        ink = np.maximum(ink, behind * np.float32(rng.uniform(0.03, 0.2) / 255))
    ink = cv2.GaussianBlur(ink, (0, 0), 0.25 + space * float(rng.uniform(0, 0.09)) * harm)
    white = rng.uniform(255 - 80 * harm, 255)
    black = rng.uniform(0, 15 + 75 * harm)
    grey = white - (white - black) * ink
    grey *= _paper(shape, harm, rng)
    grey += _noise(shape, rng.uniform(1.0, 2.5), rng) * np.float32(rng.uniform(0, 8) * harm)
    image = np.clip(grey, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = int(rng.uniform(95 - 65 * harm, 95))
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    return np.asarray(image, np.uint8)


def _paper(shape: tuple[int, ...], harm: float, rng: Generator) -> Field:
    """The light that the paper reflects, 0..1: float32 `shape`, with a shade towards a side, fibres and stains."""
    height, width = shape
    y, x = np.mgrid[-1:1:32j, -1:1:32j].astype(np.float32)
    tilt = rng.normal(0, 0.08, 2) * harm
    shade = 1 + tilt[0] * x + tilt[1] * y
    if rng.random() < 0.35 * harm:  # the shadow of the spine
        shade -= rng.uniform(0.1, 0.5) * np.exp(-(1 + x * rng.choice([-1, 1])) / rng.uniform(0.04, 0.2))
    for _ in range(int(rng.poisson(1.0 * harm))):
        (cx, cy), radius = rng.uniform(-1, 1, 2), rng.uniform(0.05, 0.4)
        shade -= rng.uniform(0.02, 0.2) / (1 + np.exp((np.hypot(x - cx, y - cy) - radius) / 0.03))
    paper = cv2.resize(shade.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    paper += _noise(shape, rng.uniform(2, 8), rng) * np.float32(rng.uniform(0, 0.02) * harm)
    paper += _noise(shape, rng.uniform(40, 200), rng) * np.float32(rng.uniform(0, 0.03) * harm)
    return np.asarray(np.clip(paper, 0.2, 1.0), np.float32)


def degrade_audio(
    samples: Samples, rng: Generator, strength: float = 1.0, acoustics: Acoustics = NO_ACOUSTICS
) -> DegradedAudio:
    """The audio detuned, coloured, put in a room, with noise and compressed, each by chance.

    samples: float32 (n,), mono, 22,050 Hz, n >= 1. strength: 0..1, the largest damage; the damage of a call is random.
    acoustics: recorded rooms, media and noises, used in about half of the calls.
    Source of the detuning range: tuning of recordings from about 430 to 450 Hz, and discs that turn at another speed.
    """
    harm = strength * float(rng.beta(1.3, 1.1))
    factor = float(2 ** (rng.uniform(-1, 1) * strength * MAX_DETUNE_CENTS / 1200))
    sound = soxr.resample(samples, SAMPLE_RATE, SAMPLE_RATE * factor, quality="MQ")
    length = len(sound)
    filters = scipy.signal.fftconvolve(_equaliser(harm, rng), _medium(harm, rng, acoustics))
    response = scipy.signal.fftconvolve(filters, _room(harm, rng, acoustics)).astype(np.float32)
    sound = scipy.signal.oaconvolve(sound, response)[_HALF_TAPS : _HALF_TAPS + length].astype(np.float32)
    level = float(np.sqrt(np.mean(sound**2))) + 1e-9
    if rng.random() < 0.4 * harm:
        sound = _compress(sound, level, float(rng.uniform(0.1, 0.5)))
    if rng.random() < 0.8:
        sound += _background(length, harm, rng, acoustics) * np.float32(level)
    if rng.random() < 0.25 * harm:
        drive = np.float32(rng.uniform(0.1, 0.4) / level)
        sound = np.tanh(sound * drive) / drive
    peak = float(np.abs(sound).max(initial=0.0)) + 1e-9
    sound *= np.float32(10 ** (-rng.uniform(0, 25 * strength) / 20) * min(1.0, 0.99 / peak))
    if rng.random() < 0.4 * harm:
        sound = mp3(sound, float(rng.uniform(0.2, 0.6)))
    return DegradedAudio(samples=sound, time_factor=factor)


def mp3(samples: Samples, compression: float) -> Samples:
    """The samples after MP3 at a constant rate: `compression` 0.2 is about 128 kbit/s, 0.6 about 64.

    samples: float32 (n,), mono, 22,050 Hz. Returns float32 (n,), not delayed.
    """
    coded = io.BytesIO()
    soundfile.write(coded, samples, SAMPLE_RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=compression)
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float32")
    return np.asarray(decoded[: len(samples)], np.float32)


_HALF_TAPS = 512
"""Half the length of the equaliser, which is its delay; the delay is removed after filtering."""


def _equaliser(harm: float, rng: Generator) -> Samples:
    """A linear-phase filter with a tilt, humps, and the band limits of a medium: float32 (1025,)."""
    frequency = np.fft.rfftfreq(2 * _HALF_TAPS, 1 / SAMPLE_RATE)
    octave = np.log2(np.maximum(frequency, 20.0) / 700.0)
    knots = np.linspace(octave[0], octave[-1], 12)
    gain_db = np.clip(rng.normal(0, 2.5) * harm * octave, -15, 15)
    gain_db += np.interp(octave, knots, rng.normal(0, 5.0, 12) * harm)
    if rng.random() < 0.5 * harm:  # small loudspeaker, acoustic horn
        gain_db -= 10 * np.log10(1 + (rng.uniform(60, 300) / np.maximum(frequency, 1.0)) ** 4)
    if rng.random() < 0.5 * harm:  # shellac, cheap microphone
        gain_db -= 10 * np.log10(1 + (frequency / rng.uniform(2500, 9000)) ** rng.choice([4, 8]))
    if rng.random() < 0.3 * harm:  # cut-off of a codec
        gain_db[frequency > rng.uniform(3800, 10000)] = -80
    taps = np.roll(np.fft.irfft(10 ** (gain_db / 20)), _HALF_TAPS)
    return np.asarray(np.append(taps, 0.0) * np.hanning(2 * _HALF_TAPS + 1), np.float32)


def _medium(harm: float, rng: Generator, acoustics: Acoustics) -> Samples:
    """The response of a loudspeaker, radio or old recorder, float32 (k,); mostly that of no medium, a single 1."""
    recorded = acoustics.medium(rng) if rng.random() < 0.25 * harm else None
    return np.ones(1, np.float32) if recorded is None else recorded


def _room(harm: float, rng: Generator, acoustics: Acoustics) -> Samples:
    """The response of a room, float32 (k,): direct sound, then a recorded room or dull noise that decays in 0.2-3 s."""
    if rng.random() > 0.3 + 0.6 * harm:
        return np.ones(1, np.float32)
    recorded = acoustics.room(rng) if rng.random() < 0.6 else None
    if recorded is not None:
        wet = float(rng.uniform(0.1, 0.35 + 0.6 * harm))
        mixed = wet * recorded
        mixed[0] += 1 - wet
        return np.asarray(mixed, np.float32)
    decay_s = rng.uniform(0.2, 0.5 + 2.5 * harm)
    t = np.arange(int(0.7 * decay_s * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    tail = rng.standard_normal(len(t), dtype=np.float32) * np.exp(-6.9 / decay_s * t)
    dull = rng.uniform(0.2, 0.85)
    tail = scipy.signal.lfilter([1 - dull], [1, -dull], tail)
    wet = rng.uniform(0.05, 0.2 + 0.8 * harm)
    tail *= wet / np.sqrt(np.sum(tail**2) + 1e-9)
    before = np.zeros(1 + int(rng.uniform(0.002, 0.03) * SAMPLE_RATE))
    before[0] = 1.0
    return np.append(before, tail).astype(np.float32)


def _compress(sound: Samples, level: float, amount: float) -> Samples:
    """The sound with evened loudness, measured in blocks of 50 ms; `amount` 0 changes nothing, 1 makes it constant."""
    block = SAMPLE_RATE // 20
    padded = np.pad(sound, (0, -len(sound) % block)).reshape(-1, block)
    loudness = np.sqrt(np.mean(padded**2, axis=1)) + 0.05 * level
    gain = (loudness / level) ** -amount
    middles = (np.arange(len(gain)) + 0.5) * block
    return np.asarray(sound * np.interp(np.arange(len(sound)), middles, gain), np.float32)


def _background(length: int, harm: float, rng: Generator, acoustics: Acoustics) -> Samples:
    """Hiss, and by chance hum, crackle and a recorded noise bed, for music of RMS 1: float32 (length,)."""
    colour = rng.uniform(0, 0.95)
    hiss = rng.standard_normal(length, dtype=np.float32)
    hiss = scipy.signal.lfilter([np.sqrt(1 - colour**2)], [1, -colour], hiss)
    noise = hiss * 10 ** (-rng.uniform(35 - 25 * harm, 65) / 20)
    if rng.random() < 0.3 * harm:
        turns = np.arange(length, dtype=np.float32) * np.float32(2 * np.pi * rng.choice([50, 60]) / SAMPLE_RATE)
        hum = 10 ** (-rng.uniform(20, 50) / 20)
        for harmonic in range(1, 5):
            noise += hum / harmonic * np.sin(harmonic * turns + rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.3 * harm:
        clicks = np.zeros(length, np.float32)
        places = rng.integers(length, size=rng.poisson(rng.uniform(1, 30) * length / SAMPLE_RATE))
        clicks[places] = rng.exponential(rng.uniform(0.2, 2.0), len(places)) * rng.choice([-1, 1], len(places))
        noise += scipy.signal.lfilter([1.0], [1, -rng.uniform(0.1, 0.8)], clicks)
    bed = acoustics.noise(length, rng) if rng.random() < 0.5 else None
    if bed is not None:
        noise += bed * np.float32(10 ** (-rng.uniform(38 - 24 * harm, 60) / 20))
    return np.asarray(noise, np.float32)
