"""Train an embedding network: `python -m indexer.training.train CONFIG.toml`, or `scorefind train CONFIG.toml`.

Makes what is missing of the corpus, trains, checks on the validation pieces as it goes, and leaves in the run's
folder the weights (NAME.safetensors), their model card (NAME.md) and log.jsonl. Stopped at any moment, the same
command goes on from the last checkpoint. A minute's trial: `--steps 20 --no-corpus`.
"""

import argparse
import json
import logging
import math
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine import config
from engine.config import FrontEnd
from engine.encoder import Background, save_weights
from engine.metrics import ranks_by_cost, summarise
from engine.network import Architecture, TwoPathways
from indexer.training import card, corpus
from indexer.training.corpus import CorpusSettings, Take
from indexer.training.losses import symmetric_infonce
from indexer.training.pairs import NO_AUGMENTATION, Augmentation, Batch, PairSource

logger = logging.getLogger(__name__)

BACKGROUND_PAIRS = 2048
"""Training pairs whose embeddings are kept with the weights as a sample of music at large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Table [training] of the configuration."""

    name: str = "default"
    run: Path = Path("runs/default")
    steps: int = 3000
    batch: int = 256
    onsets_a_piece: int = 4
    """Pairs drawn from each take in a batch: the hard negatives."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up_steps: int = 150
    evaluate_every: int = 250
    """Steps; the weights are checkpointed, and takes made since are loaded, at the same time."""
    validation_pairs: int = 2000
    seed: int = 1
    threads: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All tables of a training configuration."""

    corpus: CorpusSettings
    front_end: FrontEnd
    augmentation: Augmentation
    architecture: Architecture
    training: TrainingSettings


def load_configuration(path: Path, overrides: dict[str, Any]) -> Configuration:
    """The configuration in a TOML file; `overrides` go over its table [training]."""
    return Configuration(
        corpus=config.load(CorpusSettings(), section="corpus", path=path),
        front_end=config.load(FrontEnd(), section="front_end", path=path),
        augmentation=config.load(Augmentation(), section="augmentation", path=path),
        architecture=config.load(Architecture(), section="architecture", path=path),
        training=config.load(TrainingSettings(), section="training", path=path, flags=overrides),
    )


