"""The corpus, the pairs drawn from it and the training loop, on three small pieces."""

import csv
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.audio import compressed
from engine.config import Bands, FrontEnd
from engine.embedding.encoder import Encoder
from engine.embedding.network import Architecture
from engine.errors import SettingsError
from indexer.errors import CorpusError
from indexer.training import corpus, material, train
from indexer.training.augmentation import NO_AUGMENTATION, Augmentation
from indexer.training.configuration import Configuration, TrainingSettings
from indexer.training.corpus_settings import CorpusSettings
from indexer.training.material import Corpus, Take, TrainingPiece
from indexer.training.pairs import PairSource
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
    settings = CorpusSettings(
        data=data,
        manifests=("manifest.csv",),
        folder=data / "corpus",
        recordings=2,
        bands=("published", "quarter_tone"),
    )
    corpus.make(settings, FrontEnd(), jobs=1)
    return settings


@pytest.fixture(scope="module")
def takes(settings: CorpusSettings) -> list[Take]:
    return list(material.takes(settings.folder / "train", "published"))


@pytest.fixture(scope="module")
def pieces(settings: CorpusSettings) -> list[TrainingPiece]:
    return Corpus(settings.folder / "train", "published").refresh()


def test_the_corpus_holds_the_good_pieces_of_each_split(settings: CorpusSettings, pieces: list[TrainingPiece]) -> None:
    counts = [(piece.name, len(piece.prints), len(piece.recordings)) for piece in pieces]
    assert counts == [("one", 1, 2), ("two", 1, 2)]
    (only,) = Corpus(settings.folder / "val", "published").refresh()
    assert (only.name, len(only.prints), len(only.recordings)) == ("three", 1, 1)


def test_a_corpus_is_refreshed_by_what_was_made_since(settings: CorpusSettings, tmp_path: Path) -> None:
    small = dataclasses.replace(settings, folder=tmp_path, train_pieces=1, recordings=1)
    corpus.make(small, FrontEnd(), jobs=1)
    held = Corpus(small.folder / "train", "published")
    (before,) = held.refresh()
    corpus.make(dataclasses.replace(small, recordings=2, prints=2), FrontEnd(), jobs=1)
    (after,) = held.refresh()
    assert (len(after.prints), len(after.recordings)) == (2, 2)
    assert after.recordings[0] is before.recordings[0]
    assert after.prints[0].strip.shape != after.prints[1].strip.shape
    assert after.recordings[0].beat_frame[-1] != after.recordings[1].beat_frame[-1]


def test_pieces_are_made_in_other_keys_as_pieces_of_their_own(settings: CorpusSettings, tmp_path: Path) -> None:
    (settings.data / "source.ly").touch()
    _write_csv(settings.data / "with_source.csv", ["id", "path"], [("one", "one.krn"), ("broken", "source.ly")])
    manifests = ("with_source.csv",)
    exact = dataclasses.replace(settings, page_damage=0.0, sound_damage=0.0, freedom=0.0)
    keyed = dataclasses.replace(exact, folder=tmp_path, manifests=manifests, recordings=1, keys=3)
    corpus.make(keyed, FrontEnd(), jobs=1)
    made = Corpus(tmp_path / "train", "quarter_tone").refresh()
    assert [piece.name.split("@")[0] for piece in made] == ["one"] * 3  # LilyPond has no score here, and no other key
    own, *others = sorted(made, key=lambda piece: len(piece.name))
    for piece in others:
        semitones = int(piece.name.split("@")[1])
        assert semitones in corpus.INTERVALS
        assert _higher_by(piece, own) == pytest.approx(2 * semitones, abs=1)
    with pytest.raises(SettingsError, match=r"corpus\.keys: expected 1 to 12, got 13"):
        corpus.make(dataclasses.replace(keyed, keys=13), FrontEnd(), jobs=1)


def _higher_by(piece: TrainingPiece, other: TrainingPiece) -> int:
    """The quarter tones by which the mean spectrum of a piece is most like that of the other piece."""
    means = [one.recordings[0].quarter_tone.astype(float).mean(axis=1) for one in (piece, other)]
    shifts = range(-14, 15)
    likeness = [np.corrcoef(means[0][20:-20], np.roll(means[1], shift)[20:-20])[0, 1] for shift in shifts]
    return shifts[int(np.argmax(likeness))]


def test_magnitudes_survive_their_code_to_a_twentieth() -> None:
    magnitude = np.geomspace(1e-3, 100, 500, dtype=np.float32)
    np.testing.assert_allclose(material.decoded()[material.encoded(magnitude)], magnitude, rtol=0.032)
    assert material.decoded()[material.encoded(np.zeros(1, np.float32))] == 0


def test_onsets_run_forward_on_the_page_and_in_the_recording(takes: list[Take]) -> None:
    for take in takes:
        assert len(take.quarters) == 96
        assert (np.diff(take.columns) > 0).all()
        assert (np.diff(take.frames) > 0).all()
        assert take.columns[-1] < take.strip.shape[1]
        assert take.frames[-1] < take.spectrogram.shape[1]


