"""Rejections: the record of a candidate that a stage of detection did not accept, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.values import Box

Stage = Literal["ink", "course", "staff", "system"]
"""The stages that reject, first to last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A candidate that a stage did not accept, with the threshold that it missed."""

    stage: Stage
    reason: str
    """The quantity measured, and the name of the threshold."""
    measured: float
    """The measured value."""
    threshold: float
    """The threshold, in the unit of `measured`."""
    box: Box
    """Place of the candidate on the page, in page widths."""


Reject = Callable[[Rejection], None]
"""A function that receives each rejection as soon as a stage rejects a candidate."""


def ignore(rejection: Rejection, /) -> None:
    """Ignores a rejection. Detection calls this function if the caller wants no reasons."""
