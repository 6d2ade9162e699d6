"""Settings of a training: the tables of its TOML file, and the values that `--set` puts over them.

Names of fields are names in the TOML files, so renaming a field breaks configurations.
"""

import dataclasses
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine import config
from engine.config import FrontEnd, require_positive
from engine.embedding.network import Architecture
from engine.errors import SettingsError
from engine.values import DIMENSION, Kind
from indexer.training.augmentation import Augmentation
from indexer.training.corpus_settings import CorpusSettings

VALIDATION_BATCH = 250
"""Validation pairs that are drawn and embedded together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Table [training] of the configuration."""

    name: str = "default"
    """Name of the network and of its weights file."""
    run: Path = Path("runs/default")
    """Folder of checkpoints, log and weights."""
    start: str = ""
    """Weights file to start from; `shipped`: the file that comes with scorefind; empty: random weights. The file's
    front end must be that of this configuration, and so must its architecture, but for fewer channels."""
    learns: tuple[Kind, ...] = ("score", "recording")
    """Pathways that learn. The other pathway keeps the weights that it started with."""
    steps: int = 3000
    """Steps after which the training ends; `plateau` may end it earlier."""
    batch: int = 256
    """Pairs in a batch, 2 or more: the other pairs are the negatives."""
    onsets_a_piece: int = 4
    """Pairs drawn from each piece in a batch; pairs of one piece are hard negatives of each other."""
    loss: Literal["infonce", "ranking"] = "infonce"
    mask_near_duplicates: bool = True
    """Whether pairs of nearly the same music are not counted as negatives of each other."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """`adam`: the weight decay is added to the gradient, so 2e-5 equals a loss of 1e-5 times the sum of squares."""
    schedule: Literal["cosine", "plateau", "trapezoid"] = "cosine"
    """`cosine`: half a cosine down to a hundredth. `plateau`: constant; after `patience` evaluations without a gain,
    the training goes back to the best weights and halves the rate. `trapezoid`: constant, then falls to 0 over the last
    `cool_down_steps`; a checkpoint from before that can be trained for more steps."""
    learning_rate: float = 2e-3
    """Highest learning rate."""
    weight_decay: float = 0.02
    warm_up_steps: int = 150
    """First steps, over which `cosine` and `trapezoid` raise the rate from 0."""
    cool_down_steps: int = 500
    """Last steps, over which `trapezoid` lowers the rate to 0."""
    averaging: float = 0.0
    """Share of the averaged weights that each step keeps, for example 0.999; 0: weights are not averaged. The share of
    early steps is smaller (`trainer.kept_share`)."""
    patience: int = 60
    """Evaluations without a gain before the first refinement of `plateau`."""
    refinement_patience: int = 10
    """Evaluations without a gain before each further refinement of `plateau`."""
    refinements: int = 5
    """Refinements of `plateau`; the training ends when one more is due."""
    evaluate_every: int = 250
    """Steps between two evaluations. Each also writes a checkpoint and loads the pieces that were made since."""
    validation_pairs: int = 2000
    """Pairs of validation pieces; a last batch of less than VALIDATION_BATCH is left out."""
    refit_pairs: int = 25_000
    """Training pairs to which the projection is fitted at the end, if the network has a projection; more than
    DIMENSION. 0: the projection stays as the last step of the training fitted it."""
    seed: int = 1
    threads: int = 2
    """Threads that torch computes with."""

    def __post_init__(self) -> None:
        """Raises ValueError if a number is negative, or too small for anything to be learnt from."""
        require_positive(
            self,
            or_zero=(
                *("weight_decay", "warm_up_steps", "cool_down_steps", "averaging"),
                *("patience", "refinement_patience", "refinements", "refit_pairs", "seed"),
            ),
        )
        if self.batch < 2:
            raise ValueError(f"batch: expected 2 or more, got {self.batch}")
        if 0 < self.refit_pairs <= DIMENSION:
            raise ValueError(f"refit_pairs: expected 0, or more than {DIMENSION}, got {self.refit_pairs}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All tables of a training configuration."""

    corpus: CorpusSettings
    front_end: FrontEnd
    augmentation: Augmentation
    architecture: Architecture
    training: TrainingSettings


def load_configuration(path: Path, overrides: Iterable[str] = ()) -> Configuration:
    """The configuration in a TOML file, with the values of `overrides` put over those of the file.

    overrides: each is `table.name=value`, the value as in TOML. A value that is not valid TOML is text:
        `training.run=runs/trial`.
    Raises SettingsError for an unknown table or name, a value of the wrong type or out of its range, bands that the
    corpus does not keep, or fewer validation pairs than a batch has.
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
            f"front_end.bands is {bands!r}, but corpus.bands keeps only {', '.join(kept)}: add {bands!r} there"
        )
    if (pairs := configuration.training.validation_pairs) < VALIDATION_BATCH:
        raise SettingsError(f"training.validation_pairs: expected {VALIDATION_BATCH} or more, got {pairs}")
    return configuration


def _value(text: str) -> Any:
    """The value of a TOML literal; the text itself if it is not a literal."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
