"""Trains an embedding network: `python -m indexer.training.train CONFIG.toml`, or `scorefind train CONFIG.toml`.

Makes the missing files of the corpus, trains, and evaluates on the validation pieces at intervals. Writes the weights
(NAME.safetensors), their model card (NAME.md), their graphs (NAME.*.onnx) and log.jsonl to the run's folder. After an
interruption, the same command goes on from the last checkpoint. A trial that takes a minute:
`--set training.steps=20 --no-corpus`.
"""

import argparse
import json
import logging
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.arguments import positive
from engine.embedding.torch_network import save_weights
from engine.embedding.weights import Background
from engine.errors import SettingsError
from engine.metrics import ranks_by_cost, summarise
from indexer.training import card, material
from indexer.training.augmentation import NO_AUGMENTATION
from indexer.training.configuration import VALIDATION_BATCH, Configuration, TrainingSettings, load_configuration
from indexer.training.corpus_settings import CorpusSettings, training_instruments
from indexer.training.material import Corpus, TrainingPiece
from indexer.training.pairs import Batch, PairSource
from indexer.training.trainer import Trainer

logger = logging.getLogger(__name__)

BACKGROUND_PAIRS = 2048
"""Training pairs whose embeddings are stored with the weights as a sample of music in general."""


def validation_batches(configuration: Configuration) -> list[Batch]:
    """Pairs of the validation pieces, not augmented; each call draws the same pairs from the same corpus.

    They are drawn on the CPU, so that a GPU is judged by the same pairs.
    """
    front_end = configuration.front_end
    source = PairSource(
        Corpus(configuration.corpus.folder / "val", front_end.bands).refresh(), front_end, NO_AUGMENTATION
    )
    count = configuration.training.validation_pairs // VALIDATION_BATCH
    return [source.batch(VALIDATION_BATCH, 10, seed) for seed in range(count)]


def snippet_retrieval(pairs: Background) -> dict[str, float]:
    """MRR and R@1 of both directions, where each half of a pair is searched among the other halves of all pairs."""
    costs, truths = -(pairs.recording @ pairs.score.T), np.arange(len(pairs.score))
    figures: dict[str, float] = {"pairs": len(truths)}
    for direction, cost in (("A2S", costs), ("S2A", costs.T)):
        quality = summarise(ranks_by_cost(cost, truths), at=(1,))
        figures |= {f"{direction} MRR": quality.mrr.value, f"{direction} R@1": quality.recall[1].value}
    return figures


def train(configuration: Configuration) -> Path:
    """Trains from the last checkpoint to the end; returns the weights file.

    Raises SettingsError without a corpus, CorpusError if nothing can be learnt from it, and OSError without the list of
    instruments.
    """
    _require_corpus(configuration.corpus)
    instruments = training_instruments(configuration.corpus)  # only the card needs them, but hours later
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
    training = Corpus(configuration.corpus.folder / "train", configuration.front_end.bands)
    pieces = training.refresh()
    source = _source(configuration, pieces, trainer.device)
    while not trainer.finished:
        if (latest := training.refresh()) is not pieces:
            pieces, source = latest, _source(configuration, latest, trainer.device)
        figures = _learn(trainer, source) | {"pieces": len(pieces)}
        trainer.metrics = snippet_retrieval(trainer.embed(validation))
        _log(settings.run / "log.jsonl", figures | trainer.metrics)
        trainer.checkpoint()
    trainer.take_best()
    _refit(trainer, source, validation)
    return _finish(trainer, pieces, instruments)


def _require_pieces(settings: CorpusSettings) -> None:
    """Raises SettingsError if the corpus would be made without pieces of a split, which a training needs."""
    for name, count in (("train_pieces", settings.train_pieces), ("val_pieces", settings.val_pieces)):
        if count == 0:
            raise SettingsError(
                f"corpus.{name}: a training needs more than 0, got 0; "
                "with --no-corpus it takes the pieces that the corpus holds"
            )


def _require_corpus(settings: CorpusSettings) -> None:
    """Raises SettingsError if a split has no piece with both a print and a recording."""
    for split in ("train", "val"):
        if not material.is_made(settings.folder / split):
            raise SettingsError(
                f"{settings.folder / split}: has no piece with both a print and a recording; "
                "`python -m indexer.training.corpus CONFIG.toml` makes them"
            )


def _source(configuration: Configuration, pieces: list[TrainingPiece], device: torch.device) -> PairSource:
    """Augmented pairs of the pieces, drawn on the device."""
    return PairSource(pieces, configuration.front_end, configuration.augmentation, device)