def test_a_take_made_again_is_the_same(settings: CorpusSettings, takes: list[Take], tmp_path: Path) -> None:
    corpus.make(dataclasses.replace(settings, folder=tmp_path, train_pieces=2), FrontEnd(), jobs=1)
    again = list(material.takes(tmp_path / "train", "published"))
    assert again
    for take in again:
        before = next(other for other in takes if other.piece == take.piece)
        for field in dataclasses.fields(Take):
            assert np.array_equal(getattr(take, field.name), getattr(before, field.name))


@pytest.mark.parametrize(("bands", "count"), [("published", 92), ("quarter_tone", 184)])
def test_a_pair_is_centred_on_its_onset(settings: CorpusSettings, bands: Bands, count: int) -> None:
    pieces = Corpus(settings.folder / "train", bands).refresh()
    batch = PairSource(pieces[:1], FrontEnd(bands=bands), NO_AUGMENTATION).batch(40, 4, seed=0)
    assert batch.snippets.shape == (40, 80, 100)
    assert batch.excerpts.shape == (40, count, 84)
    # Notes are struck at the onset: the spectrum rises there more than elsewhere.
    rise = np.diff(batch.excerpts.numpy(), axis=2).clip(min=0).sum(axis=1).mean(axis=0)
    assert 39 <= int(rise[20:64].argmax()) + 20 <= 44


def test_a_stretched_excerpt_reads_the_recording_at_its_tempo(pieces: list[TrainingPiece]) -> None:
    """Without any change of tempo an excerpt is the recording, frame by frame, about an onset."""
    front_end = FrontEnd(gain="none")
    (excerpt,) = PairSource(pieces[:1], front_end, NO_AUGMENTATION).batch(1, 1, seed=3).excerpts.numpy()
    wholes = [np.log10(1 + material.decoded()[played.codes("published")]) for played in pieces[0].recordings]
    differences = [
        np.abs(whole[:, start : start + 83] - excerpt[:, :83]).mean()
        for whole in wholes
        for start in range(whole.shape[1] - 83)
    ]
    assert min(differences) < 0.35 * np.median(differences)


@pytest.mark.parametrize("front_end", [FrontEnd(), FrontEnd(gain="none", compression=30.0)])
def test_a_pair_that_is_not_augmented_is_what_the_engine_sees(pieces: list[TrainingPiece], front_end: FrontEnd) -> None:
    batch = PairSource(pieces, front_end, NO_AUGMENTATION).batch(30, 3, seed=1)
    crops, excerpts = [], []
    for piece in pieces:
        for printed in piece.prints:
            for column in printed.columns:
                left = round(float(column)) - 50
                if left >= 0 and left + 100 <= printed.strip.shape[1]:
                    crops.append(printed.strip[4:84, left : left + 100])
                for played in piece.recordings:
                    quarter = printed.quarters[list(printed.columns).index(column)]
                    start = float(np.float32(np.interp(quarter, played.beat_quarter, played.beat_frame))) - 42
                    magnitudes = material.decoded()[played.published]
                    first, share = int(np.floor(start)), np.float32(start - np.floor(start))
                    if first >= 0 and first + 84 < magnitudes.shape[1]:
                        at = magnitudes[:, first : first + 85]
                        excerpts.append((1 - share) * at[:, :-1] + share * at[:, 1:])
    expected = compressed(np.stack(excerpts), front_end)
    for snippet, excerpt in zip(batch.snippets.numpy(), batch.excerpts.numpy(), strict=True):
        assert any(np.array_equal(snippet, crop) for crop in crops)
        assert np.abs(expected - excerpt).max((1, 2)).min() < 1e-4


def test_the_same_seed_draws_the_same_pairs(pieces: list[TrainingPiece]) -> None:
    source = PairSource(pieces, FrontEnd(), Augmentation(scale=0.05, room=0.5))
    first, again, other = source.batch(20, 4, seed=1), source.batch(20, 4, seed=1), source.batch(20, 4, seed=2)
    assert torch.equal(first.snippets, again.snippets)
    assert torch.equal(first.excerpts, again.excerpts)
    assert not torch.equal(first.snippets, other.snippets)


def test_a_piece_gives_no_snippet_of_its_neighbour(pieces: list[TrainingPiece]) -> None:
    """Strips lie side by side; a white strip and a black one show what would be read across their border."""
    shades = [
        dataclasses.replace(
            piece,
            prints=tuple(dataclasses.replace(one, strip=np.full_like(one.strip, shade)) for one in piece.prints),
        )
        for piece, shade in zip(pieces, (0, 255), strict=True)
    ]
    changes = Augmentation(contrast=0.0, shift_px=30, scale=0.2, slope=0.05)
    snippets = PairSource(shades, FrontEnd(), changes).batch(400, 4, seed=0).snippets
    assert set(snippets.unique().tolist()) == {0, 255}
    assert (snippets.amin((1, 2)) == snippets.amax((1, 2))).all()


def altered(piece: TrainingPiece, **changes: Any) -> TrainingPiece:
    """The piece with other values in its prints."""
    return dataclasses.replace(piece, prints=tuple(dataclasses.replace(one, **changes) for one in piece.prints))


