"""The losses that training minimises."""

import torch
from torch import Tensor


def symmetric_infonce(score: Tensor, recording: Tensor, log_scale: Tensor, ignored: Tensor) -> Tensor:
    """Cross-entropy of finding each pair's other half among those of the whole batch, averaged over both directions.

    score, recording: float (n, 32) unit vectors; row i of both is one pair.
    log_scale: logarithm of the inverse temperature, learned.
    ignored: bool (n, n), True where pairs i and j are nearly the same music, so that neither is a negative of the
        other; the diagonal is False.
    Returns a scalar.
    Source: van den Oord et al. 2018 (InfoNCE); Radford et al. 2021, section 2.3 (both directions, learned scale).
    """
    logits = (score @ recording.T) * log_scale.clamp(max=5.0).exp()
    logits = logits.masked_fill(ignored, -1e4)
    target = torch.arange(len(logits), device=logits.device)
    forth = torch.nn.functional.cross_entropy(logits, target)
    back = torch.nn.functional.cross_entropy(logits.T, target)
    return 0.5 * (forth + back)


def pairwise_ranking(score: Tensor, recording: Tensor, ignored: Tensor, margin: float = 0.7) -> Tensor:
    """The mean amount by which the similarity of a wrong excerpt exceeds that of the right one minus a margin.

    score, recording, ignored: as in `symmetric_infonce`. Snippets are the only anchors, as published.
    Returns a scalar: the mean of max(0, margin - s_ii + s_ij) over all i and j != i that are not ignored; 0 if all are.
    Source: Kiros et al. 2014; Dorfer et al., TISMIR 2018, section 3.2.
    """
    similarity = score @ recording.T
    violation = torch.relu(margin - similarity.diagonal()[:, None] + similarity)
    counted = ~(ignored | torch.eye(len(score), dtype=torch.bool, device=score.device))
    # The mean of nothing is NaN, and after such a step all weights are.
    return violation[counted].sum() / counted.sum().clamp_min(1)
