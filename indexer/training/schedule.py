"""The learning rate of each step, and when a training ends."""

import math
from dataclasses import dataclass

from indexer.training.configuration import TrainingSettings


@dataclass(slots=True)
class Plateau:
    """State of the schedule `plateau`: the quality of the best weights, and what was tried since."""

    best: float = -math.inf
    """Quality of the best weights: the MRR, averaged over both directions."""
    stale: int = 0
    """Evaluations since the best weights were kept."""
    refinements: int = 0
    """How often the training went back to the best weights and halved the rate."""

    def judge(self, quality: float, settings: TrainingSettings) -> str:
        """What follows from an evaluation: `keep` these weights as the best, `wait`, or `refine` the best weights."""
        if quality >= self.best:
            self.best, self.stale = quality, 0
            return "keep"
        self.stale += 1
        if self.stale < (settings.refinement_patience if self.refinements else settings.patience):
            return "wait"
        self.stale = 0
        self.refinements += 1
        return "refine"


def learning_rate(settings: TrainingSettings, step: int, plateau: Plateau) -> float:
    """The learning rate of a step, counted from 0.

    `cosine`: linear warm-up, then half a cosine down to a hundredth. `trapezoid`: linear warm-up, constant, then linear
    down to 0 (Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations").
    `plateau`: halved with each refinement.
    """
    if settings.schedule == "plateau":
        return settings.learning_rate * 0.5**plateau.refinements
    if step < settings.warm_up_steps:
        return settings.learning_rate * (step + 1) / settings.warm_up_steps
    if settings.schedule == "trapezoid":
        return settings.learning_rate * min(1.0, (settings.steps - step) / max(1, settings.cool_down_steps))
    progress = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def finished(settings: TrainingSettings, step: int, plateau: Plateau) -> bool:
    """Whether all steps are taken, or `plateau` calls for more refinements than the settings allow."""
    return step >= settings.steps or plateau.refinements > settings.refinements
