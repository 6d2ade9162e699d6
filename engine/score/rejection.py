"""Why detection did not accept something: the record that every stage gives to whoever asks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.values import Box

Stage = Literal["ink", "course", "staff", "system"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One candidate that a stage did not accept, and the threshold that it missed."""

    stage: Stage
    reason: str
    """What was measured, and the name of the threshold."""
    measured: float
    threshold: float
    """In the unit of `measured`."""
    box: Box
    """Where the candidate lies, in page widths."""


Reject = Callable[[Rejection], None]
"""Receives each rejection when it happens."""


def ignore(rejection: Rejection, /) -> None:
    """Does nothing: what detection reports to when nobody asks for reasons."""