class Trainer:
    """A network under training, with what it takes to stop and go on."""

    def __init__(self, configuration: Configuration) -> None:
        settings = configuration.training
        self.configuration = configuration
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        network = TwoPathways(configuration.architecture, configuration.front_end)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step = 0
        self.metrics: dict[str, float] = {}
        self._checkpoint = settings.run / "checkpoint.pt"

    def resume(self) -> None:
        """Takes up the last checkpoint, if there is one."""
        if self._checkpoint.exists():
            state = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.metrics = state["step"], state["metrics"]
            logger.info("resumed at step %d", self.step)

    def checkpoint(self) -> None:
        """Keeps the present state; the last one stays until this one is whole."""
        unfinished = self._checkpoint.with_suffix(".unfinished")
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "metrics": self.metrics,
        }
        torch.save(state, unfinished)
        unfinished.rename(self._checkpoint)

    def learn(self, batch: Batch) -> float:
        """One step on one batch; returns its loss."""
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.configuration.training, self.step)
        score, recording = self._embed(batch)
        ignored = torch.from_numpy(batch.ignored).to(self.device)
        loss = symmetric_infonce(score, recording, self.network.log_scale, ignored)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def embed(self, batches: list[Batch]) -> Background:
        """The embeddings of both halves of the pairs, in inference."""
        self.network.eval()
        with torch.inference_mode():
            halves = [self._embed(batch) for batch in batches]
        score, recording = (torch.cat(half).float().cpu().numpy() for half in zip(*halves, strict=True))
        return Background(score=score, recording=recording)

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        snippets = torch.from_numpy(batch.snippets).to(self.device).unsqueeze(1).float() / 255.0
        excerpts = torch.from_numpy(batch.excerpts).to(self.device).unsqueeze(1)
        # bfloat16 gained nothing on the CPUs tried: 190 pairs/s against 230 in float32.
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            return (
                self.network.score(snippets.contiguous(memory_format=torch.channels_last)),
                self.network.recording(excerpts.contiguous(memory_format=torch.channels_last)),
            )


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < settings.warm_up_steps:
        return settings.learning_rate * (step + 1) / settings.warm_up_steps
    progress = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def validation_batches(configuration: Configuration) -> list[Batch]:
    """The same pairs each time, not augmented, from the validation pieces."""
    takes = [Take.load(path) for path in corpus.paths(configuration.corpus, "val")]
    source = PairSource(takes, configuration.front_end, NO_AUGMENTATION)
    rng = np.random.default_rng(0)
    return [source.batch(250, 10, rng) for _ in range(configuration.training.validation_pairs // 250)]


def snippet_retrieval(pairs: Background) -> dict[str, float]:
    """How well each half finds the other among all of them: MRR and R@1, both directions."""
    costs, truths = -(pairs.recording @ pairs.score.T), np.arange(len(pairs.score))
    figures: dict[str, float] = {"pairs": len(truths)}
    for direction, cost in (("A2S", costs), ("S2A", costs.T)):
        quality = summarise(ranks_by_cost(cost, truths), at=(1,))
        figures |= {f"{direction} MRR": quality.mrr.value, f"{direction} R@1": quality.recall[1].value}
    return figures


def train(configuration: Configuration) -> Path:
    """Trains from the last checkpoint to the end; returns the weights file."""
    settings = configuration.training
    settings.run.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(configuration)
    trainer.resume()
    logger.info(
        "on %s, %d threads: %s",
        trainer.device,
        settings.threads,
        "CUDA found" if torch.cuda.is_available() else "no CUDA device",
    )
    validation = validation_batches(configuration)
    takes: dict[Path, Take] = {}
    while trainer.step < settings.steps:
        takes |= {path: Take.load(path) for path in corpus.paths(configuration.corpus, "train") if path not in takes}
        source = PairSource(list(takes.values()), configuration.front_end, configuration.augmentation)
        steps = min(settings.evaluate_every, settings.steps - trainer.step)
        began = time.monotonic()
        losses = [trainer.learn(batch) for batch in _ahead(source, settings, trainer.step, steps)]
        rate = steps * settings.batch / (time.monotonic() - began)
        trainer.metrics = snippet_retrieval(trainer.embed(validation))
        trainer.checkpoint()
        line = {"step": trainer.step, "takes": len(takes), "loss": float(np.mean(losses)), "pairs_per_s": round(rate)}
        _log(settings.run / "log.jsonl", line | trainer.metrics)
    return _finish(trainer, [*takes.values()] or [Take.load(p) for p in corpus.paths(configuration.corpus, "train")])


def _ahead(source: PairSource, settings: TrainingSettings, first: int, steps: int) -> Iterator[Batch]:
    """The batches of these steps, the next one always in the making; each step's pairs depend on its number alone."""

    def make(step: int) -> Batch:
        return source.batch(settings.batch, settings.onsets_a_piece, np.random.default_rng((settings.seed, step)))

    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(make, first)
        for step in range(first + 1, first + steps + 1):
            batch = coming.result()
            coming = maker.submit(make, step)
            yield batch


def _finish(trainer: Trainer, takes: list[Take]) -> Path:
    """Writes the weights with their background, and the model card."""
    configuration, settings = trainer.configuration, trainer.configuration.training
    source = PairSource(takes, configuration.front_end, NO_AUGMENTATION)
    rng = np.random.default_rng(settings.seed)
    background = trainer.embed([source.batch(256, 1, rng) for _ in range(BACKGROUND_PAIRS // 256)])
    record = {
        "commit": _commit(),
        "takes": len(takes),
        "onsets": sum(len(take.quarters) for take in takes),
        "settings": json.loads(json.dumps(asdict(configuration), default=str)),
        "metrics": trainer.metrics,
    }
    target = settings.run / f"{settings.name}.safetensors"
    save_weights(target, trainer.network, background, settings.name, record)
    target.with_suffix(".md").write_text(card.text(settings.name, record))
    logger.info("wrote %s and its card", target)
    return target


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _log(path: Path, line: dict[str, Any]) -> None:
    logger.info(" ".join(f"{name} {value:.4g}" for name, value in line.items()))
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scorefind train", description="Train the embedding network.")
    parser.add_argument("config", type=Path, help="TOML file, as indexer/training/default.toml")
    parser.add_argument("--jobs", type=int, default=2, help="processes that make the corpus")
    parser.add_argument("--steps", type=int, help="instead of the configuration's")
    parser.add_argument("--no-corpus", action="store_true", help="train on the takes that are there")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    configuration = load_configuration(arguments.config, {"steps": arguments.steps})
    if not arguments.no_corpus:
        corpus.make(configuration.corpus, configuration.front_end, arguments.jobs)
    train(configuration)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
