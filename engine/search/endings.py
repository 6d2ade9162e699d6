"""Endings: until when a passage sounds whose way has come to the end of its document.

The last bars of a piece slow down, its last chord rings, and its last strain may be repeated or not be recognised. Then
the chain ends before the music does, by half a minute in the worst cases, while it is hardly ever wrong about where a
piece begins. So a passage that ends within the last LAST_SNIPPETS of its document goes on as long as the sound is as
tonal as it was: until applause, until the noise of the room, until silence. A passage that breaks off elsewhere ends
where the chain says, because other music may follow at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.alignment.chains import Link
from engine.audio.tonality import Tonality
from engine.search.passages import Passage, Searched

LAST_SNIPPETS = 20
"""Snippets at the end of a document, some two systems, of which the last row of a passage has to be one. On validation,
more gain nothing, and fewer lose half of the gain."""
MARGIN = 0.9
"""Share of that tonality, because music that goes on has moments that are less tonal than the music so far, too."""
LONGEST_S = 60.0
"""Most seconds by which a passage is prolonged. With 15, a third of the gain was lost on validation."""
MEASURED_S = 60.0
"""Seconds at the end of the chain's way by which it is measured how tonal the music is."""
SMOOTHED_S = 2.0
"""Seconds over which tonality is averaged: long enough for a breath between two phrases."""
USUAL = 0.05
"""Share of the music that is less tonal than its sound has to be to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tones:
    """How tonal an evening is from some moment on."""

    values: Tonality
    """Tonality of each frame, (frames,)."""
    start_s: float
    """Time of the first frame."""
    rate: float
    """Frames in a second."""

    @property
    def end_s(self) -> float:
        """Returns the time of the last frame's end."""
        return self.start_s + len(self.values) / self.rate

    def music_until(self, start_s: float, end_s: float, until_s: float) -> float:
        """Returns the time until which music goes on that has begun at `start_s` and was followed to `end_s`.

        until_s: the latest time. Without enough sound before `end_s` to compare with, the result is `end_s`.
        """
        window = max(1, round(SMOOTHED_S * self.rate))
        first = max(0, self._frame(max(start_s, end_s - MEASURED_S)))
        last = min(len(self.values), self._frame(min(until_s, end_s + LONGEST_S)))
        at = self._frame(end_s) - first
        if at < 2 * window or last - first <= at:
            return end_s
        sums = np.concatenate([[0.0], np.cumsum(self.values[first:last], dtype=np.float64)])
        smooth = (sums[window:] - sums[:-window]) / window
        least = MARGIN * np.quantile(smooth[: at - window + 1], USUAL)
        over = np.flatnonzero(smooth[at - window :] < least)
        if len(over) == 0:
            return min(until_s, self.start_s + last / self.rate)
        ended = first + at - window + int(over[0])
        return max(end_s, self.start_s + (ended + window / 2) / self.rate)

    def prolonged(self, passages: Sequence[Passage], links: Sequence[Link], searched: Searched) -> tuple[Passage, ...]:
        """Returns the passages of an evening, those that come to the end of their document as long as they sound.

        passages: in order. links: of which they are made.
        """
        starts = [passage.stretch.start_s or 0.0 for passage in passages]
        untils = [*starts, np.inf][1 : len(starts) + 1]
        found = []
        for passage, link, begun, until in zip(passages, links, starts, untils, strict=True):
            end_s = passage.stretch.end_s or 0.0
            if link.path[-1, 1] >= searched.sizes[link.document] - LAST_SNIPPETS:
                end_s = self.music_until(begun, end_s, until)
            found.append(replace(passage, stretch=replace(passage.stretch, end_s=end_s)))
        return tuple(found)

    def _frame(self, time_s: float) -> int:
        """Returns the number of the frame at a time, which may be before the first or after the last one."""
        return int(np.clip((time_s - self.start_s) * self.rate, -1, len(self.values)))
