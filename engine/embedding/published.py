"""The published networks, to be trained on the same corpus as the default one and compared with it.

A VGG-like trunk a modality with a dense head and, optionally, soft attention over the excerpt (Balke et al., ISMIR
2019), joined by a layer of canonical correlation analysis (Dorfer et al., TISMIR 2018).
"""

import itertools
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from engine.config import FrontEnd
from engine.embedding.network import Architecture, Network
from engine.embedding.projection import Projection
from engine.values import DIMENSION


class PublishedNetwork(Network):
    """Trunk, dense head, canonical correlation, unit length. Without a temperature: it learns by a ranking loss."""

    def __init__(self, architecture: Architecture, front_end: FrontEnd) -> None:
        super().__init__(architecture, front_end)
        self.score_pathway = PublishedPathway(architecture, self.snippet_shape, normalised_head=False)
        self.attention = Attention(architecture, front_end.excerpt_frames) if architecture.attention else None
        self.recording_pathway = PublishedPathway(architecture, self.excerpt_shape, normalised_head=True)
        self.projection = Projection(DIMENSION)
        self.log_scale = None
        self.apply(_initialise)

    def score(self, snippets: Tensor) -> Tensor:
        """With the projection as it was fitted last."""
        return _unit(self.projection.score(self.score_pathway(snippets)))

    def recording(self, excerpts: Tensor) -> Tensor:
        """With the projection as it was fitted last."""
        return _unit(self.projection.recording(self._hear(excerpts)))

    def pair(self, snippets: Tensor, excerpts: Tensor) -> tuple[Tensor, Tensor]:
        """In training the projection is fitted to these very pairs, and gradients flow through the fit."""
        if not self.training:
            return super().pair(snippets, excerpts)
        score, recording = self.projection.fit(self.score_pathway(snippets), self._hear(excerpts))
        return _unit(score), _unit(recording)

    @torch.no_grad()
    def refit(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
        """Fits the projection to all pairs: 100 pairs of mere noise show a correlation of 0.9, 25,000 one of 0.07."""
        self.eval()
        latents = [(self.score_pathway(snippets), self._hear(excerpts)) for snippets, excerpts in pairs]
        score, recording = (torch.cat(half) for half in zip(*latents, strict=True))
        self.projection.fit(score, recording)
        return True

    def _hear(self, excerpts: Tensor) -> Tensor:
        if self.attention is not None:
            excerpts = excerpts * self.attention(excerpts)
        return cast(Tensor, self.recording_pathway(excerpts))


class PublishedPathway(nn.Module):
    """float (n, 1, height, width) -> float32 (n, 32), neither activated nor normalised."""

    def __init__(self, architecture: Architecture, shape: tuple[int, int], *, normalised_head: bool) -> None:
        super().__init__()
        height, width = (size >> len(architecture.channels) for size in shape)
        channels = architecture.head_channels
        self.trunk = _trunk(architecture.channels)
        self.squeeze = nn.Sequential(nn.Conv2d(architecture.channels[-1], channels, 1, bias=not normalised_head))
        if normalised_head:
            self.squeeze.append(_normalisation(channels))
        self.dense = nn.Linear(channels * height * width, DIMENSION)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.squeeze(self.trunk(images)).flatten(1)
        with torch.autocast(features.device.type, enabled=False):  # bfloat16 is too coarse for covariances
            return cast(Tensor, self.dense(features.float()))


class Attention(nn.Module):
    """Excerpts float (n, 1, 92, T) -> float (n, 1, 1, T), the weight of each frame, 1 on average."""

    def __init__(self, architecture: Architecture, frames: int) -> None:
        super().__init__()
        self.trunk = _trunk(architecture.channels)
        self.squeeze = nn.Conv2d(architecture.channels[-1], frames, 1)

    def forward(self, excerpts: Tensor) -> Tensor:
        energies: Tensor = self.squeeze(self.trunk(excerpts)).mean(dim=(2, 3))
        return (torch.softmax(energies, dim=1) * energies.shape[1])[:, None, None, :]


def _trunk(channels: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((1, *channels)):
        layers += [*_convolution(before, after), *_convolution(after, after), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), _normalisation(outputs), nn.ELU(inplace=True)]


def _normalisation(channels: int) -> nn.BatchNorm2d:
    # The original averages 1 / standard deviation over batches, this the variance; they agree where batches do.
    return nn.BatchNorm2d(channels, eps=1e-4, momentum=0.1)


def _initialise(module: nn.Module) -> None:
    """He's uniform distribution with gain 1, biases 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _unit(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows, dim=1).float()
