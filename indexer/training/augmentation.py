"""Light random changes to pairs, drawn anew each time: to snippets, and to the magnitudes of excerpts.

Heavy damage (scans, rooms) is done once, when the corpus is made. These changes cost microseconds a pair on a GPU.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from engine.audio import FRAME_RATE
from engine.config import require_positive

_EQUALISER_KNOTS = 6
_SHORTEST_DECAY_S, _LONGEST_DECAY_S = 0.3, 3.0
"""Range of the time in which a room's sound falls by 60 dB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Strengths of the random changes to a pair; table [augmentation] of the configuration."""

    shift_px: int = 4
    """Largest shift of a snippet in each direction, in pixels at half the working scale."""
    scale: float = 0.0
    """Standard deviation of the logarithm of a snippet's scale, and of its width over its height, cut at 2.5
    deviations."""
    slope: float = 0.0
    """Standard deviation of the slope of a snippet's staves, cut at 2.5 deviations: 0.01 is 0.6 degrees."""
    contrast: float = 0.3
    """Standard deviation of the logarithm of a snippet's gamma, and largest share of ink that fades."""
    thickness: float = 0.0
    """Largest share of the way from a snippet's lines to lines a pixel wider on each side, or narrower."""
    blur: float = 0.0
    """Largest share of the way from a snippet to its blurred copy. Half of the share is taken in the other direction,
    which sharpens."""
    grain: float = 0.0
    """Largest standard deviation of the noise of a snippet's pixels, white = 1."""
    tempo: float = 0.28
    """Standard deviation of the logarithm of an excerpt's tempo factor, cut at 2.5 deviations: 0.28 spans half to twice
    the tempo."""
    dynamics: float = 0.0
    """Standard deviation of the logarithm of the power to which an excerpt's magnitudes are raised."""
    room: float = 0.0
    """Largest energy of a room's decaying sound, relative to the sound itself."""
    equalisation: float = 0.25
    """Standard deviation of the logarithm of the bands' gains, which change smoothly from band to band."""
    noise: float = 0.05
    """Largest mean magnitude of the noise added to an excerpt, relative to the excerpt's own mean magnitude."""

    def __post_init__(self) -> None:
        """Raises ValueError if a strength is negative."""
        require_positive(self, or_zero=[field.name for field in dataclasses.fields(self)])


NO_AUGMENTATION = Augmentation(shift_px=0, contrast=0.0, tempo=0.0, equalisation=0.0, noise=0.0)