def test_an_onset_at_the_end_of_the_last_strip_gives_no_pair(pieces: list[TrainingPiece]) -> None:
    printed = pieces[-1].prints[0]
    columns = np.where(np.arange(len(printed.columns)) % 2, printed.columns, printed.strip.shape[1])
    source = PairSource([altered(pieces[-1], columns=columns.astype(np.float32))], FrontEnd(), NO_AUGMENTATION)
    assert source.batch(50, 4, seed=0).snippets.shape == (50, 80, 100)


def test_a_print_without_onsets_lends_none_of_its_neighbour(pieces: list[TrainingPiece]) -> None:
    """Without its own onsets, the black print would be asked for those of the next piece."""
    black = dataclasses.replace(
        pieces[0].prints[0],
        strip=np.zeros_like(pieces[0].prints[0].strip),
        quarters=np.empty(0),
        columns=np.empty(0, np.float32),
    )
    white = altered(pieces[0], strip=np.full_like(pieces[0].prints[0].strip, 255))
    both = dataclasses.replace(white, prints=(*white.prints, black))
    middle = len(white.prints[0].columns) // 2  # the onsets before it are near the strip's edge
    late = altered(white, quarters=white.prints[0].quarters[middle:], columns=white.prints[0].columns[middle:])
    source = PairSource([both, late], FrontEnd(), NO_AUGMENTATION)
    assert source.batch(100, 4, seed=0).snippets.min() == 255


def test_a_corpus_that_nothing_can_be_learnt_from_is_an_error(
    pieces: list[TrainingPiece], monkeypatch: pytest.MonkeyPatch
) -> None:
    def source(*made: TrainingPiece, front_end: FrontEnd | None = None) -> PairSource:
        return PairSource(made, front_end or FrontEnd(), NO_AUGMENTATION)

    one, two = pieces
    with pytest.raises(CorpusError, match="two onsets or more, got 1 pieces without"):
        source(altered(one, quarters=np.zeros(1), columns=np.zeros(1, np.float32)))
    with pytest.raises(CorpusError, match="two onsets or more, got 0 pieces"):
        source()
    with pytest.raises(CorpusError, match="'two': expected strips of 88 rows, got 90"):
        source(one, altered(two, strip=np.zeros((90, 900), np.uint8)))
    with pytest.raises(CorpusError, match="'one': expected strips of 120 rows, got 88"):
        source(one, front_end=FrontEnd(strip_rows=240))
    with pytest.raises(CorpusError, match="recordings of 'one' have no 'quarter_tone' spectrogram"):
        source(one, front_end=FrontEnd(bands="quarter_tone"))
    monkeypatch.setattr("indexer.training.pairs._MAX_EMPTY_DRAWS", 20)
    with pytest.raises(CorpusError, match="no onset of any piece has a whole snippet of 100 columns"):
        source(altered(one, strip=np.zeros((88, 90), np.uint8))).batch(1, 1, seed=0)


def test_neighbouring_onsets_are_no_negatives(pieces: list[TrainingPiece]) -> None:
    batch = PairSource(pieces[:1], FrontEnd(), Augmentation()).batch(60, 30, seed=0)
    assert batch.ignored.any()
    assert torch.equal(batch.ignored, batch.ignored.T)
    assert not batch.ignored.diagonal().any()


def test_a_training_without_the_packages_of_the_export_says_how_to_make_the_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "indexer.training.export", raising=False)
    train._export(tmp_path / "made.safetensors", tmp_path)
    assert "made.safetensors has no graphs" in caplog.text
    assert "`python -m indexer.training.export` makes them" in caplog.text


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
    assert Encoder.load(weights, device="cpu").identity.name == "default"
    assert "Licence" in weights.with_suffix(".md").read_text()
    (line,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (line["step"], line["pairs_seen"], line["pieces"]) == (2, 32, 2)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_corpus_may_lack_the_pieces_of_a_split_but_no_training_can(
    settings: CorpusSettings, tmp_path: Path, split: str
) -> None:
    lacking = dataclasses.replace(settings, folder=tmp_path / "corpus", **{f"{split}_pieces": 0})
    corpus.make(lacking, FrontEnd(), jobs=1)
    assert [path.name for path in lacking.folder.iterdir()] == [{"train": "val", "val": "train"}[split]]
    (tmp_path / "training.toml").write_text("")
    with pytest.raises(SettingsError, match=rf"corpus\.{split}_pieces: a training needs more than 0, got 0"):
        train.main([str(tmp_path / "training.toml"), "--set", f"corpus.{split}_pieces=0"])


@pytest.mark.parametrize("setting", ["instruments", "responses", "noises"])
def test_missing_sounds_are_told_before_anything_is_made(settings: CorpusSettings, setting: str) -> None:
    with pytest.raises(SettingsError, match=r"the corpus cannot be played: .*absent"):
        corpus.make(dataclasses.replace(settings, **{setting: "absent"}), FrontEnd(), jobs=1)


def _write_csv(path: Path, columns: list[str], rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
