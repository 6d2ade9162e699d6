"""The published networks, for a comparison with the default network after training on the same corpus.

Each modality has a VGG-like trunk with a dense head; the audio modality optionally has soft attention over the excerpt
(Balke et al., ISMIR 2019). A layer of canonical correlation analysis joins both (Dorfer et al., TISMIR 2018).
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
    """The network of the family `published`: trunk, dense head, canonical correlation analysis, unit length.

    The network has no temperature, because it is trained with a ranking loss.
    """

    def __init__(self, architecture: Architecture, front_end: FrontEnd) -> None:
        super().__init__(architecture, front_end)
        self.score_pathway = PublishedPathway(architecture, self.snippet_shape, normalised_head=False)
        self.attention = Attention(architecture, front_end.excerpt_frames) if architecture.attention else None
        self.recording_pathway = PublishedPathway(architecture, self.excerpt_shape, normalised_head=True)
        self.projection = Projection(DIMENSION)
        self.log_scale = None
        self.apply(_initialise)

    def score(self, snippets: Tensor) -> Tensor:
        """The embeddings of snippets under the last fitted projection, float32 (n, 32), rows of unit length."""
        return _unit(self.projection.score(self.score_pathway(snippets)))

    def recording(self, excerpts: Tensor) -> Tensor:
        """The embeddings of excerpts under the last fitted projection, float32 (n, 32), rows of unit length."""
        return _unit(self.projection.recording(self._latents(excerpts)))

    def pair(self, snippets: Tensor, excerpts: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of n pairs. Training fits the projection to these pairs, with gradients through the fit."""
        if not self.training:
            return super().pair(snippets, excerpts)
        score, recording = self.projection.fit(self.score_pathway(snippets), self._latents(excerpts))
        return _unit(score), _unit(recording)

    @torch.no_grad()
    def refit(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> bool:
        """Fits the projection to all pairs, and returns True.

        A fit needs many pairs: in pure noise, a fit to 100 pairs finds a correlation of 0.9, and a fit to 25,000 pairs
        finds 0.07.
        """
        self.eval()
        latents = [(self.score_pathway(snippets), self._latents(excerpts)) for snippets, excerpts in pairs]
        score, recording = (torch.cat(half) for half in zip(*latents, strict=True))
        self.projection.fit(score, recording)
        return True

    def _latents(self, excerpts: Tensor) -> Tensor:
        """The vectors of excerpts before the projection, float32 (n, 32)."""
        if self.attention is not None:
            excerpts = excerpts * self.attention(excerpts)
        return cast(Tensor, self.recording_pathway(excerpts))


class PublishedPathway(nn.Module):
    """One modality before the projection: float (n, 1, height, width) -> float32 (n, 32), any length."""

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
    """Soft attention, the weight of each frame, 1 on average: float (n, 1, 92, T) -> float (n, 1, 1, T)."""

    def __init__(self, architecture: Architecture, frames: int) -> None:
        super().__init__()
        self.trunk = _trunk(architecture.channels)
        self.squeeze = nn.Conv2d(architecture.channels[-1], frames, 1)

    def forward(self, excerpts: Tensor) -> Tensor:
        energies: Tensor = self.squeeze(self.trunk(excerpts)).mean(dim=(2, 3))
        return (torch.softmax(energies, dim=1) * energies.shape[1])[:, None, None, :]


def _trunk(channels: tuple[int, ...]) -> nn.Sequential:
    """Two convolutions and a pooling per stage."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((1, *channels)):
        layers += [*_convolution(before, after), *_convolution(after, after), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """A convolution with batch normalisation and ELU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), _normalisation(outputs), nn.ELU(inplace=True)]


def _normalisation(channels: int) -> nn.BatchNorm2d:
    """The batch normalisation of the published networks."""
    # The original averages 1 / standard deviation over batches, and torch averages the variance. Both agree if all
    # batches have the same variance.
    return nn.BatchNorm2d(channels, eps=1e-4, momentum=0.1)


def _initialise(module: nn.Module) -> None:
    """Initialises weights by He's uniform distribution with gain 1, and biases with 0."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _unit(rows: Tensor) -> Tensor:
    """The rows at unit length, float32."""
    return nn.functional.normalize(rows, dim=1).float()