def _learn(trainer: Trainer, source: PairSource) -> dict[str, Any]:
    """The figures of the steps up to the next evaluation, after these steps are taken: mean loss, pairs per second.

    The pairs of a step depend only on its number, so a training that was interrupted draws the same pairs.
    """
    settings = trainer.settings
    steps = min(settings.evaluate_every, settings.steps - trainer.step)
    started = time.monotonic()
    losses = [
        trainer.learn(source.batch(settings.batch, settings.onsets_a_piece, _seed(settings, step)))
        for step in range(trainer.step, trainer.step + steps)
    ]
    loss = float(torch.stack(losses).mean())
    return {
        "step": trainer.step,
        "pairs_seen": trainer.step * settings.batch,
        "loss": loss,
        "pairs_per_s": round(steps * settings.batch / (time.monotonic() - started)),
    }


def _seed(settings: TrainingSettings, step: int) -> int:
    """The seed of a step's pairs."""
    return (settings.seed << 32) + step


def _refit(trainer: Trainer, source: PairSource, validation: list[Batch]) -> None:
    """Fits the network's projection, if it has one, to `refit_pairs` training pairs, and validates again.

    Does nothing if `refit_pairs` is 0.
    """
    settings = trainer.settings
    if settings.refit_pairs == 0:
        return
    sizes = [min(250, settings.refit_pairs - start) for start in range(0, settings.refit_pairs, 250)]
    first = _seed(settings, settings.steps)
    if trainer.refit(source.batch(size, settings.onsets_a_piece, first + n) for n, size in enumerate(sizes)):
        before, trainer.metrics = trainer.metrics, snippet_retrieval(trainer.embed(validation))
        change = {f"{name} before": value for name, value in before.items() if name != "pairs"}
        _log(settings.run / "log.jsonl", {"refit_pairs": settings.refit_pairs} | change | trainer.metrics)


def _finish(trainer: Trainer, pieces: list[TrainingPiece], instruments: list[dict[str, str]]) -> Path:
    """Writes the weights, their background, the model card and the graphs; returns the weights file."""
    configuration, settings = trainer.configuration, trainer.configuration.training
    source = PairSource(pieces, configuration.front_end, NO_AUGMENTATION)
    background = trainer.embed([source.batch(256, 1, seed) for seed in range(BACKGROUND_PAIRS // 256)])
    record = {
        "commit": _commit(),
        "pieces": len(pieces),
        "prints": sum(len(piece.prints) for piece in pieces),
        "recordings": sum(len(piece.recordings) for piece in pieces),
        "instruments": instruments,
        "onsets": sum(len(piece.prints[0].quarters) for piece in pieces),
        "settings": recorded(configuration),
        "metrics": trainer.metrics,
    }
    target = settings.run / f"{settings.name}.safetensors"
    save_weights(target, trainer.network, background, settings.name, record)
    target.with_suffix(".md").write_text(card.text(settings.name, record))
    logger.info("wrote %s and its card", target)
    _export(target, configuration.corpus.folder)
    return target


def _export(weights: Path, corpus: Path) -> None:
    """Writes the graphs of the weights. A machine that only trains may lack the packages; then the log says so."""
    try:
        from indexer.training.export import export
    except ModuleNotFoundError as exc:
        logger.warning("%s has no graphs (%s); `python -m indexer.training.export` makes them", weights, exc)
    else:
        logger.info("wrote %s", ", ".join(path.name for path in export(weights, corpus)))


def recorded(configuration: Configuration) -> dict[str, Any]:
    """The settings of a training as weights files keep them: as JSON, without the folders of the machine."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(configuration), default=str))
    for table, name in (("corpus", "data"), ("corpus", "folder"), ("training", "run")):
        del settings[table][name]
    settings["training"]["start"] = Path(configuration.training.start).name
    return settings


def _commit() -> str:
    """The commit of the source tree, or `unknown`."""
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _log(path: Path, line: dict[str, Any]) -> None:
    """Logs the figures, and appends them to a file as one line of JSON."""
    logger.info(" ".join(f"{name} {value:.4g}" for name, value in line.items()))
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scorefind train", description="Train the embedding network.")
    parser.add_argument("config", type=Path, help="TOML file like indexer/training/default.toml")
    parser.add_argument("--jobs", type=positive, default=2, help="processes that make the corpus")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.NAME=VALUE",
        help="a setting over the file's, such as training.steps=20; may be repeated",
    )
    parser.add_argument(
        "--no-corpus", action="store_true", help="train on the corpus as it is, without making what is missing"
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    configuration = load_configuration(arguments.config, arguments.set)
    if not arguments.no_corpus:
        from indexer.training import corpus  # a machine that only trains may lack the packages that make one

        _require_pieces(configuration.corpus)
        corpus.make(configuration.corpus, configuration.front_end, arguments.jobs)
    train(configuration)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
