import math

import pytest
import torch

from indexer.training.losses import pairwise_ranking, symmetric_infonce

NONE = torch.zeros(4, 4, dtype=torch.bool)


def test_perfect_pairs_cost_next_to_nothing() -> None:
    vectors = torch.eye(4)
    assert float(symmetric_infonce(vectors, vectors, torch.tensor(3.0), NONE)) < 1e-6


def test_indistinct_pairs_cost_the_logarithm_of_the_batch() -> None:
    vectors = torch.ones(4, 4) / 2
    assert float(symmetric_infonce(vectors, vectors, torch.tensor(3.0), NONE)) == pytest.approx(math.log(4))


def test_an_ignored_negative_does_not_count() -> None:
    score = torch.eye(4)
    recording = score.clone()
    recording[1] = score[0]  # pair 1 sounds as pair 0 looks
    ignored = NONE.clone()
    ignored[0, 1] = ignored[1, 0] = True
    scale = torch.tensor(3.0)
    honest = symmetric_infonce(score, recording, scale, NONE)
    assert float(symmetric_infonce(score, recording, scale, ignored)) < float(honest)


def test_both_directions_weigh_the_same() -> None:
    rng = torch.Generator().manual_seed(0)
    score, recording = (torch.nn.functional.normalize(torch.randn(4, 8, generator=rng)) for _ in range(2))
    scale = torch.tensor(2.0)
    forth = symmetric_infonce(score, recording, scale, NONE)
    assert float(forth) == pytest.approx(float(symmetric_infonce(recording, score, scale, NONE)), rel=1e-6)


def test_the_ranking_loss_is_the_mean_violation_of_the_snippets_alone() -> None:
    rng = torch.Generator().manual_seed(0)
    score, recording = (torch.nn.functional.normalize(torch.randn(4, 8, generator=rng)) for _ in range(2))
    ignored = NONE.clone()
    ignored[1, 2] = ignored[2, 1] = True
    similarity = (score @ recording.T).tolist()
    violations = {
        (i, j): max(0.0, 0.7 - similarity[i][i] + similarity[i][j]) for i in range(4) for j in range(4) if i != j
    }
    assert float(pairwise_ranking(score, recording, NONE)) == pytest.approx(sum(violations.values()) / 12)
    spared = sum(value for pair, value in violations.items() if pair not in ((1, 2), (2, 1))) / 10
    assert float(pairwise_ranking(score, recording, ignored)) == pytest.approx(spared)


@pytest.mark.parametrize("size", [1, 4])
def test_without_negatives_the_ranking_loss_is_nothing_and_moves_no_weight(size: int) -> None:
    score = torch.eye(size, 8).requires_grad_()
    loss = pairwise_ranking(score, torch.eye(size, 8), ~torch.eye(size, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert score.grad is not None
    assert not score.grad.any()
