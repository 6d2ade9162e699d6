from pathlib import Path

import pytest

from bench import ablation
from indexer.training import corpus
from indexer.training.configuration import Configuration
from small_scores import write_kern


@pytest.mark.parametrize("name", ablation.ROWS)
def test_every_row_is_a_configuration_with_a_run_of_its_own(name: str) -> None:
    common = ablation.configure("as it is", ())
    row = ablation.configure(name, ())
    assert (row.training.run == common.training.run) == (name == "as it is")
    assert row.training.run.name == row.training.name


def test_rows_that_change_the_corpus_do_not_share_its_takes() -> None:
    common = ablation.configure("as it is", ())
    assert ablation.configure("pages as engraved", ()).corpus.folder != common.corpus.folder
    assert ablation.configure("ranking loss", ()).corpus == common.corpus


def test_settings_of_a_row_lie_over_the_common_ones() -> None:
    row = ablation.configure("tempo as performed", ("augmentation.tempo=0.5", "training.steps=7"))
    assert row.augmentation.tempo == 0.0
    assert row.training.steps == 7


@pytest.fixture
def common(tmp_path: Path) -> tuple[str, ...]:
    """Settings of a corpus of a training piece and a validation piece, which is not made yet."""
    for seed, name in enumerate(("one", "two")):
        write_kern(tmp_path / f"{name}.krn", seed, bars=24)
    (tmp_path / "manifest.csv").write_text("id,path\none,one.krn\ntwo,two.krn\n")
    (tmp_path / "splits.csv").write_text("id,split\none,train\ntwo,val\n")
    sounds = ("corpus.instruments=", "corpus.responses=", "corpus.noises=", "corpus.recordings=1")
    folders = (f"corpus.data={tmp_path}", f"corpus.folder={tmp_path / 'corpus'}", f"training.run={tmp_path / 'run'}")
    return (*folders, *sounds, 'corpus.manifests=["manifest.csv"]')


def test_a_row_that_changes_the_corpus_makes_training_pieces_of_its_own_and_is_validated_on_the_common_ones(
    common: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Configuration] = []
    monkeypatch.setattr(ablation, "train", trained.append)
    shared, row = (ablation.configure(name, common) for name in ("as it is", "in two keys"))
    weights = ablation.trained(row, shared.corpus, jobs=1)
    assert weights == tmp_path / "run" / "in-two-keys" / "in-two-keys.safetensors"
    assert trained == [row]
    own, held = tmp_path / "corpus-in-two-keys", tmp_path / "corpus"
    assert (own / "val").resolve() == held / "val"
    assert [path.name for path in held.iterdir()] == ["val"]
    assert [path.name for path in (own / "val" / "prints").iterdir()] == ["two.0.npz"]
    assert len(list((own / "train" / "prints").iterdir())) == 2


def test_a_row_on_the_common_corpus_makes_all_of_it(common: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    made, trained = [], list[Configuration]()
    monkeypatch.setattr(corpus, "make", lambda settings, *_: made.append(settings))
    monkeypatch.setattr(ablation, "train", trained.append)
    shared, row = (ablation.configure(name, common) for name in ("as it is", "ranking loss"))
    ablation.trained(row, shared.corpus, jobs=1)
    assert made == [shared.corpus]
    assert trained == [row]
