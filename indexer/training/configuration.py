"""What a training can be told: the tables of its TOML file, and what `--set` lays over them."""

import dataclasses
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine import config
from engine.config import FrontEnd
from engine.embedding.network import Architecture
from engine.errors import SettingsError
from engine.values import Kind
from indexer.training.corpus import CorpusSettings
from indexer.training.pairs import Augmentation


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Table [training] of the configuration."""

    name: str = "default"
    run: Path = Path("runs/default")
    start: str = ""
    """Weights file to start from, `shipped` for the one that comes with scorefind; none: random weights. The file's
    architecture and front end must be those of this configuration."""
    learns: tuple[Kind, ...] = ("score", "recording")
    """Pathways that learn; the weights of the others stay as they started."""
    steps: int = 3000
    """At most."""
    batch: int = 256
    onsets_a_piece: int = 4
    """Pairs drawn from each piece in a batch: the hard negatives."""
    loss: Literal["infonce", "ranking"] = "infonce"
    mask_near_duplicates: bool = True
    """Whether nearly the same music is spared from being a negative."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """`adam`: the decay is part of the gradient, so that 2e-5 stands for a loss of 1e-5 times the sum of squares."""
    schedule: Literal["cosine", "plateau", "trapezoid"] = "cosine"
    """`plateau`: constant; after `patience` evaluations without a gain, back to the best weights at half the rate.
    `trapezoid`: constant, then down to nothing over the last `cool_down_steps`; so a training can be carried on."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up_steps: int = 150
    """Of `cosine` and `trapezoid`."""
    cool_down_steps: int = 500
    """Of `trapezoid`."""
    averaging: float = 0.0
    """Share of the averaged weights that each step keeps, .999 say; 0: weights are not averaged."""
    patience: int = 60
    """Evaluations; this and the next two are of `plateau`."""
    refinement_patience: int = 10
    refinements: int = 5
    evaluate_every: int = 250
    """Steps; the weights are checkpointed, and what was made of the corpus since is loaded, at the same time."""
    validation_pairs: int = 2000
    refit_pairs: int = 25_000
    """Training pairs that a network's projection is fitted to at the end, if it has one."""
    seed: int = 1
    threads: int = 2
    loaders: int = 1
    """Processes that make batches; a GPU learns from more pairs than one core makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All tables of a training configuration."""

    corpus: CorpusSettings
    front_end: FrontEnd
    augmentation: Augmentation
    architecture: Architecture
    training: TrainingSettings


def load_configuration(path: Path, overrides: Iterable[str] = ()) -> Configuration:
    """The configuration in a TOML file, with `overrides` (each `table.name=value`, the value as in TOML) over it.

    A value that is no TOML is text: `training.run=runs/trial`.
    Raises SettingsError for an unknown table or name, a value of the wrong type, or bands that the corpus lacks.
    """
    flags: dict[str, dict[str, Any]] = {field.name: {} for field in dataclasses.fields(Configuration)}
    for override in overrides:
        name, equals, text = override.partition("=")
        table, _, setting = name.strip().partition(".")
        if not equals or not setting or table not in flags:
            raise SettingsError(f"--set {override}: expected TABLE.NAME=VALUE, TABLE one of {', '.join(flags)}")
        flags[table][setting] = _value(text.strip())
    configuration = Configuration(
        corpus=config.load(CorpusSettings(), section="corpus", path=path, flags=flags["corpus"]),
        front_end=config.load(FrontEnd(), section="front_end", path=path, flags=flags["front_end"]),
        augmentation=config.load(Augmentation(), section="augmentation", path=path, flags=flags["augmentation"]),
        architecture=config.load(Architecture(), section="architecture", path=path, flags=flags["architecture"]),
        training=config.load(TrainingSettings(), section="training", path=path, flags=flags["training"]),
    )
    bands, kept = configuration.front_end.bands, configuration.corpus.bands
    if bands not in kept:
        raise SettingsError(
            f"front_end.bands is {bands!r}, but corpus.bands keeps {', '.join(kept)} alone: add it there"
        )
    return configuration


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