class Dice:
    """Random numbers on one device. The same seed gives the same numbers on devices of the same type."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers of equal probability between two bounds, float32."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *shape: int, deviation: float = 1.0, cut: float = math.inf) -> Tensor:
        """Normally distributed numbers about 0, float32, cut at `cut` deviations."""
        drawn = torch.randn(shape, generator=self.generator, device=self.device)
        return drawn.clamp(-cut, cut) * deviation

    def exponential(self, *shape: int) -> Tensor:
        """Exponentially distributed numbers of mean 1, float32."""
        return torch.empty(shape, device=self.device).exponential_(generator=self.generator)

    def integers(self, below: Tensor) -> Tensor:
        """One integer for each of `below`, from 0 up to that number but without it, int64 of the same shape."""
        drawn = torch.rand(below.shape, generator=self.generator, device=self.device, dtype=torch.float64)
        return (drawn * below).long()


def sampling_grid(count: int, height: int, width: int, augmentation: Augmentation, dice: Dice) -> tuple[Tensor, Tensor]:
    """Places on the strip where the pixels of `count` snippets are read, relative to the snippets' left upper corners.

    Returns rows and columns, float32 (count, height, width).
    """
    down = torch.arange(height, device=dice.device) - (height - 1) / 2
    right = torch.arange(width, device=dice.device) - (width - 1) / 2
    shift = augmentation.shift_px
    by_down, by_right = (dice.integers(torch.full((count,), 2 * shift + 1, device=dice.device)) - shift for _ in "yx")
    size = dice.normal(count, deviation=augmentation.scale, cut=2.5)
    stretch = dice.normal(count, deviation=augmentation.scale, cut=2.5)
    slope = dice.normal(count, deviation=augmentation.slope, cut=2.5)[:, None, None]
    tall = torch.exp(size - stretch / 2)[:, None, None] * down[:, None]
    wide = torch.exp(size + stretch / 2)[:, None, None] * right
    rows = tall + slope * wide + ((height - 1) / 2 + by_down)[:, None, None]
    columns = wide - slope * tall + ((width - 1) / 2 + by_right)[:, None, None]
    return rows, columns


def changed_snippets(snippets: Tensor, augmentation: Augmentation, dice: Dice) -> Tensor:
    """Snippets with another contrast, thickness of lines, sharpness and grain.

    snippets: float32 (n, height, width), white = 1. Returns the same.
    """
    ink = 1 - snippets
    count = len(ink)
    if augmentation.thickness:
        share = dice.uniform(count, 1, 1, low=-augmentation.thickness, high=augmentation.thickness)
        wider = functional.max_pool2d(ink, 3, stride=1, padding=1)
        narrower = -functional.max_pool2d(-ink, 3, stride=1, padding=1)
        ink = ink + share.abs() * (torch.where(share > 0, wider, narrower) - ink)
    if augmentation.blur:
        share = dice.uniform(count, 1, 1, low=-augmentation.blur / 2, high=augmentation.blur)
        blurred = functional.avg_pool2d(ink, 3, stride=1, padding=1, count_include_pad=False)
        ink = (ink + share * (blurred - ink)).clamp(0, 1)
    if augmentation.contrast:
        gamma = torch.exp(dice.normal(count, 1, 1, deviation=augmentation.contrast))
        ink = ink**gamma * (1 - augmentation.contrast * dice.uniform(count, 1, 1))
    if augmentation.grain:
        deviation = dice.uniform(count, 1, 1, high=augmentation.grain)
        ink = ink + deviation * dice.normal(*ink.shape)
    return (1 - ink).clamp(0, 1)


def changed_magnitudes(magnitudes: Tensor, augmentation: Augmentation, dice: Dice) -> Tensor:
    """Magnitudes of excerpts with other dynamics, in another room, equalised, with noise.

    magnitudes: float32 (n, bands, frames). Returns the same.
    """
    count, bands, frames = magnitudes.shape
    if augmentation.dynamics:
        peak = magnitudes.amax((1, 2), keepdim=True).clamp_min(1e-12)
        power = torch.exp(dice.normal(count, 1, 1, deviation=augmentation.dynamics))
        magnitudes = peak * (magnitudes / peak) ** power
    if augmentation.room:
        magnitudes = torch.sqrt(magnitudes**2 + magnitudes**2 @ _decay(count, frames, augmentation, dice))
    if augmentation.equalisation:
        knots = dice.normal(count, 1, _EQUALISER_KNOTS, deviation=augmentation.equalisation)
        curves = functional.interpolate(knots, bands, mode="linear", align_corners=True)
        magnitudes = magnitudes * torch.exp(curves).transpose(1, 2)
    if augmentation.noise:
        levels = magnitudes.mean((1, 2), keepdim=True) * augmentation.noise * dice.uniform(count, 1, 1)
        magnitudes = magnitudes + levels * dice.exponential(count, bands, frames)
    return magnitudes


def _decay(count: int, frames: int, augmentation: Augmentation, dice: Dice) -> Tensor:
    """The energy that a frame's sound adds to each later frame, float32 (count, frames, frames): [:, from, to]."""
    seconds = torch.exp(dice.uniform(count, 1, 1, low=math.log(_SHORTEST_DECAY_S), high=math.log(_LONGEST_DECAY_S)))
    step = torch.exp(-6 * math.log(10) / (FRAME_RATE * seconds))
    frame = torch.arange(frames, device=dice.device)
    later = frame - frame[:, None]
    energy = torch.where(later > 0, step ** later.clamp_min(0), 0.0) * (1 - step) / step
    return energy * dice.uniform(count, 1, 1, high=augmentation.room)
