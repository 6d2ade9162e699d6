"""Draws batches of pairs (a snippet and an excerpt) from pieces in memory, with light augmentation.

Heavy damage (scans, rooms) is done once, when the corpus is made. Augmentation here costs microseconds a pair: shifts,
contrast, tempo by resampling an excerpt in time, equalisation and noise in the magnitude domain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from engine.audio import BANDS, compressed
from engine.config import FrontEnd
from indexer.training.material import Rendition, TrainingPiece, decoded

NEAR_DUPLICATE_QUARTERS = 1.0
"""Two onsets of one piece that are closer than this, in quarters, are not negatives of each other."""

_EQUALISER_KNOTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Strengths of the random changes to a pair; table [augmentation] of the configuration."""

    shift_px: int = 4
    """Largest shift of a snippet in each direction, in pixels at half the working scale."""
    contrast: float = 0.3
    """Standard deviation of the logarithm of a snippet's gamma, and largest share of ink that fades."""
    tempo: float = 0.28
    """Standard deviation of the logarithm of an excerpt's tempo factor, cut at 2.5 deviations: 0.28 spans half to twice
    the tempo."""
    equalisation: float = 0.25
    """Standard deviation of the logarithm of the bands' gains, which change smoothly from band to band."""
    noise: float = 0.05
    """Largest mean magnitude of the noise added to an excerpt, relative to the excerpt's own mean magnitude."""


NO_AUGMENTATION = Augmentation(shift_px=0, contrast=0.0, tempo=0.0, equalisation=0.0, noise=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Arrays of n pairs; row i of each is pair i."""

    snippets: NDArray[np.uint8]
    """uint8 (n, strip_rows / 2, snippet_px / 2), white = 255."""
    excerpts: NDArray[np.float32]
    """float32 (n, bands, excerpt_frames): compressed magnitudes; 92 or 184 bands."""
    ignored: NDArray[np.bool_]
    """bool (n, n), True where two pairs are nearly the same music; False on the diagonal."""


class PairSource:
    """Draws pairs from pieces. Generators in the same state draw the same pairs."""

    def __init__(self, pieces: Sequence[TrainingPiece], front_end: FrontEnd, augmentation: Augmentation) -> None:
        self._pieces = [piece for piece in pieces if max(len(printed.quarters) for printed in piece.prints) > 1]
        self._front_end = front_end
        self._augmentation = augmentation
        self._magnitude = decoded()
        # With the root, a piece four times as long is drawn twice as often: long pieces do not crowd out short ones.
        weights = np.sqrt([len(piece.prints[0].quarters) for piece in self._pieces])
        self._weights = weights / weights.sum()

    def batch(self, size: int, onsets_a_piece: int, rng: np.random.Generator) -> Batch:
        """A batch of `size` pairs. A piece drawn gives up to `onsets_a_piece` pairs, so that some negatives are hard.

        The snippet of an onset comes from a random print of the piece, the excerpt from a random recording.
        """
        snippets: list[NDArray[np.uint8]] = []
        excerpts = np.empty((size, BANDS[self._front_end.bands], self._front_end.excerpt_frames), np.float32)
        names: list[str] = []
        quarters: list[float] = []
        while len(names) < size:
            piece = self._pieces[int(rng.choice(len(self._pieces), p=self._weights))]
            for _ in range(onsets_a_piece):
                printed = piece.prints[int(rng.integers(len(piece.prints)))]
                played = piece.recordings[int(rng.integers(len(piece.recordings)))]
                onset = int(rng.integers(len(printed.quarters)))
                quarter = float(printed.quarters[onset])
                snippet = self._snippet(printed.strip, float(printed.columns[onset]), rng)
                heard = len(names) < size and self._excerpt(played, quarter, excerpts[len(names)], rng)
                if snippet is not None and heard:
                    snippets.append(snippet)
                    names.append(piece.name)
                    quarters.append(quarter)
        same_piece = np.array(names)[:, None] == np.array(names)
        near = np.abs(np.array(quarters)[:, None] - np.array(quarters)) < NEAR_DUPLICATE_QUARTERS
        return Batch(
            snippets=np.stack(snippets),
            excerpts=self._sound(excerpts, rng),
            ignored=same_piece & near & ~np.eye(size, dtype=bool),
        )

    def _snippet(self, strip: NDArray[np.uint8], column: float, rng: np.random.Generator) -> NDArray[np.uint8] | None:
        """The snippet about a column of a strip, shifted and recontrasted; None if it leaves the strip sideways."""
        height, width = self._front_end.strip_rows // 2, self._front_end.snippet_px // 2
        down, right = rng.integers(-self._augmentation.shift_px, self._augmentation.shift_px + 1, 2)
        top = int(np.clip((strip.shape[0] - height) // 2 + down, 0, strip.shape[0] - height))
        left = round(column) - width // 2 + int(right)
        if left < 0 or left + width > strip.shape[1]:
            return None
        return _recontrast(strip[top : top + height, left : left + width], self._augmentation.contrast, rng)

    def _excerpt(
        self, played: Rendition, quarter: float, magnitude: NDArray[np.float32], rng: np.random.Generator
    ) -> bool:
        """Fills `magnitude` with an excerpt about an onset, at a random tempo; False if it leaves the recording."""
        codes, count = played.codes(self._front_end.bands), self._front_end.excerpt_frames
        frame = float(np.interp(quarter, played.beat_quarter, played.beat_frame))
        factor = float(np.exp(self._augmentation.tempo * np.clip(rng.normal(), -2.5, 2.5)))
        first = frame - count / 2 * factor
        if first < 0 or first + (count - 1) * factor > codes.shape[1] - 1:
            return False
        _stretched(codes, self._magnitude, first, factor, magnitude)
        return True

    def _sound(self, magnitude: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """The magnitudes equalised, with noise, compressed as the front end says; overwrites its argument."""
        augmentation, (count, bands, _) = self._augmentation, magnitude.shape
        if augmentation.equalisation or augmentation.noise:
            knots = np.linspace(0, _EQUALISER_KNOTS - 1, bands)
            gains = rng.normal(0, augmentation.equalisation, (count, _EQUALISER_KNOTS))
            curves = np.stack([np.interp(knots, np.arange(_EQUALISER_KNOTS), row) for row in gains])
            magnitude *= np.exp(curves, dtype=np.float32)[:, :, None]
            levels = magnitude.mean(axis=(1, 2)) * augmentation.noise * rng.random(count, dtype=np.float32)
            magnitude += levels[:, None, None] * rng.standard_exponential(magnitude.shape, dtype=np.float32)
        return compressed(magnitude, self._front_end)


@numba.njit(cache=True)
def _stretched(codes, table, first, factor, magnitude):  # type: ignore[no-untyped-def]
    """Fills `magnitude` (bands, frames) from coded bands: frame i is read at `first` + i * `factor`, interpolated."""
    last = codes.shape[1] - 1
    for frame in range(magnitude.shape[1]):
        at = first + frame * factor
        before = int(at)
        after, weight = min(before + 1, last), np.float32(at - before)
        for band in range(magnitude.shape[0]):
            magnitude[band, frame] = (1 - weight) * table[codes[band, before]] + weight * table[codes[band, after]]


def _recontrast(snippet: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The snippet with a random gamma on its ink, and the ink a little paler."""
    if not amount:
        return snippet
    ink = (255 - np.arange(256)) / 255.0
    ink = ink ** np.exp(rng.normal(0, amount)) * (1 - amount * rng.random())
    return np.asarray(np.round(255 * (1 - ink)), np.uint8)[snippet]
