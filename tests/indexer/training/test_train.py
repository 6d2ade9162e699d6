"""The corpus, the pairs drawn from it and the training loop, on three small pieces."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from engine.config import FrontEnd
from engine.encoder import Encoder
from engine.errors import SettingsError
from engine.network import Architecture
from indexer.training import corpus, train
from indexer.training.configuration import Configuration, TrainingSettings
from indexer.training.corpus import CorpusSettings, Take
from indexer.training.pairs import NO_AUGMENTATION, Augmentation, PairSource
from small_scores import write_kern


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> CorpusSettings:
    """Settings of a corpus that is made: two pieces to train on, one to validate, and one broken."""
    data = tmp_path_factory.mktemp("data")
    rows = [("one", "train"), ("two", "train"), ("broken", "train"), ("three", "val")]
    for seed, (name, _) in enumerate(rows):
        write_kern(data / f"{name}.krn", seed, bars=24)
    (data / "broken.krn").write_text("no music here")
    _write_csv(data / "manifest.csv", ["id", "path"], [(name, f"{name}.krn") for name, _ in rows])
    _write_csv(data / "splits.csv", ["id", "split"], rows)
    settings = CorpusSettings(data=data, manifests=("manifest.csv",), folder=data / "corpus")
    corpus.make(settings, FrontEnd(), jobs=1)
    return settings


@pytest.fixture(scope="module")
def takes(settings: CorpusSettings) -> list[Take]:
    return [Take.load(path) for path in corpus.paths(settings, "train")]


def test_the_corpus_holds_the_good_pieces_of_each_split(settings: CorpusSettings) -> None:
    assert [path.stem for path in corpus.paths(settings, "train")] == ["one.0", "two.0"]
    assert [path.stem for path in corpus.paths(settings, "val")] == ["three.0"]


def test_onsets_run_forward_on_the_page_and_in_the_recording(takes: list[Take]) -> None:
    for take in takes:
        assert len(take.quarters) == 96
        assert (np.diff(take.columns) > 0).all()
        assert (np.diff(take.frames) > 0).all()
        assert take.columns[-1] < take.strip.shape[1]
        assert take.frames[-1] < take.spectrogram.shape[1]


def test_a_take_made_again_is_the_same(settings: CorpusSettings, takes: list[Take], tmp_path: Path) -> None:
    corpus.make(dataclasses.replace(settings, folder=tmp_path, train_pieces=2), FrontEnd(), jobs=1)
    again = [Take.load(path) for path in corpus.paths(dataclasses.replace(settings, folder=tmp_path), "train")]
    assert again
    for take in again:
        before = next(other for other in takes if other.piece == take.piece)
        for field in dataclasses.fields(Take):
            assert np.array_equal(getattr(take, field.name), getattr(before, field.name))


def test_a_pair_is_centred_on_its_onset(takes: list[Take]) -> None:
    batch = PairSource(takes[:1], FrontEnd(), NO_AUGMENTATION).batch(20, 4, np.random.default_rng(0))
    assert batch.snippets.shape == (20, 80, 100)
    assert batch.excerpts.shape == (20, 92, 84)
    # Notes are struck at the onset: the spectrum rises there more than elsewhere.
    rise = np.diff(batch.excerpts, axis=2).clip(min=0).sum(axis=1).mean(axis=0)
    assert 39 <= int(rise[20:64].argmax()) + 20 <= 44


def test_neighbouring_onsets_are_no_negatives(takes: list[Take]) -> None:
    batch = PairSource(takes[:1], FrontEnd(), Augmentation()).batch(60, 30, np.random.default_rng(0))
    assert batch.ignored.any()
    assert np.array_equal(batch.ignored, batch.ignored.T)
    assert not batch.ignored.diagonal().any()


def test_a_training_leaves_weights_their_card_and_its_log(settings: CorpusSettings, tmp_path: Path) -> None:
    training = TrainingSettings(run=tmp_path, steps=2, batch=16, evaluate_every=2, validation_pairs=250)
    weights = train.train(
        Configuration(
            corpus=settings,
            front_end=FrontEnd(),
            augmentation=Augmentation(),
            architecture=Architecture(channels=(4, 8)),
            training=training,
        )
    )
    assert Encoder.load(weights).identity.name == "default"
    assert "Licence" in weights.with_suffix(".md").read_text()
    (line,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (line["step"], line["takes"]) == (2, 2)


def test_a_missing_soundfont_is_told_before_anything_is_made(settings: CorpusSettings) -> None:
    with pytest.raises(SettingsError, match=r"absent\.sf2: no such SoundFont"):
        corpus.make(dataclasses.replace(settings, soundfonts=("absent.sf2",)), FrontEnd(), jobs=1)


def _write_csv(path: Path, columns: list[str], rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
