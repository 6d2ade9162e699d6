"""Canonical correlation analysis: two linear maps that maximise the correlation of paired vectors."""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

REGULARISER = 1e-3
"""Number added to the diagonal of both covariances."""

_BROADENING = 1e-12
"""Number that keeps the gradient finite if squared correlations coincide. The gradient stays exact if they differ by
much more than 1e-6."""


class Bases(NamedTuple):
    """Means and bases of both halves of the pairs, `score` and `recording`.

    Centred vectors times their basis correlate column by column, the most correlated columns first.
    Means: (d,). Bases: (d, d).
    """

    score_mean: Tensor
    recording_mean: Tensor
    score: Tensor
    recording: Tensor


def canonical_bases(score: Tensor, recording: Tensor) -> Bases:
    """The means and bases of n pairs of vectors, with the most correlated directions first; float64, differentiable.

    score, recording: float (n, d), row i of both is one pair; n > 1.

    With the covariances S11, S22 (both regularised) and S12, the bases U, V satisfy U' S11 U = V' S22 V = I, and
    U' S12 V is diagonal and positive. The original computes them from the eigenvectors of T T' and T' T, where
    T = S11^-1/2 S12 S22^-1/2, and then makes the signs agree. The signs of the singular vectors of T already agree.
    Cholesky factors instead of square roots rotate T, but do not change U and V.
    Source: Hotelling 1936; Dorfer et al., TISMIR 2018, section 3 (in a network).
    """
    score, recording = score.double(), recording.double()
    score_mean, recording_mean = score.mean(dim=0), recording.mean(dim=0)
    centred = score - score_mean, recording - recording_mean
    ridge = REGULARISER * torch.eye(score.shape[1], dtype=score.dtype, device=score.device)
    factors = [torch.linalg.cholesky(_covariance(half, half) + ridge) for half in centred]
    inverses = [
        torch.linalg.solve_triangular(factor, torch.eye(*factor.shape).to(factor), upper=False) for factor in factors
    ]
    left, right = _singular_vectors(inverses[0] @ _covariance(*centred) @ inverses[1].T)
    return Bases(score_mean, recording_mean, inverses[0].T @ left, inverses[1].T @ right)


class Projection(nn.Module):
    """The means and bases of the last fit, float64, by which a network projects its vectors."""

    score_mean: Tensor
    recording_mean: Tensor
    score_basis: Tensor
    recording_basis: Tensor

    def __init__(self, dimension: int) -> None:
        super().__init__()
        for half in ("score", "recording"):
            self.register_buffer(f"{half}_mean", torch.zeros(dimension, dtype=torch.float64))
            self.register_buffer(f"{half}_basis", torch.eye(dimension, dtype=torch.float64))

    def score(self, latents: Tensor) -> Tensor:
        """The projections of score vectors, float64 (n, d)."""
        return (latents.double() - self.score_mean) @ self.score_basis

    def recording(self, latents: Tensor) -> Tensor:
        """The projections of recording vectors, float64 (n, d)."""
        return (latents.double() - self.recording_mean) @ self.recording_basis

    def fit(self, score: Tensor, recording: Tensor) -> tuple[Tensor, Tensor]:
        """Fits the bases to these pairs and keeps them; returns the projected pairs, differentiable through the fit."""
        bases = canonical_bases(score, recording)
        self.score_mean.copy_(bases.score_mean.detach())
        self.recording_mean.copy_(bases.recording_mean.detach())
        self.score_basis.copy_(bases.score.detach())
        self.recording_basis.copy_(bases.recording.detach())
        return (score - bases.score_mean) @ bases.score, (recording - bases.recording_mean) @ bases.recording


def _covariance(left: Tensor, right: Tensor) -> Tensor:
    """The covariance of centred vectors, (d, d)."""
    return left.T @ right / (len(left) - 1)


def _singular_vectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The left and right singular vectors of a matrix, in columns; differentiable."""
    return cast(tuple[Tensor, Tensor], _SingularVectors.apply(matrix))  # type: ignore[no-untyped-call]


class _SingularVectors(torch.autograd.Function):
    """The singular vectors of a matrix, with a gradient that stays finite if singular values are equal."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> tuple[Tensor, Tensor]:
        left, values, right_rows = torch.linalg.svd(matrix)
        ctx.save_for_backward(left, values, right_rows.T)
        return left, right_rows.T.contiguous()

    @staticmethod
    def backward(ctx: Any, left_gradient: Tensor, right_gradient: Tensor) -> Tensor:
        left, values, right = cast(tuple[Tensor, Tensor, Tensor], ctx.saved_tensors)
        gap = values**2 - (values**2)[:, None]
        inverse_gap = gap / (gap**2 + _BROADENING)
        turned_left = inverse_gap * (left.T @ left_gradient)
        turned_right = inverse_gap * (right.T @ right_gradient)
        inner = (turned_left + turned_left.T) * values + values[:, None] * (turned_right + turned_right.T)
        return left @ inner @ right.T
