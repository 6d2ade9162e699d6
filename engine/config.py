"""Settings: dataclass defaults, then a TOML file over them, then flags over both."""

from dataclasses import dataclass
from typing import Literal

Gain = Literal["none", "excerpt"]
StepSet = Literal["classic", "slope"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """What shapes the snippets a network sees; stored in its weights and in every collection."""

    staff_space_px: float = 7.0
    """Staff space of the working scale. 7 px is what pages of 835 px width have in the published systems."""
    strip_rows: int = 160
    snippet_px: int = 200
    snippet_hop_px: int = 50
    excerpt_frames: int = 84
    """4.2 s at 20 frames a second."""
    excerpt_hop_frames: int = 10
    """0.5 s."""
    gain: Gain = "excerpt"
    """`none`: the spectrogram as published. `excerpt`: each excerpt scaled to the same mean magnitude, so that
    the loudness of a recording does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How two sequences are aligned."""

    steps: StepSet = "slope"
    """`classic`: (1,1), (1,0), (0,1). `slope`: (1,1), (1,2), (2,1), where a skipped query row is charged."""
    jump_penalty: float = 2.0
    """Cost of going on anywhere else in the document; infinity forbids it."""
    use_bias: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How a query is answered."""

    neighbours: int = 25
    """Nearest document snippets that vote for each query snippet."""
    shortlist: int = 200
    """Documents that are aligned after voting."""
    alignment: Alignment = Alignment()
    threads: int = 2
