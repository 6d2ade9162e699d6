import json
from dataclasses import asdict
from pathlib import Path

import pytest

from engine.embedding import weights
from engine.errors import SettingsError
from indexer.training.configuration import load_configuration

FOLDER = Path(__file__).parents[3] / "indexer" / "training"


@pytest.mark.parametrize("name", ["default", "baseline", "attention"])
def test_every_shipped_configuration_loads_under_its_own_name(name: str) -> None:
    assert load_configuration(FOLDER / f"{name}.toml").training.name == name


def test_the_shipped_configurations_learn_from_one_corpus() -> None:
    corpora = {load_configuration(FOLDER / f"{name}.toml").corpus for name in ("default", "baseline", "attention")}
    assert len(corpora) == 1


def test_every_table_can_be_set_over_the_file() -> None:
    loaded = load_configuration(
        FOLDER / "default.toml",
        [
            "corpus.recordings=3",
            'corpus.bands=["published"]',
            "front_end.excerpt_frames = 42",
            "augmentation.tempo=0.5",
            "architecture.channels=[4, 8]",
            "training.run=runs/trial",
        ],
    )
    assert (loaded.corpus.recordings, loaded.corpus.bands) == (3, ("published",))
    assert loaded.front_end.excerpt_frames == 42
    assert loaded.augmentation.tempo == 0.5
    assert loaded.architecture.channels == (4, 8)
    assert loaded.training.run == Path("runs/trial")


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("trainig.steps=3", r"--set trainig\.steps=3: expected TABLE\.NAME=VALUE, TABLE one of corpus,"),
        ("steps=3", r"expected TABLE\.NAME=VALUE"),
        ("training.steps", r"expected TABLE\.NAME=VALUE"),
        ("training.stpes=3", "stpes: no such setting; expected one of name,"),
        ("training.steps=many", "steps: expected int, got 'many'"),
        (
            'corpus.bands=["quarter_tone"]',
            "front_end.bands is 'published', but corpus.bands keeps only quarter_tone: add 'published'",
        ),
        ("training.validation_pairs=249", "validation_pairs: expected 250 or more, got 249"),
        ("training.steps=-1", "steps: expected more than 0, got -1"),
        ("training.batch=0", "batch: expected more than 0, got 0"),
        ("corpus.train_pieces=-1", "train_pieces: expected 0 or more, got -1"),
        ("training.batch=1", "batch: expected 2 or more, got 1"),
        ("training.refit_pairs=1", "refit_pairs: expected 0, or more than 32, got 1"),
        ("training.refit_pairs=32", "refit_pairs: expected 0, or more than 32, got 32"),
        ("corpus.prints=0", "prints: expected more than 0, got 0"),
        ("augmentation.blur=-1", "blur: expected 0 or more, got -1"),
        ("front_end.snippet_hop_px=0", "snippet_hop_px: expected more than 0, got 0"),
        ("architecture.channels=[4,0]", r"channels: expected more than 0, got \(4, 0\)"),
        ("training.loss=hinge", "loss: expected 'infonce' or 'ranking', got 'hinge'"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_can(override: str, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        load_configuration(FOLDER / "default.toml", [override])


def test_an_empty_file_describes_a_training(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    loaded = load_configuration(tmp_path / "empty.toml")
    assert loaded.front_end.bands in loaded.corpus.bands


def test_both_configurations_of_the_shipped_network_describe_it() -> None:
    default, on_gpu = (load_configuration(FOLDER / name) for name in ("default.toml", "gpu.toml"))
    for table in ("corpus", "front_end", "augmentation", "architecture"):
        assert getattr(on_gpu, table) == getattr(default, table)
    shipped = weights.read(None)
    architecture = json.loads(json.dumps(asdict(default.architecture)))
    assert (shipped.identity.front_end, shipped.architecture) == (default.front_end, architecture)
