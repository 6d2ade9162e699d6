"""The two-pathway embedding networks: a sheet snippet and an audio excerpt -> points of one space.

What every network can do, and the default one; `engine.embedding.published` has the published ones.
"""

import abc
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from engine.audio import BANDS
from engine.config import FrontEnd
from engine.values import DIMENSION

Family = Literal["default", "residual", "published"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a network is built like; stored with its weights. Files older than a setting mean its default."""

    family: Family = "default"
    channels: tuple[int, ...] = (24, 48, 96, 128)
    """Of each stage. Between two stages of the default family, and after each of the published, the maps are halved."""
    head_channels: int = 32
    """Channels left for the dense layer at the end."""
    attention: bool = True
    """Whether the recording pathway attends over time."""
    blocks: tuple[int, ...] = (1, 2, 1)
    """Residual blocks of each stage after the first; of the residual family alone."""


class Network(nn.Module, abc.ABC):
    """What embeds, of any family.

    Snippets: float (n, 1, strip_rows / 2, snippet_px / 2) in 0..1, white = 1.
    Excerpts: float (n, 1, bands, excerpt_frames), gain and compression as the front end has them.
    """

    log_scale: nn.Parameter | None
    """Logarithm of the inverse temperature of the loss, where the network has learnt one."""

    def __init__(self, architecture: Architecture, front_end: FrontEnd) -> None:
        super().__init__()
        self.architecture = architecture
        self.front_end = front_end
        self.snippet_shape = (front_end.strip_rows // 2, front_end.snippet_px // 2)
        self.excerpt_shape = (BANDS[front_end.bands], front_end.excerpt_frames)

    @abc.abstractmethod
    def score(self, snippets: Tensor) -> Tensor:
        """float32 (n, 32), unit rows."""

    @abc.abstractmethod
    def recording(self, excerpts: Tensor) -> Tensor:
        """float32 (n, 32), unit rows."""

    def pair(self, snippets: Tensor, excerpts: Tensor) -> tuple[Tensor, Tensor]:
        """Both embeddings of n pairs; how to embed in training, where a network may need to see the halves together."""
        return self.score(snippets), self.recording(excerpts)

    def refit(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
        """Fits anew, to many batches of pairs, what has a closed form; whether the network has such a part."""
        return False

    @property
    def temperature(self) -> float | None:
        return None if self.log_scale is None else float(torch.exp(-self.log_scale.detach()))


class TwoPathways(Network):
    """The first default network: a small CNN a modality with a dense head, the audio one attending over time.

    A dense head and attention are what the published family gained most from (Balke et al., ISMIR 2019); the
    strided stem makes it several times faster than the published VGG trunk.
    """

    def __init__(self, architecture: Architecture, front_end: FrontEnd) -> None:
        super().__init__(architecture, front_end)
        self.score_pathway = Pathway(architecture, self.snippet_shape, attention=False)
        self.recording_pathway = Pathway(architecture, self.excerpt_shape, attention=architecture.attention)
        self.log_scale = nn.Parameter(torch.tensor(2.7))

    def score(self, snippets: Tensor) -> Tensor:
        return cast(Tensor, self.score_pathway(1.0 - snippets))

    def recording(self, excerpts: Tensor) -> Tensor:
        return cast(Tensor, self.recording_pathway(excerpts))


class ResidualNetwork(TwoPathways):
    """The default network: as `TwoPathways`, with residual trunks that leave the full resolution early.

    Where maps are large, normalisation and pooling cost more than convolution: the stem has neither, and stages are
    entered by strided convolutions. Twice the width then costs the same time.
    Source: He et al., "Deep Residual Learning" (CVPR 2016), section 3.
    """

    def __init__(self, architecture: Architecture, front_end: FrontEnd) -> None:
        Network.__init__(self, architecture, front_end)
        self.score_pathway = Pathway(architecture, self.snippet_shape, attention=False, trunk=_residual_trunk)
        self.recording_pathway = Pathway(
            architecture, self.excerpt_shape, attention=architecture.attention, trunk=_residual_trunk
        )
        self.log_scale = nn.Parameter(torch.tensor(2.7))


class Pathway(nn.Module):
    """float (n, 1, height, width) -> float (n, 32) of unit length."""

    def __init__(
        self,
        architecture: Architecture,
        shape: tuple[int, int],
        *,
        attention: bool,
        trunk: Callable[[Architecture, tuple[int, int]], nn.Sequential] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk(architecture, shape) if trunk else _trunk(architecture.channels)
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
    layers: list[nn.Module] = [_block(1, channels[0], kernel=5, stride=2), _block(channels[0], channels[0])]
    for before, after in itertools.pairwise(channels):
        layers += [nn.MaxPool2d(2), _block(before, after), _block(after, after)]
    return nn.Sequential(*layers)


def _residual_trunk(architecture: Architecture, shape: tuple[int, int]) -> nn.Sequential:
    """Maps of 1/16 of the shape; tall inputs (quarter tones) are brought to whole tones by the stem."""
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
    """float (n, channels, h, w) -> the same shape: two convolutions around which the input is carried."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _block(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.second(self.first(maps)))


def _block(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
