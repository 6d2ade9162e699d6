"""The two-pathway embedding networks: a sheet snippet and an audio excerpt -> points in one space.

This module holds the interface of all networks (`Network`), and the families `default` and `residual`. The family
`published` is in `engine.embedding.published`.
"""

import abc
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from engine.audio import BANDS
from engine.config import FrontEnd, require_positive
from engine.errors import SettingsError
from engine.values import DIMENSION

Family = Literal["default", "residual", "published"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The structure of a network, stored with its weights. A file without one of the settings has its default."""

    family: Family = "default"
    channels: tuple[int, ...] = (24, 48, 96, 128)
    """Number of channels of each stage. The default family halves the maps between two stages, and the published family
    halves them after each stage."""
    head_channels: int = 32
    """Number of channels before the dense layer at the end."""
    attention: bool = True
    """Whether the recording pathway attends over time."""
    blocks: tuple[int, ...] = (1, 2, 1)
    """Number of residual blocks in each stage after the first; used only by the residual family."""

    def __post_init__(self) -> None:
        """Raises ValueError if a number is not above 0."""
        require_positive(self)


class Network(nn.Module, abc.ABC):
    """A network of any family, which embeds snippets and excerpts.

    Snippets: float (n, 1, strip_rows / 2, snippet_px / 2) in 0..1, white = 1.
    Excerpts: float (n, 1, bands, excerpt_frames), with the gain and the compression of the front end.
    """

    log_scale: nn.Parameter | None
    """Logarithm of the inverse temperature of the loss, shape (); None if the network learns no temperature."""

    def __init__(self, architecture: Architecture, front_end: FrontEnd) -> None:
        super().__init__()
        self.architecture = architecture
        self.front_end = front_end
        self.snippet_shape = (front_end.strip_rows // 2, front_end.snippet_px // 2)
        self.excerpt_shape = (BANDS[front_end.bands], front_end.excerpt_frames)

    @abc.abstractmethod
    def score(self, snippets: Tensor) -> Tensor:
        """The embeddings of snippets, float32 (n, 32), rows of unit length."""

    @abc.abstractmethod
    def recording(self, excerpts: Tensor) -> Tensor:
        """The embeddings of excerpts, float32 (n, 32), rows of unit length."""

    def pair(self, snippets: Tensor, excerpts: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of n snippets and of their n excerpts. Training needs them together for some networks."""
        return self.score(snippets), self.recording(excerpts)

    def refit(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
        """Fits the part of the network with a closed form, if any, to batches of pairs; returns whether it exists."""
        return False

    @property
    def temperature(self) -> float | None:
        """The temperature of the loss; None if the network learns no temperature."""
        return None if self.log_scale is None else float(torch.exp(-self.log_scale.detach()))


class TwoPathways(Network):
    """The network of the family `default`: for each modality a small CNN with a dense head; audio also has attention.

    The published family gained most from a dense head and from attention (Balke et al., ISMIR 2019). The strided stem
    makes this network several times faster than the published VGG trunk.
    """

    def __init__(self, architecture: Architecture, front_end: FrontEnd) -> None:
        super().__init__(architecture, front_end)
        seen, heard = self.snippet_shape, self.excerpt_shape
        self.score_pathway = Pathway(self.trunk(architecture, seen), architecture, seen, attention=False)
        self.recording_pathway = Pathway(
            self.trunk(architecture, heard), architecture, heard, attention=architecture.attention
        )
        self.log_scale = nn.Parameter(torch.tensor(2.7))

    def trunk(self, architecture: Architecture, shape: tuple[int, int]) -> nn.Sequential:
        """The convolutions of a pathway whose input has this height and width."""
        return _trunk(architecture.channels)

    def score(self, snippets: Tensor) -> Tensor:
        return cast(Tensor, self.score_pathway(1.0 - snippets))

    def recording(self, excerpts: Tensor) -> Tensor:
        return cast(Tensor, self.recording_pathway(excerpts))


class ResidualNetwork(TwoPathways):
    """The network of the family `residual`: `TwoPathways` with residual trunks that reduce the resolution early.

    On large maps, normalisation and pooling take longer than convolution. So the stem has neither, and each stage
    starts with a strided convolution. Twice the width then takes the same time.
    Source: He et al., "Deep Residual Learning" (CVPR 2016), section 3.
    """

    def trunk(self, architecture: Architecture, shape: tuple[int, int]) -> nn.Sequential:
        """The convolutions of a pathway. Raises SettingsError if the blocks do not go with the channels."""
        stages, blocks = len(architecture.channels), len(architecture.blocks)
        if blocks != stages - 1:
            expected = f"expected one number of blocks for each of {stages} channels but the first, got {blocks}"
            raise SettingsError(f"architecture.blocks: {expected}")
        return _residual_trunk(architecture, shape)


class Pathway(nn.Module):
    """One modality of a network: float (n, 1, height, width) -> float (n, 32), rows of unit length."""

    def __init__(
        self, trunk: nn.Sequential, architecture: Architecture, shape: tuple[int, int], *, attention: bool
    ) -> None:
        """trunk: the convolutions. shape: height and width of the input."""
        super().__init__()
        self.trunk = trunk
        self.squeeze = _block(architecture.channels[-1], architecture.head_channels, kernel=1)
        with torch.no_grad():
            _, channels, height, width = self.squeeze(self.trunk(torch.zeros(1, 1, *shape))).shape
        self.attention = nn.Conv1d(channels, 1, 1) if attention else None
        self.dense = nn.Linear(channels * height * width, DIMENSION)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.squeeze(self.trunk(images))
        if self.attention is not None:
            weights = torch.softmax(self.attention(features.mean(dim=2)), dim=2)
            features = features * (weights * weights.shape[2]).unsqueeze(2)
        embedding: Tensor = self.dense(features.flatten(1))
        return nn.functional.normalize(embedding.float(), dim=1)


def _trunk(channels: tuple[int, ...]) -> nn.Sequential:
    """The convolutions of a pathway of the family `default`."""
    layers: list[nn.Module] = [_block(1, channels[0], kernel=5, stride=2), _block(channels[0], channels[0])]
    for before, after in itertools.pairwise(channels):
        layers += [nn.MaxPool2d(2), _block(before, after), _block(after, after)]
    return nn.Sequential(*layers)


def _residual_trunk(architecture: Architecture, shape: tuple[int, int]) -> nn.Sequential:
    """The convolutions of a pathway of the family `residual`, whose output has 1/16 of the input's height and width.

    shape: height and width of the input. Inputs of more than 128 rows (quarter tones) have another stem, which reduces
        four rows to one; their output has 1/32 of the height.
    """
    first, *others = architecture.channels
    rows = 4 if shape[0] > 128 else 2
    layers: list[nn.Module] = [
        nn.Conv2d(1, first, (2 * rows + 1, 5), stride=(rows, 2), padding=(rows, 2)),
        nn.ReLU(inplace=True),
    ]
    before = first
    for channels, blocks in zip(others, architecture.blocks, strict=True):
        layers += [_block(before, channels, stride=2), *(Residual(channels) for _ in range(blocks))]
        before = channels
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """A residual block: two convolutions whose output is added to the input, float (n, channels, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _block(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.second(self.first(maps)))


def _block(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
