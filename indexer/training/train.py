"""Train an embedding network: `python -m indexer.training.train CONFIG.toml`, or `scorefind train CONFIG.toml`.

Makes what is missing of the corpus, trains, checks on the validation pieces as it goes, and leaves in the run's
folder the weights (NAME.safetensors), their model card (NAME.md) and log.jsonl. Stopped at any moment, the same
command goes on from the last checkpoint. A minute's trial: `--set training.steps=20 --no-corpus`.
"""

import argparse
import json
import logging
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.embedding.encoder import Background, save_weights
from engine.errors import SettingsError
from engine.metrics import ranks_by_cost, summarise
from indexer.training import card, corpus
from indexer.training.configuration import Configuration, TrainingSettings, load_configuration
from indexer.training.corpus import Corpus, Piece
from indexer.training.loading import in_order
from indexer.training.pairs import NO_AUGMENTATION, Batch, PairSource
from indexer.training.trainer import Trainer

logger = logging.getLogger(__name__)

BACKGROUND_PAIRS = 2048
"""Training pairs whose embeddings are kept with the weights as a sample of music at large."""


def validation_batches(configuration: Configuration) -> list[Batch]:
    """The same pairs each time, not augmented, from the validation pieces."""
    pieces = Corpus(configuration.corpus, "val").refresh()
    source = PairSource(pieces, configuration.front_end, NO_AUGMENTATION)
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
    """Trains from the last checkpoint to the end; returns the weights file. Raises SettingsError without a corpus."""
    settings = configuration.training
    for split in ("train", "val"):
        if not corpus.is_made(configuration.corpus, split):
            folder = configuration.corpus.folder / split
            cause = "holds no piece in print and sound; `python -m indexer.training.corpus CONFIG.toml` makes them"
            raise SettingsError(f"{folder}: {cause}")
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
    made = Corpus(configuration.corpus, "train")
    pieces = made.refresh()
    while not trainer.finished:
        pieces = made.refresh()
        source = PairSource(pieces, configuration.front_end, configuration.augmentation)
        steps = min(settings.evaluate_every, settings.steps - trainer.step)
        began = time.monotonic()
        losses = [trainer.learn(batch) for batch in _ahead(source, settings, trainer.step, steps)]
        rate = steps * settings.batch / (time.monotonic() - began)
        trainer.metrics = snippet_retrieval(trainer.embed(validation))
        line = {
            "step": trainer.step,
            "pairs_seen": trainer.step * settings.batch,
            "pieces": len(pieces),
            "loss": float(np.mean(losses)),
            "pairs_per_s": round(rate),
        }
        _log(settings.run / "log.jsonl", line | trainer.metrics)
        trainer.checkpoint()
    trainer.take_best()
    _refit(trainer, pieces, validation)
    return _finish(trainer, pieces)


def _ahead(source: PairSource, settings: TrainingSettings, first: int, steps: int) -> Iterator[Batch]:
    """The batches of these steps, the next one always in the making; each step's pairs depend on its number alone."""

    def make(step: int) -> Batch:
        return source.batch(settings.batch, settings.onsets_a_piece, np.random.default_rng((settings.seed, step)))

    batches = in_order(make, range(first, first + steps), settings.loaders)
    with ThreadPoolExecutor(1) as fetcher:
        coming = fetcher.submit(next, batches)
        for _ in range(steps - 1):
            batch = coming.result()
            coming = fetcher.submit(next, batches)
            yield batch
        yield coming.result()


def _refit(trainer: Trainer, pieces: list[Piece], validation: list[Batch]) -> None:
    """Fits the network's projection to many training pairs, if it has one, and validates again."""
    settings = trainer.settings
    source = PairSource(pieces, trainer.configuration.front_end, trainer.configuration.augmentation)
    rng = np.random.default_rng((settings.seed, settings.steps))
    sizes = [min(250, settings.refit_pairs - start) for start in range(0, settings.refit_pairs, 250)]
    if trainer.refit(source.batch(size, settings.onsets_a_piece, rng) for size in sizes):
        before, trainer.metrics = trainer.metrics, snippet_retrieval(trainer.embed(validation))
        change = {f"{name} before": value for name, value in before.items() if name != "pairs"}
        _log(settings.run / "log.jsonl", {"refit_pairs": settings.refit_pairs} | change | trainer.metrics)


def _finish(trainer: Trainer, pieces: list[Piece]) -> Path:
    """Writes the weights with their background, and the model card."""
    configuration, settings = trainer.configuration, trainer.configuration.training
    source = PairSource(pieces, configuration.front_end, NO_AUGMENTATION)
    rng = np.random.default_rng(settings.seed)
    background = trainer.embed([source.batch(256, 1, rng) for _ in range(BACKGROUND_PAIRS // 256)])
    record = {
        "commit": _commit(),
        "pieces": len(pieces),
        "prints": sum(len(piece.prints) for piece in pieces),
        "recordings": sum(len(piece.recordings) for piece in pieces),
        "instruments": corpus.instrument_count(configuration.corpus),
        "onsets": sum(len(piece.prints[0].quarters) for piece in pieces),
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
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.NAME=VALUE",
        help="over the configuration's, as in training.steps=20; may be repeated",
    )
    parser.add_argument("--no-corpus", action="store_true", help="train on what is there")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    configuration = load_configuration(arguments.config, arguments.set)
    if not arguments.no_corpus:
        corpus.make(configuration.corpus, configuration.front_end, arguments.jobs)
    train(configuration)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
