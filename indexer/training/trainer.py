"""A network in training: one step, one evaluation, checkpoints.

`average` is judged and shipped, `network` learns. A checkpoint holds all that a later process needs to go on.
"""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from engine.embedding import weights
from engine.embedding.network import Network
from engine.embedding.torch_network import build, network_of
from engine.embedding.weights import Background
from engine.errors import SettingsError
from engine.files import replacing
from indexer.training.configuration import Configuration
from indexer.training.losses import pairwise_ranking, symmetric_infonce
from indexer.training.pairs import Batch
from indexer.training.schedule import Plateau, finished, learning_rate
from indexer.training.widening import widen

logger = logging.getLogger(__name__)

PATHWAYS = ("score", "recording")
"""Halves of a network that can learn or stay as they are."""
_OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}


def kept_share(share: float, steps: int) -> float:
    """The share of the averaged weights that a step keeps after `steps` earlier steps: 0.1 at first, later `share`.

    With the full share from the start, the average of a random network stays random for thousands of steps: at step
    750, with a share of 0.998, validation MRR was 0.01 by the average and 0.30 by the weights themselves.
    """
    return min(share, (1 + steps) / (10 + steps))


def _move_average(share: float, average: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
    """Moves the averaged weights towards the present ones; copies counters, which have no mean."""
    means = [mean for mean in average if mean.is_floating_point()]
    values = [value for value in weights if value.is_floating_point()]
    if means:
        # All at once: on a GPU, a launch for each of the tensors takes longer than the sums.
        torch._foreach_lerp_(means, values, 1 - kept_share(share, int(steps)))
    for mean, value in zip(average, weights, strict=True):
        if not mean.is_floating_point():
            mean.copy_(value)


def _initial_network(configuration: Configuration) -> Network:
    """The network that a training starts with: random weights, or those of the file `training.start`.

    Raises SettingsError if the file has another front end, or differs in more than fewer channels.
    """
    start, network = configuration.training.start, build(configuration.architecture, configuration.front_end)
    if not start:
        return network
    read = weights.read(None if start == "shipped" else Path(start))
    former, name = network_of(read), read.identity.name
    if former.front_end != network.front_end:
        raise SettingsError(
            f"training.start: expected the front_end {network.front_end}, network {name!r} has {former.front_end}"
        )
    try:
        widen(former, network)
    except ValueError as exc:
        expected = f"expected the architecture {network.architecture} or a narrower one"
        raise SettingsError(f"training.start: {expected}, network {name!r} has {former.architecture}: {exc}") from exc
    return network


class Trainer:
    """A network with its optimizer, its averaged weights and its place in the schedule."""

    def __init__(self, configuration: Configuration) -> None:
        """Raises SettingsError if the network cannot be trained with the loss, or `training.start` does not fit."""
        settings = self.settings = configuration.training
        self.configuration = configuration
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # A CPU with AMX trains 2.5 times as fast in bfloat16. Without AMX it is slower: 190 pairs/s, float32 230.
        self._half = self.device.type == "cuda" or torch.cpu._is_amx_tile_supported()
        torch.set_num_threads(settings.threads)
        torch.backends.cudnn.benchmark = True  # all batches have one shape, so the fastest convolutions are found once
        torch.manual_seed(settings.seed)
        network = _initial_network(configuration)
        self._fixed = [network.get_submodule(f"{name}_pathway") for name in PATHWAYS if name not in settings.learns]
        for pathway in self._fixed:
            pathway.requires_grad_(False)
        if settings.loss == "infonce" and network.log_scale is None:
            family = configuration.architecture.family
            raise SettingsError(
                f"training.loss: networks of family {family!r} have no temperature; set it to 'ranking'"
            )
        self.network: Network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        learning = [weights for weights in self.network.parameters() if weights.requires_grad]
        self.optimizer = _OPTIMIZERS[settings.optimizer](
            learning, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        # Averaged weights are better than the learning ones by about what a falling rate would gain.
        self.average = AveragedModel(
            self.network, multi_avg_fn=partial(_move_average, settings.averaging), use_buffers=True
        )
        self._judged = cast(Network, self.average.module)
        self.step = 0
        self.plateau = Plateau()
        self.metrics: dict[str, float] = {}
        self._checkpoint = settings.run / "checkpoint.pt"
        self._best = settings.run / "best.pt"

    @property
    def finished(self) -> bool:
        """Whether the schedule has ended."""
        return finished(self.settings, self.step, self.plateau)

    def resume(self) -> None:
        """Goes on from the last checkpoint, if there is one."""
        if self._checkpoint.exists():
            state = self._load(self._checkpoint)
            self.step, self.plateau = state["step"], Plateau(**state["plateau"])
            logger.info("resumed at step %d", self.step)

    def checkpoint(self) -> None:
        """Follows the schedule after an evaluation, then writes a checkpoint."""
        if self.settings.schedule == "plateau":
            quality = (self.metrics["A2S MRR"] + self.metrics["S2A MRR"]) / 2
            verdict = self.plateau.judge(quality, self.settings)
            if verdict == "keep":
                self._save(self._best)
            elif verdict == "refine":
                logger.info(
                    "back to the best weights, MRR %.3f; refinement %d", self.plateau.best, self.plateau.refinements
                )
                self._load(self._best)
        self._save(self._checkpoint)

    def take_best(self) -> None:
        """Makes `network` the result of the training: the best weights of `plateau`, else the averaged weights."""
        if self.settings.schedule == "plateau":
            self._load(self._best)
        self.network.load_state_dict(self.average.module.state_dict())
        self._judged = self.network

    def learn(self, batch: Batch) -> Tensor:
        """The loss of one batch, after one step on it; float32 () on the device, which may still compute it."""
        self.network.train()
        for pathway in self._fixed:
            pathway.eval()  # in training mode, batch statistics would change this pathway's embeddings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, self.step, self.plateau)
        score, recording = self._embed(batch, self.network)
        loss = self._loss(score, recording, batch.ignored.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return loss.detach()

    def embed(self, batches: Iterable[Batch]) -> Background:
        """The embeddings of both halves of all pairs, by the averaged weights in evaluation mode."""
        network = self._judged.eval()
        with torch.inference_mode():
            halves = [self._embed(batch, network) for batch in batches]
        score, recording = (torch.cat(half).float().cpu().numpy() for half in zip(*halves, strict=True))
        return Background(score=score, recording=recording)

    def refit(self, batches: Iterable[Batch]) -> bool:
        """Fits the network's projection to these pairs in float32; False, without drawing a batch, if it has none."""
        return self.network.refit(self._tensors(batch) for batch in batches)

    def _embed(self, batch: Batch, network: Network) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._half):
            return network.pair(*self._tensors(batch))

    def _tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The snippets, scaled to 0..1, and the excerpts; each float32 (n, 1, height, width), channels last."""
        snippets = batch.snippets.to(self.device).unsqueeze(1).float() / 255.0
        excerpts = batch.excerpts.to(self.device).unsqueeze(1)
        return (
            snippets.contiguous(memory_format=torch.channels_last),
            excerpts.contiguous(memory_format=torch.channels_last),
        )

    def _loss(self, score: Tensor, recording: Tensor, ignored: Tensor) -> Tensor:
        if not self.settings.mask_near_duplicates:
            ignored = torch.zeros_like(ignored)
        if self.settings.loss == "ranking":
            return pairwise_ranking(score, recording, ignored)
        assert self.network.log_scale is not None
        return symmetric_infonce(score, recording, self.network.log_scale, ignored)

    def _save(self, path: Path) -> None:
        """Writes the present state; the earlier file stays until the new one is complete."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "plateau": dataclasses.asdict(self.plateau),
            "metrics": self.metrics,
        }
        with replacing(path, durable=True) as unfinished:
            torch.save(state, unfinished)

    def _load(self, path: Path) -> dict[str, Any]:
        """The state in a file, after weights, average, optimizer and metrics are set to it."""
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.metrics = state["metrics"]
        return state
