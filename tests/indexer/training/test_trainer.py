"""Short trainings of both families on made-up takes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.config import FrontEnd
from engine.embedding import weights as weights_files
from engine.embedding.network import Architecture
from engine.embedding.torch_network import network_of
from engine.errors import SettingsError
from indexer.training.augmentation import NO_AUGMENTATION
from indexer.training.configuration import Configuration, TrainingSettings
from indexer.training.corpus_settings import CorpusSettings
from indexer.training.material import Corpus, Print, Rendition, save
from indexer.training.pairs import PairSource
from indexer.training.train import main, train
from indexer.training.trainer import Trainer, kept_share

PUBLISHED = Architecture(family="published", channels=(2, 3, 4, 4), head_channels=2)
RESIDUAL = Architecture(family="residual", channels=(2, 4), blocks=(1,), head_channels=2)
ARCHITECTURES = (Architecture(channels=(2, 4), head_channels=2), RESIDUAL, PUBLISHED)


@pytest.fixture(autouse=True)
def few_background_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.training.train.BACKGROUND_PAIRS", 256)


@pytest.fixture(autouse=True)
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their export takes seconds; `test_export.py` tests it, and `test_train.py` that a training has them."""
    monkeypatch.setattr("indexer.training.train._export", lambda *_: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusSettings:
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    for split, name in (("train", "one"), ("train", "two"), ("val", "three")):
        printed = Print(
            piece=name,
            quarters=np.arange(30.0),
            strip=rng.integers(0, 256, (88, 700), np.uint8),
            columns=np.linspace(60, 640, 30, dtype=np.float32),
        )
        played = Rendition(
            piece=name,
            beat_quarter=np.arange(30.0),
            beat_frame=np.linspace(60, 640, 30, dtype=np.float32),
            published=rng.integers(0, 256, (92, 700), np.uint8),
            quarter_tone=np.empty((184, 0), np.uint8),
        )
        save(printed, folder / split / "prints" / f"{name}.0.npz")
        save(played, folder / split / "recordings" / f"{name}.0.npz")
    return CorpusSettings(folder=folder)


def configuration(corpus: CorpusSettings, run: Path, architecture: Architecture, steps: int) -> Configuration:
    published = architecture.family == "published"
    return Configuration(
        corpus=corpus,
        front_end=FrontEnd(strip_rows=64, snippet_px=64, excerpt_frames=32, gain="none"),
        augmentation=NO_AUGMENTATION,
        architecture=architecture,
        training=TrainingSettings(
            run=run,
            steps=steps,
            batch=8,
            loss="ranking" if published else "infonce",
            optimizer="adam" if published else "adamw",
            schedule={"published": "plateau", "residual": "trapezoid", "default": "cosine"}[architecture.family],
            averaging=0.9 if architecture.family == "residual" else 0.0,
            warm_up_steps=100,
            patience=1,
            evaluate_every=2,
            validation_pairs=250,
            refit_pairs=64,
            threads=1,
        ),
    )


def log(weights: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (weights.parent / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.family)
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    architecture: Architecture, corpus: CorpusSettings, tmp_path: Path
) -> None:
    train(configuration(corpus, tmp_path / "stopped", architecture, steps=2))
    stopped = train(configuration(corpus, tmp_path / "stopped", architecture, steps=3))
    straight = train(configuration(corpus, tmp_path / "straight", architecture, steps=3))
    losses = [[line["loss"] for line in log(weights) if "loss" in line] for weights in (stopped, straight)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert weights_files.read(straight).identity.front_end.excerpt_frames == 32


def test_the_projection_is_fitted_anew_after_training(corpus: CorpusSettings, tmp_path: Path) -> None:
    weights = train(configuration(corpus, tmp_path, PUBLISHED, steps=1))
    last = log(weights)[-1]
    assert last["refit_pairs"] == 64
    assert {"A2S MRR before", "A2S MRR"} <= last.keys()
    assert "(1.6 s)" in weights.with_suffix(".md").read_text()


def test_a_training_may_leave_the_projection_as_it_is(corpus: CorpusSettings, tmp_path: Path) -> None:
    made = configuration(corpus, tmp_path, PUBLISHED, steps=1)
    made = dataclasses.replace(made, training=dataclasses.replace(made.training, refit_pairs=0))
    weights = train(made)
    assert [line["step"] for line in log(weights)] == [1]
    assert weights.exists()


def test_a_plateau_goes_back_to_the_best_weights(corpus: CorpusSettings, tmp_path: Path) -> None:
    trainer = Trainer(configuration(corpus, tmp_path, PUBLISHED, steps=9))
    mean = trainer.network.get_buffer("projection.score_mean")
    trainer.metrics = {"A2S MRR": 0.5, "S2A MRR": 0.3}
    trainer.checkpoint()
    mean.fill_(7.0)
    trainer.metrics = {"A2S MRR": 0.4, "S2A MRR": 0.3}
    trainer.checkpoint()
    assert not mean.any()
    assert trainer.metrics["A2S MRR"] == 0.5
    assert trainer.plateau.refinements == 1


def test_a_loss_that_the_network_cannot_learn_by_is_refused(corpus: CorpusSettings, tmp_path: Path) -> None:
    wrong = configuration(corpus, tmp_path, PUBLISHED, steps=1)
    wrong = dataclasses.replace(wrong, training=dataclasses.replace(wrong.training, loss="infonce"))
    with pytest.raises(SettingsError, match=r"training\.loss: networks of family 'published' have no temperature"):
        Trainer(wrong)


def test_training_without_a_corpus_names_the_folder_that_lacks_them(corpus: CorpusSettings, tmp_path: Path) -> None:
    bare = dataclasses.replace(corpus, folder=tmp_path / "nothing")
    with pytest.raises(SettingsError, match=r"nothing/train: has no piece with both a print and a recording"):
        train(configuration(bare, tmp_path, PUBLISHED, steps=1))


def test_a_training_starts_from_a_weights_file_and_leaves_the_pathway_alone_that_does_not_learn(
    corpus: CorpusSettings, tmp_path: Path
) -> None:
    first = configuration(corpus, tmp_path / "first", RESIDUAL, steps=2)
    weights = train(first)
    training = dataclasses.replace(first.training, run=tmp_path / "second", start=str(weights), learns=("recording",))
    trainer = Trainer(dataclasses.replace(first, training=training))
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    saved = network_of(weights_files.read(weights)).state_dict()
    assert all(torch.equal(before[name], saved[name]) for name in before)
    train(dataclasses.replace(first, training=training))
    after = network_of(weights_files.read(tmp_path / "second" / "default.safetensors")).state_dict()
    moved = [name for name, tensor in after.items() if not torch.allclose(tensor, before[name], atol=1e-6)]
    assert {name.split(".")[0] for name in moved} == {"recording_pathway"}


def test_weights_of_another_front_end_are_no_start(corpus: CorpusSettings, tmp_path: Path) -> None:
    first = configuration(corpus, tmp_path, RESIDUAL, steps=1)
    training = dataclasses.replace(first.training, start="shipped")
    with pytest.raises(SettingsError, match=r"training\.start: expected the front_end .*, network 'default' has "):
        Trainer(dataclasses.replace(first, training=training))


@pytest.mark.parametrize("architecture", ARCHITECTURES[:2], ids=lambda architecture: architecture.family)
def test_a_wider_network_starts_as_the_narrow_one_and_all_of_it_learns(
    architecture: Architecture, corpus: CorpusSettings, tmp_path: Path
) -> None:
    first = configuration(corpus, tmp_path / "first", architecture, steps=2)
    weights = train(first)
    narrow = network_of(weights_files.read(weights)).eval()
    wider = dataclasses.replace(architecture, channels=(3, 7), head_channels=4)
    training = dataclasses.replace(
        first.training,
        run=tmp_path / "second",
        start=str(weights),
        steps=6,
        warm_up_steps=1,
        cool_down_steps=1,
        learning_rate=1e-2,
    )
    second = dataclasses.replace(first, architecture=wider, training=training)
    wide = Trainer(second).network.eval()
    snippets, excerpts = torch.rand(5, 1, *narrow.snippet_shape), torch.rand(5, 1, *narrow.excerpt_shape)
    with torch.inference_mode():
        torch.testing.assert_close(wide.score(snippets), narrow.score(snippets), atol=1e-4, rtol=0)
        torch.testing.assert_close(wide.recording(excerpts), narrow.recording(excerpts), atol=1e-4, rtol=0)
    before = {name: tensor.clone() for name, tensor in wide.named_parameters()}
    former = dict(narrow.named_parameters())
    learnt = dict(network_of(weights_files.read(train(second))).named_parameters())
    for name, tensor in learnt.items():
        moved = (tensor - before[name]).abs().detach()
        assert moved.max() > 1e-5, name
        moved[tuple(slice(size) for size in former[name].shape)] = 0
        if moved.dim() > 1 and moved.shape != former[name].shape:  # scales of single channels may come back
            assert moved.max() > 1e-5, f"{name}: the new channels do not learn"


@pytest.mark.parametrize(
    ("former", "cause"),
    [
        (dataclasses.replace(RESIDUAL, channels=(2, 5)), r"would shrink from \(5, "),
        (ARCHITECTURES[0], "their layers differ"),
    ],
)
def test_a_network_that_is_wider_or_another_is_no_start(
    former: Architecture, cause: str, corpus: CorpusSettings, tmp_path: Path
) -> None:
    weights = train(configuration(corpus, tmp_path / "first", former, steps=1))
    second = configuration(corpus, tmp_path / "second", RESIDUAL, steps=1)
    training = dataclasses.replace(second.training, start=str(weights))
    with pytest.raises(
        SettingsError, match=rf"training\.start: expected the architecture .*, network 'default' has .*: .*{cause}"
    ):
        Trainer(dataclasses.replace(second, training=training))


def weights_of(network: torch.nn.Module) -> torch.Tensor:
    """All parameters of a network as one row, copied."""
    return torch.cat([weights.detach().flatten().clone() for weights in network.parameters()])


def test_a_list_of_instruments_that_is_missing_ends_a_training_before_it_begins(
    corpus: CorpusSettings, tmp_path: Path
) -> None:
    unlisted = dataclasses.replace(corpus, instruments="none.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        train(dataclasses.replace(configuration(corpus, tmp_path, RESIDUAL, 1), corpus=unlisted))
    assert not list(tmp_path.iterdir())


def with_averaging(first: Configuration, share: float) -> Configuration:
    training = dataclasses.replace(first.training, averaging=share, learning_rate=0.05, warm_up_steps=1)
    return dataclasses.replace(first, training=training)


def learn(trainer: Trainer, steps: int) -> None:
    """Trains on random pairs of the corpus, which differ from step to step."""
    pieces = Corpus(trainer.configuration.corpus.folder / "train", "published").refresh()
    source = PairSource(pieces, trainer.configuration.front_end, NO_AUGMENTATION)
    for step in range(trainer.step, trainer.step + steps):
        trainer.learn(source.batch(8, 4, step))


def test_the_share_that_the_average_keeps_rises_to_the_setting() -> None:
    shares = [kept_share(0.998, steps) for steps in range(6000)]
    assert shares[:3] == pytest.approx([1 / 10, 2 / 11, 3 / 12])
    assert shares == sorted(shares)
    assert shares[4000] < shares[-1] == 0.998
    assert kept_share(0.9, 79) == pytest.approx(80 / 89)
    assert (kept_share(0.9, 80), kept_share(0.9, 10**6)) == (0.9, 0.9)


def test_after_ten_steps_the_average_has_left_its_random_start(corpus: CorpusSettings, tmp_path: Path) -> None:
    trainer = Trainer(with_averaging(configuration(corpus, tmp_path, RESIDUAL, steps=1000), 0.998))
    learn(trainer, 1)
    start = weights_of(trainer.network)
    assert torch.equal(weights_of(trainer.average.module), start)
    learn(trainer, 10)
    present, average = weights_of(trainer.network), weights_of(trainer.average.module)
    assert not torch.equal(average, present)
    assert torch.dist(average, present) < 0.4 * torch.dist(start, present)


def test_without_averaging_the_average_is_the_present_weights(corpus: CorpusSettings, tmp_path: Path) -> None:
    trainer = Trainer(with_averaging(configuration(corpus, tmp_path, RESIDUAL, steps=1000), 0.0))
    learn(trainer, 4)
    torch.testing.assert_close(weights_of(trainer.average.module), weights_of(trainer.network))


def test_counters_are_copied_into_the_average(corpus: CorpusSettings, tmp_path: Path) -> None:
    trainer = Trainer(with_averaging(configuration(corpus, tmp_path, RESIDUAL, steps=1000), 0.998))
    learn(trainer, 3)
    present, average = trainer.network.state_dict(), trainer.average.module.state_dict()
    counters = [name for name, tensor in present.items() if not tensor.is_floating_point()]
    assert counters
    assert all(torch.equal(average[name], present[name]) for name in counters)


def test_the_average_goes_on_after_a_checkpoint_and_is_what_training_ends_with(
    corpus: CorpusSettings, tmp_path: Path
) -> None:
    settings = with_averaging(configuration(corpus, tmp_path / "stopped", RESIDUAL, steps=1000), 0.998)
    settings.training.run.mkdir()
    stopped = Trainer(settings)
    learn(stopped, 5)
    stopped.checkpoint()
    resumed = Trainer(settings)
    resumed.resume()
    torch.testing.assert_close(weights_of(resumed.average.module), weights_of(stopped.average.module))
    for trainer in (stopped, resumed):
        learn(trainer, 3)
    torch.testing.assert_close(
        weights_of(resumed.average.module), weights_of(stopped.average.module), rtol=1e-3, atol=1e-4
    )
    expected = weights_of(resumed.average.module)
    resumed.take_best()
    assert torch.equal(weights_of(resumed.network), expected)


def test_the_command_line_sets_the_averaging(corpus: CorpusSettings, tmp_path: Path) -> None:
    config = tmp_path / "small.toml"
    config.write_text(
        f"""
        [corpus]
        folder = "{corpus.folder}"
        bands = ["published"]
        [front_end]
        strip_rows = 64
        snippet_px = 64
        excerpt_frames = 32
        [architecture]
        family = "residual"
        channels = [2, 4]
        blocks = [1]
        head_channels = 2
        [training]
        steps = 4
        batch = 8
        warm_up_steps = 1
        learning_rate = 0.05
        averaging = 0.9
        evaluate_every = 4
        validation_pairs = 250
        refit_pairs = 64
        threads = 1
        """
    )
    differences = {}
    for share in ("0", "0.5"):
        run = tmp_path / share
        settings = [f"--set=training.averaging={share}", f"--set=training.run={run}"]
        assert main([str(config), "--no-corpus", *settings]) == 0
        state = torch.load(run / "checkpoint.pt", weights_only=True)
        average = network_of(weights_files.read(run / "default.safetensors")).state_dict()
        differences[share] = max(float((average[name] - state["network"][name]).abs().max()) for name in average)
        assert f"averaging {float(share)}" in (run / "default.md").read_text()
    assert differences["0"] < 1e-3  # what rounding to the file's float16 takes
    assert differences["0.5"] > 5e-3


def test_the_card_says_which_weights_the_training_started_from(corpus: CorpusSettings, tmp_path: Path) -> None:
    first = configuration(corpus, tmp_path / "first", RESIDUAL, steps=1)
    weights = train(first)
    training = dataclasses.replace(first.training, run=tmp_path / "second", start=str(weights))
    second = train(dataclasses.replace(first, training=training))
    assert "from random weights." in weights.with_suffix(".md").read_text()
    assert "from the weights `default.safetensors`." in second.with_suffix(".md").read_text()
    assert str(tmp_path) not in second.with_suffix(".md").read_text()


def test_blocks_that_do_not_go_with_the_channels_are_told(corpus: CorpusSettings, tmp_path: Path) -> None:
    wrong = configuration(corpus, tmp_path, dataclasses.replace(RESIDUAL, blocks=(1, 1, 1)), steps=1)
    with pytest.raises(SettingsError, match=r"architecture\.blocks: expected one number .* of 2 channels .*, got 3"):
        Trainer(wrong)
