import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.embedding.projection import REGULARISER, Projection, canonical_bases


def correlated(count: int, dimension: int) -> tuple[Tensor, Tensor]:
    """Pairs of vectors that share half of their components; each half is mixed, scaled and shifted differently."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((count, dimension))
    halves = []
    for offset in (3.0, -2.0):
        own = rng.standard_normal((count, dimension))
        halves.append(torch.from_numpy((shared + own) @ rng.standard_normal((dimension, dimension)) + offset))
    return halves[0], halves[1]


def inverse_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors / np.sqrt(values) @ vectors.T)


def mean_correlation(one: Tensor, other: Tensor) -> float:
    columns = zip(one.T.numpy(), other.T.numpy(), strict=True)
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in columns]))


def test_the_bases_are_those_of_the_published_closed_form() -> None:
    score, recording = correlated(200, 6)
    bases = canonical_bases(score, recording)
    x, y = (half.numpy() - half.numpy().mean(axis=0) for half in (score, recording))
    ridge = REGULARISER * np.eye(6)
    roots = [inverse_root(half.T @ half / 199 + ridge) for half in (x, y)]
    whitened = roots[0] @ (x.T @ y / 199) @ roots[1]
    left, right = (np.linalg.eigh(square)[1][:, ::-1] for square in (whitened @ whitened.T, whitened.T @ whitened))
    expected = roots[0] @ left, roots[1] @ right
    for found, wanted in zip((bases.score.numpy(), bases.recording.numpy()), expected, strict=True):
        np.testing.assert_allclose(np.abs(found), np.abs(wanted), atol=1e-8)
    assert (np.diag(bases.score.numpy().T @ (x.T @ y) @ bases.recording.numpy()) > 0).all()


def test_gradients_flow_through_the_fit() -> None:
    def cosines(score: Tensor, recording: Tensor) -> Tensor:
        return torch.nn.functional.cosine_similarity(*Projection(4).double().fit(score, recording))

    halves = [half.requires_grad_() for half in correlated(9, 4)]
    assert torch.autograd.gradcheck(cosines, halves)


@pytest.mark.parametrize("score", [torch.zeros(8, 4), torch.ones(8, 1) * torch.eye(4).repeat(2, 1)])
def test_the_gradient_is_finite_where_correlations_coincide(score: Tensor) -> None:
    score = score.requires_grad_()
    one, other = Projection(4).fit(score, score.detach().clone())
    (one * other).sum().backward()  # type: ignore[no-untyped-call]
    assert score.grad is not None
    assert torch.isfinite(score.grad).all()


def test_a_fit_to_many_pairs_correlates_unseen_pairs_better_than_a_fit_to_few() -> None:
    score, recording = correlated(3000, 16)
    unseen = slice(2000, None)

    def quality(pairs: slice) -> float:
        projection = Projection(16)
        projection.fit(score[pairs], recording[pairs])
        return mean_correlation(projection.score(score[unseen]), projection.recording(recording[unseen]))

    assert quality(slice(0, 2000)) > quality(slice(0, 40)) + 0.05
    assert quality(slice(0, 2000)) > mean_correlation(score[unseen], recording[unseen]) + 0.1


def test_what_was_fitted_is_what_later_vectors_are_projected_by() -> None:
    score, recording = correlated(50, 4)
    projection = Projection(4)
    one, other = projection.fit(score, recording)
    torch.testing.assert_close(projection.score(score), one)
    torch.testing.assert_close(projection.recording(recording), other)
