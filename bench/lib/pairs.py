"""Pairs of sheet snippets and audio excerpts of the same music, and how networks rank them.

What `bench.embedding` and `bench.robustness` share. Each query is compared with the counterparts of all queries by
the cosine of the embeddings; near-duplicates, of which music is full, count as errors, as published.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.audio import BANDS, levelled
from engine.config import FrontEnd
from engine.embedding.documents import Encoder
from engine.metrics import Ranks, ranks_by_cost
from engine.values import Embeddings

NEAR_MEASURES = 1.0
"""Within so many measures of the right counterpart another one of the same piece is forgiven by `forgiving`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """One piece seen and heard, and points of it that are known in both; arrays of points are (n,)."""

    piece: str
    strip: NDArray[np.uint8]
    """(rows, width), white = 255: the unrolled systems."""
    zoom: int = 1
    """Pixels of the working scale that one of the strip stands for, each way."""
    spectrogram: NDArray[np.floating]
    """(bands, frames)"""
    columns: NDArray[np.floating]
    """Where in the strip the points stand ..."""
    frames: NDArray[np.floating]
    """... and when they sound."""
    measures: NDArray[np.float64]
    """Where in the score they are, counted in measures: what tells near points from far ones."""


Picked = list[tuple[int, int]]
"""Points: number of the material, number of the point in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """n points cut out, windows centred on them."""

    snippets: NDArray[np.uint8]
    """(n, strip_rows, snippet_px) at the working scale."""
    excerpts: NDArray[np.float32]
    """(n, bands, excerpt_frames), gain as it was."""
    pieces: NDArray[np.str_]
    measures: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """The rank of the counterpart of each of n queries."""

    exact: Ranks
    forgiving: Ranks
    """The rank of the first candidate of the same piece at most NEAR_MEASURES away."""


def widest(front_ends: Sequence[FrontEnd]) -> FrontEnd:
    """Windows that hold those of all the front ends, so that all networks are asked the same.

    Raises ValueError if they do not work at one scale and with the same bands.
    """
    for setting in ("staff_space_px", "bands"):
        values = {getattr(front_end, setting) for front_end in front_ends}
        if len(values) != 1:
            raise ValueError(f"expected networks of one {setting}, got {sorted(values)}: measure them apart")
    return replace(
        front_ends[0],
        strip_rows=max(front_end.strip_rows for front_end in front_ends),
        snippet_px=max(front_end.snippet_px for front_end in front_ends),
        excerpt_frames=max(front_end.excerpt_frames for front_end in front_ends),
    )


def pick(materials: Sequence[Material], window: FrontEnd, count: int) -> Picked:
    """At most `count` points, evenly spaced over all whose windows lie inside their piece."""
    pool = [(i, int(j)) for i, material in enumerate(materials) for j in np.flatnonzero(_inside(material, window))]
    chosen = np.linspace(0, len(pool) - 1, min(count, len(pool))).round().astype(int)
    return [pool[number] for number in chosen]


def cut(materials: Sequence[Material], picked: Picked, window: FrontEnd) -> Pairs:
    """The windows centred on the points."""
    snippets = np.empty((len(picked), window.strip_rows, window.snippet_px), np.uint8)
    excerpts = np.empty((len(picked), BANDS[window.bands], window.excerpt_frames), np.float32)
    for i, (number, point) in enumerate(picked):
        material = materials[number]
        left, start = _starts(material, window)
        width = window.snippet_px // material.zoom
        snippet = _middle(material.strip[:, left[point] : left[point] + width], window.strip_rows // material.zoom, 0)
        snippets[i] = snippet.repeat(material.zoom, axis=0).repeat(material.zoom, axis=1)
        excerpts[i] = material.spectrogram[:, start[point] : start[point] + window.excerpt_frames]
    return Pairs(
        snippets=snippets,
        excerpts=excerpts,
        pieces=np.array([materials[number].piece for number, _ in picked]),
        measures=np.array([materials[number].measures[point] for number, point in picked]),
    )


def seen(encoder: Encoder, pairs: Pairs) -> Embeddings:
    """The embeddings of the snippets."""
    front_end = encoder.identity.front_end
    return encoder.score(_middle(_middle(pairs.snippets, front_end.strip_rows, 1), front_end.snippet_px, 2))


def heard(encoder: Encoder, pairs: Pairs) -> Embeddings:
    """The embeddings of the excerpts."""
    front_end = encoder.identity.front_end
    excerpts = np.ascontiguousarray(_middle(pairs.excerpts, front_end.excerpt_frames, 2))
    return encoder.recording(levelled(excerpts, front_end))


def rank(score: Embeddings, recording: Embeddings, pairs: Pairs) -> dict[str, Ranked]:
    """The ranks by direction: excerpts among the snippets (A2S), snippets among the excerpts (S2A)."""
    same = pairs.pieces[:, None] == pairs.pieces
    near = same & (np.abs(pairs.measures[:, None] - pairs.measures) <= NEAR_MEASURES)
    costs = 1 - recording @ score.T
    return {"A2S": _ranked(costs, near), "S2A": _ranked(costs.T, near)}


def _ranked(costs: NDArray[np.float32], near: NDArray[np.bool_]) -> Ranked:
    best = np.where(near, costs, np.inf).min(axis=1, keepdims=True)
    return Ranked(
        exact=ranks_by_cost(costs, np.arange(len(costs))),
        forgiving=1.0 + np.sum(~near & (costs <= best), axis=1),
    )


def _starts(material: Material, window: FrontEnd) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First column and first frame of the window of each point."""
    left = np.rint(material.columns).astype(np.int64) - window.snippet_px // material.zoom // 2
    return left, np.rint(material.frames).astype(np.int64) - window.excerpt_frames // 2


def _inside(material: Material, window: FrontEnd) -> NDArray[np.bool_]:
    left, start = _starts(material, window)
    right, stop = left + window.snippet_px // material.zoom, start + window.excerpt_frames
    seen = (left >= 0) & (right <= material.strip.shape[1])
    return np.asarray(seen & (start >= 0) & (stop <= material.spectrogram.shape[1]))


def _middle(array: NDArray[Any], length: int, axis: int) -> NDArray[Any]:
    """The middle `length` of an axis."""
    start = (array.shape[axis] - length) // 2
    return np.take(array, np.arange(start, start + length), axis=axis)
