"""How soon are the borders of an evening told while it is played, and what does that cost?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.lib.recitals import Played, PlayedEvening
from engine.audio import SAMPLE_RATE
from engine.evening import LiveEvening
from engine.finder import Engine
from engine.search.live_segmentation import LivePassage
from engine.search.segmentation import Segmenter
from engine.values import Kind

BORDER_S = 5.0
"""Largest error of a border that is good."""
PUSH_S = 0.5
"""Seconds of sound that an evening hears at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDelays:
    """When the borders of an evening were told while it was played."""

    starts: tuple[float, ...]
    """Seconds from the start of each known piece until it was told; infinite if never."""
    ends: tuple[float, ...]
    """Seconds from the end of each known piece until it was told; infinite if never."""
    cpu_s: float
    """CPU seconds of embedding and finding."""
    slowest_s: float
    """Most CPU seconds of one push of sound."""
    hours: float


def delays(evening: PlayedEvening, engine: Engine, segmenter: Segmenter, among: Kind = "score") -> LiveDelays:
    """Returns when the borders of an evening are told while it is played. among: the kind of documents searched."""
    live, size = LiveEvening(SAMPLE_RATE, engine.encoder.identity.front_end, among), round(PUSH_S * SAMPLE_RATE)
    known = [one for one in evening.played if one.piece]
    starts, ends = ([np.inf] * len(known) for _ in range(2))
    pushes_s = []
    for at in range(0, len(evening.samples), size):
        started = time.process_time()
        live.hear(evening.samples[at : at + size])
        live.find(engine.encoder, segmenter)
        pushes_s.append(time.process_time() - started)
        for number, one in enumerate(known):
            told_start, told_end = _told(live.passages, one)
            if told_start:
                starts[number] = min(starts[number], live.heard_s - one.start_s)
            if told_end:
                ends[number] = min(ends[number], live.heard_s - one.end_s)
    return LiveDelays(
        starts=tuple(starts),
        ends=tuple(ends),
        cpu_s=sum(pushes_s),
        slowest_s=max(pushes_s),
        hours=live.heard_s / 3600,
    )


def _told(passages: Sequence[LivePassage], played: Played) -> tuple[bool, bool]:
    """Returns whether the start and the end of a piece are told."""
    same = [one for one in passages if one.passage.document.id == played.piece]
    ended = [one for one in same if one.ended]
    return (
        any(abs((one.passage.stretch.start_s or 0.0) - played.start_s) <= BORDER_S for one in same),
        any(abs((one.passage.stretch.end_s or 0.0) - played.end_s) <= BORDER_S for one in ended),
    )


def row(name: str, results: Sequence[LiveDelays]) -> dict[str, Any]:
    """Returns the table row of some evenings."""
    hours = sum(result.hours for result in results)
    return {
        "evening": name,
        "n": sum(len(result.starts) for result in results),
        **_quantiles("start", [one for result in results for one in result.starts]),
        **_quantiles("end", [one for result in results for one in result.ends]),
        "CPU s/h": sum(result.cpu_s for result in results) / hours,
        "slowest push s": max(result.slowest_s for result in results),
    }


def _quantiles(border: str, seconds: Sequence[float]) -> dict[str, float | None]:
    """Returns the median and the 90 % quantile of delays, None for never, and the share that is never told."""
    found = {
        name: float(np.percentile(seconds, percent, method="inverted_cdf"))
        for name, percent in (("median", 50), ("90%", 90))
    }
    told = {f"{border} after s, {name}": s if np.isfinite(s) else None for name, s in found.items()}
    return told | {f"{border} never": float(np.mean(np.isinf(seconds)))}
