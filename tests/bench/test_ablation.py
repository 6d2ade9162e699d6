import pytest

from bench import ablation


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
