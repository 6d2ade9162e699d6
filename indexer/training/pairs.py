"""Takes in memory -> batches of snippet pairs, with light augmentation.

Heavy damage (scans, rooms) is done once, when the corpus is made; here only what costs microseconds a pair: shifts,
contrast, tempo by resampling an excerpt in time, equalisation and noise in the magnitude domain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.audio import BANDS, normalise_gain
from engine.config import FrontEnd
from indexer.training.corpus import Take

NEAR_DUPLICATE_QUARTERS = 1.0
"""Two onsets of one piece closer than this are not each other's negatives."""

_EQUALISER_KNOTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How far a pair is moved from what its take holds; table [augmentation] of the configuration."""

    shift_px: int = 4
    """Sideways, and up and down; pixels at half the working scale."""
    contrast: float = 0.3
    tempo: float = 0.28
    """Standard deviation of the logarithm of the factor by which an excerpt is played faster or slower; at most 2.5
    of them, so that 0.28 spans half to twice the tempo."""
    equalisation: float = 0.25
    """Standard deviation of the logarithm of smooth gains over the bands."""
    noise: float = 0.05
    """Largest mean magnitude of noise added to an excerpt, in parts of its own."""


NO_AUGMENTATION = Augmentation(shift_px=0, contrast=0.0, tempo=0.0, equalisation=0.0, noise=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """n pairs."""

    snippets: NDArray[np.uint8]
    """(n, strip_rows / 2, snippet_px / 2)"""
    excerpts: NDArray[np.float32]
    """(n, 92, excerpt_frames)"""
    ignored: NDArray[np.bool_]
    """(n, n), True where two pairs are nearly the same music."""


class PairSource:
    """Draws pairs from takes; equal generators draw equal pairs."""

    def __init__(self, takes: Sequence[Take], front_end: FrontEnd, augmentation: Augmentation) -> None:
        self._takes = [take for take in takes if len(take.quarters) > 1]
        self._front_end = front_end
        self._augmentation = augmentation
        # The root keeps a long piece from crowding out the short ones.
        weights = np.sqrt([len(take.quarters) for take in self._takes])
        self._weights = weights / weights.sum()

    def batch(self, size: int, onsets_a_piece: int, rng: np.random.Generator) -> Batch:
        """`size` pairs, up to `onsets_a_piece` of them from each take drawn, so that some negatives are hard."""
        snippets, excerpts = [], []
        pieces: list[str] = []
        quarters: list[float] = []
        while len(pieces) < size:
            take = self._takes[int(rng.choice(len(self._takes), p=self._weights))]
            for onset in rng.integers(0, len(take.quarters), onsets_a_piece):
                pair = self._pair(take, int(onset), rng)
                if pair is not None and len(pieces) < size:
                    snippets.append(pair[0])
                    excerpts.append(pair[1])
                    pieces.append(take.piece)
                    quarters.append(float(take.quarters[onset]))
        same_piece = np.array(pieces)[:, None] == np.array(pieces)
        near = np.abs(np.array(quarters)[:, None] - np.array(quarters)) < NEAR_DUPLICATE_QUARTERS
        return Batch(
            snippets=np.stack(snippets),
            excerpts=self._sound(np.stack(excerpts), rng),
            ignored=same_piece & near & ~np.eye(size, dtype=bool),
        )

    def _pair(
        self, take: Take, onset: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
        """One onset seen and heard, or None where a window would leave the strip or the spectrogram."""
        snippet = self._snippet(take.strip, float(take.columns[onset]), rng)
        excerpt = self._excerpt(take.spectrogram, float(take.frames[onset]), rng)
        return None if snippet is None or excerpt is None else (snippet, excerpt)

    def _snippet(self, strip: NDArray[np.uint8], column: float, rng: np.random.Generator) -> NDArray[np.uint8] | None:
        height, width = self._front_end.strip_rows // 2, self._front_end.snippet_px // 2
        down, right = rng.integers(-self._augmentation.shift_px, self._augmentation.shift_px + 1, 2)
        top = int(np.clip((strip.shape[0] - height) // 2 + down, 0, strip.shape[0] - height))
        left = round(column) - width // 2 + int(right)
        if left < 0 or left + width > strip.shape[1]:
            return None
        return _recontrast(strip[top : top + height, left : left + width], self._augmentation.contrast, rng)

    def _excerpt(
        self, spectrogram: NDArray[np.float16], frame: float, rng: np.random.Generator
    ) -> NDArray[np.float32] | None:
        count, last = self._front_end.excerpt_frames, spectrogram.shape[1] - 1
        factor = float(np.exp(self._augmentation.tempo * np.clip(rng.normal(), -2.5, 2.5)))
        at = frame + (np.arange(count) - count / 2) * factor
        if at[0] < 0 or at[-1] > last:
            return None
        before = at.astype(np.int64)
        weight = (at - before).astype(np.float32)
        return spectrogram[:, before] * (1 - weight) + spectrogram[:, np.minimum(before + 1, last)] * weight

    def _sound(self, excerpts: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Equalisation and noise in the magnitude domain, then the front end's gain."""
        amount, count = self._augmentation, len(excerpts)
        if amount.equalisation or amount.noise:
            magnitude = 10.0**excerpts - 1.0
            knots = np.linspace(0, _EQUALISER_KNOTS - 1, BANDS)
            gains = rng.normal(0, amount.equalisation, (count, _EQUALISER_KNOTS))
            curves = np.stack([np.interp(knots, np.arange(_EQUALISER_KNOTS), row) for row in gains])
            magnitude *= np.exp(curves, dtype=np.float32)[:, :, None]
            levels = magnitude.mean(axis=(1, 2)) * amount.noise * rng.random(count, dtype=np.float32)
            magnitude += levels[:, None, None] * rng.standard_exponential(magnitude.shape, dtype=np.float32)
            excerpts = np.log10(1.0 + magnitude)
        return normalise_gain(excerpts) if self._front_end.gain == "excerpt" else excerpts


def _recontrast(snippet: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The snippet with its greys bent and its ink a little paler."""
    if not amount:
        return snippet
    ink = (255 - np.arange(256)) / 255.0
    ink = ink ** np.exp(rng.normal(0, amount)) * (1 - amount * rng.random())
    return np.asarray(np.round(255 * (1 - ink)), np.uint8)[snippet]
