"""How the learning rate runs through a training, and when it ends."""

import math
from dataclasses import dataclass

from indexer.training.configuration import TrainingSettings


@dataclass(slots=True)
class Plateau:
    """What the schedule `plateau` remembers: how good the best weights were, and what has been tried since."""

    best: float = -math.inf
    stale: int = 0
    """Evaluations since the best."""
    refinements: int = 0
    """Times the best weights were taken up again at half the rate."""

    def judge(self, quality: float, settings: TrainingSettings) -> str:
        """What an evaluation calls for: `keep` these weights as the best, `wait`, or `refine` the best ones."""
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
    """The rate of a step.

    `cosine`: linear warm-up, then half a cosine down to a hundredth. `trapezoid`: linear warm-up, constant, then linear
    down to nothing (Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations").
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
    return step >= settings.steps or plateau.refinements > settings.refinements
