"""Draws batches of pairs (a snippet and an excerpt) from pieces that lie in the memory of a device, CPU or GPU.

A GPU learns from 12,000 to 50,000 pairs a second, and a core of a CPU draws 250. So a GPU draws and changes its pairs
itself: all strips lie side by side in one tensor, all coded spectrograms in another, and a batch is gathered from both.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engine.audio.spectrograms import MAX_GAIN, MEAN_MAGNITUDE
from engine.config import FrontEnd
from indexer.errors import CorpusError
from indexer.training import augmentation
from indexer.training.augmentation import Augmentation, Dice
from indexer.training.material import TrainingPiece, decoded

NEAR_DUPLICATE_QUARTERS = 1.0
"""Two onsets of one piece that are closer than this, in quarters, are not negatives of each other."""

_MAX_EMPTY_DRAWS = 2000
"""Draws one after the other without a whole pair, after which there is taken to be none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Tensors of n pairs on one device; row i of each is pair i."""

    snippets: Tensor
    """uint8 (n, strip_rows / 2, snippet_px / 2), white = 255."""
    excerpts: Tensor
    """float32 (n, bands, excerpt_frames): compressed magnitudes; 92 or 184 bands."""
    ignored: Tensor
    """bool (n, n), True where two pairs are nearly the same music; False on the diagonal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """Onsets drawn, and where to read them; each a tensor (n,)."""

    piece: Tensor
    printed: Tensor
    """Number of the print that gives the snippet."""
    quarter: Tensor
    left: Tensor
    """Column of the concatenated strips where the snippet starts if it is neither shifted nor scaled."""
    start: Tensor
    """Frame of the concatenated spectrograms where the excerpt starts, not rounded."""
    factor: Tensor
    """Frames of the recording for one frame of the excerpt."""

    def kept(self, which: Tensor) -> "_Drawn":
        """Some of the onsets; which: their indices."""
        return _Drawn(**{field.name: getattr(self, field.name)[which] for field in dataclasses.fields(self)})

    @classmethod
    def joined(cls, parts: Sequence["_Drawn"]) -> "_Drawn":
        """The onsets of all parts, one part after the other."""
        return cls(
            **{field.name: torch.cat([getattr(one, field.name) for one in parts]) for field in dataclasses.fields(cls)}
        )


