import pytest

from indexer.training.configuration import TrainingSettings
from indexer.training.schedule import Plateau, finished, learning_rate

PLATEAU = TrainingSettings(
    schedule="plateau", learning_rate=1.0, steps=100, patience=3, refinement_patience=2, refinements=2
)


def test_an_equal_evaluation_counts_as_a_better_one() -> None:
    plateau = Plateau()
    assert [plateau.judge(quality, PLATEAU) for quality in (0.1, 0.3, 0.2, 0.3)] == ["keep", "keep", "wait", "keep"]


def test_each_run_out_of_patience_halves_the_rate_until_training_ends() -> None:
    plateau = Plateau(best=1.0)
    verdicts, rates = [], []
    while not finished(PLATEAU, 0, plateau):
        verdicts.append(plateau.judge(0.5, PLATEAU))
        rates.append(learning_rate(PLATEAU, 0, plateau))
    assert verdicts == ["wait", "wait", "refine", "wait", "refine", "wait", "refine"]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_the_steps_bound_every_schedule() -> None:
    assert finished(PLATEAU, 100, Plateau())
    assert not finished(PLATEAU, 99, Plateau())


def test_the_cosine_warms_up_and_ends_at_a_hundredth() -> None:
    settings = TrainingSettings(learning_rate=1.0, steps=100, warm_up_steps=10)
    rates = [learning_rate(settings, step, Plateau()) for step in (0, 9, 10, 55, 100)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.505, 0.01])