class PairSource:
    """Draws pairs from pieces. The same seed draws the same pairs on devices of the same type."""

    def __init__(
        self,
        pieces: Sequence[TrainingPiece],
        front_end: FrontEnd,
        changes: Augmentation,
        device: torch.device | str = "cpu",
    ) -> None:
        """changes: the strengths of the augmentation. device: where the pieces are copied to, and batches lie.

        Prints without onsets, and pieces with one onset at most, are left out.
        Raises CorpusError if no piece is left, or if strips or spectrograms do not fit the front end.
        """
        self._device = torch.device(device)
        self._front_end = front_end
        self._changes = changes
        self._height, self._width = front_end.strip_rows // 2, front_end.snippet_px // 2
        pieces = _with_onsets(pieces)
        _check_heights(pieces, self._height)
        prints = [printed for piece in pieces for printed in piece.prints]
        played = [rendition for piece in pieces for rendition in piece.recordings]
        codes = [rendition.codes(front_end.bands) for rendition in played]
        self._strips = self._tensor(np.concatenate([printed.strip for printed in prints], axis=1))
        self._codes = self._tensor(np.concatenate([coded.T for coded in codes]))
        self._magnitude = self._tensor(decoded())

        # With the root, a piece four times as long is drawn twice as often: long pieces do not crowd out short ones.
        self._weights = self._tensor(np.sqrt([len(piece.prints[0].quarters) for piece in pieces]))
        self._print_count = self._tensor([len(piece.prints) for piece in pieces])
        self._first_print = self._starts([len(piece.prints) for piece in pieces])
        self._recording_count = self._tensor([len(piece.recordings) for piece in pieces])
        self._first_recording = self._starts([len(piece.recordings) for piece in pieces])
        self._strip_start = self._starts([printed.strip.shape[1] for printed in prints])
        self._recording_start = self._starts([coded.shape[1] for coded in codes])
        self._onset_count = self._tensor([len(printed.quarters) for printed in prints])
        self._first_onset = self._starts([len(printed.quarters) for printed in prints])
        self._quarters = self._tensor(np.concatenate([printed.quarters for printed in prints]))
        self._columns = self._tensor(np.concatenate([printed.columns for printed in prints]))
        # The frame of each onset of each print in each recording of the piece, print after print.
        frames = [
            np.interp(printed.quarters, rendition.beat_quarter, rendition.beat_frame).astype(np.float32)
            for piece in pieces
            for printed in piece.prints
            for rendition in piece.recordings
        ]
        self._frames = self._tensor(np.concatenate(frames))
        self._first_frame = self._starts(
            [len(piece.recordings) * len(printed.quarters) for piece in pieces for printed in piece.prints]
        )

    def batch(self, size: int, onsets_a_piece: int, seed: int) -> Batch:
        """A batch of `size` pairs. A piece drawn gives up to `onsets_a_piece` pairs, so that some negatives are hard.

        The snippet of an onset comes from a random print of the piece, the excerpt from a random recording. An onset
        whose snippet or excerpt would leave its strip or its recording gives none.
        Raises CorpusError if that holds for all of them.
        """
        dice = Dice(seed, self._device)
        parts: list[_Drawn] = []
        rows: list[Tensor] = []
        columns: list[Tensor] = []
        missing, empty = size, 0
        while missing > 0:
            drawn = self._draw(math.ceil(1.5 * missing / onsets_a_piece), onsets_a_piece, dice)
            grid = augmentation.sampling_grid(len(drawn.piece), self._height, self._width, self._changes, dice)
            whole = torch.nonzero(self._is_whole(drawn, grid[1]))[:missing, 0]
            parts.append(drawn.kept(whole))
            rows.append(grid[0][whole])
            columns.append(grid[1][whole])
            missing -= len(whole)
            empty = 0 if len(whole) else empty + 1
            if empty == _MAX_EMPTY_DRAWS:
                raise CorpusError(
                    f"no onset of any piece has a whole snippet of {self._width} columns and a whole excerpt of "
                    f"{self._front_end.excerpt_frames} frames: the corpus needs longer pieces"
                )
        drawn = _Drawn.joined(parts)
        near = (drawn.quarter[:, None] - drawn.quarter).abs() < NEAR_DUPLICATE_QUARTERS
        same = drawn.piece[:, None] == drawn.piece
        return Batch(
            snippets=self._snippets(drawn.left, torch.cat(rows), torch.cat(columns), dice),
            excerpts=self._excerpts(drawn.start, drawn.factor, dice),
            ignored=same & near & ~torch.eye(size, dtype=torch.bool, device=self._device),
        )

    def _draw(self, pieces: int, onsets_a_piece: int, dice: Dice) -> _Drawn:
        """`onsets_a_piece` onsets of each of some pieces."""
        drawn = torch.multinomial(self._weights, pieces, replacement=True, generator=dice.generator)
        piece = drawn.repeat_interleave(onsets_a_piece)
        printed = self._first_print[piece] + dice.integers(self._print_count[piece])
        nth = dice.integers(self._recording_count[piece])
        onset = dice.integers(self._onset_count[printed])
        column = self._columns[self._first_onset[printed] + onset]
        frame = self._frames[self._first_frame[printed] + nth * self._onset_count[printed] + onset]
        factor = torch.exp(dice.normal(len(piece), deviation=self._changes.tempo, cut=2.5)).double()
        recording = self._first_recording[piece] + nth
        start = frame - self._front_end.excerpt_frames / 2 * factor
        # Before and after a recording and a strip lie others. What would read them is marked by a negative start.
        last = start + (self._front_end.excerpt_frames - 1) * factor
        frames = self._recording_start[recording + 1] - self._recording_start[recording]
        inside = (start >= 0) & (last <= frames - 1)
        return _Drawn(
            piece=piece,
            printed=printed,
            quarter=self._quarters[self._first_onset[printed] + onset],
            left=self._strip_start[printed] + torch.round(column).long() - self._width // 2,
            start=torch.where(inside, self._recording_start[recording] + start, -1.0),
            factor=factor,
        )

    def _is_whole(self, drawn: _Drawn, columns: Tensor) -> Tensor:
        """Whether each onset's snippet and excerpt lie in one strip and in one recording, bool (n,)."""
        ends = (drawn.left + columns.amin((1, 2)).floor().long(), drawn.left + columns.amax((1, 2)).ceil().long())
        inside = (ends[0] >= self._strip_start[drawn.printed]) & (ends[1] < self._strip_start[drawn.printed + 1])
        return inside & (drawn.start >= 0)

    def _snippets(self, left: Tensor, rows: Tensor, columns: Tensor, dice: Dice) -> Tensor:
        """The snippets read between the pixels of the strips, uint8.

        rows, columns: where each pixel is read, from below the upper margin and from `left` on.
        """
        height, width = self._strips.shape
        first, last = math.floor(columns.min()), math.ceil(columns.max())
        read = left[:, None] + torch.arange(first, last + 1, device=self._device)
        stretches = self._strips[:, read.clamp(0, width - 1)].transpose(0, 1)
        grid = torch.stack([columns - first, rows + (height - self._height) // 2], dim=3)
        span = torch.tensor([last - first, height - 1], device=self._device)
        snippets = functional.grid_sample(
            stretches.unsqueeze(1) / 255, grid / span * 2 - 1, align_corners=True, padding_mode="border"
        ).squeeze(1)
        return (augmentation.changed_snippets(snippets, self._changes, dice) * 255).round().to(torch.uint8)

    def _excerpts(self, start: Tensor, factor: Tensor, dice: Dice) -> Tensor:
        """The excerpts from these frames on, augmented and compressed, float32 (n, bands, frames)."""
        steps = torch.arange(self._front_end.excerpt_frames, device=self._device)
        at = start[:, None] + factor[:, None] * steps
        before = at.floor().long()
        after = (before + 1).clamp_max(len(self._codes) - 1)
        magnitudes = torch.lerp(
            self._magnitude[self._codes[before].int()],
            self._magnitude[self._codes[after].int()],
            (at - before).float()[:, :, None],
        ).transpose(1, 2)
        return self._compressed(augmentation.changed_magnitudes(magnitudes, self._changes, dice).contiguous())

    def _compressed(self, magnitudes: Tensor) -> Tensor:
        """Excerpts after gain and compression, as `engine.audio.compressed` makes them, float32 (n, bands, frames)."""
        if self._front_end.gain == "excerpt":
            mean = magnitudes.mean((1, 2), keepdim=True)
            magnitudes = magnitudes * (MEAN_MAGNITUDE / mean.clamp_min(MEAN_MAGNITUDE / MAX_GAIN))
        return torch.log1p(magnitudes * self._front_end.compression) / math.log(10)

    def _tensor(self, values: NDArray[Any] | list[int]) -> Tensor:
        """The values on the device."""
        return torch.as_tensor(np.asarray(values)).to(self._device)

    def _starts(self, lengths: list[int]) -> Tensor:
        """Where each of some stretches begins that follow one another, and where the last ends, int64."""
        return self._tensor(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))


def _with_onsets(pieces: Sequence[TrainingPiece]) -> list[TrainingPiece]:
    """The pieces of two onsets or more, without prints that have none. Raises CorpusError if there is no such piece."""
    found = []
    for piece in pieces:
        prints = tuple(printed for printed in piece.prints if len(printed.quarters) > 0)
        if any(len(printed.quarters) > 1 for printed in prints):
            found.append(dataclasses.replace(piece, prints=prints))
    if not found:
        raise CorpusError(f"expected pieces with two onsets or more, got {len(pieces)} pieces without")
    return found


def _check_heights(pieces: Sequence[TrainingPiece], least: int) -> None:
    """Raises CorpusError if strips differ in height, or are lower than `least`."""
    expected = max(least, pieces[0].prints[0].strip.shape[0])
    for piece in pieces:
        for printed in piece.prints:
            if printed.strip.shape[0] != expected:
                raise CorpusError(
                    f"the prints of {piece.name!r}: expected strips of {expected} rows, got {printed.strip.shape[0]}; "
                    "all prints of a corpus must be made with the front_end that is trained"
                )
