"""Pairs of sheet snippets and audio excerpts of the same music, and how networks rank them.

`bench.embedding` and `bench.robustness` share this module. Each query is compared with the counterparts of all queries,
by the cosine of the embeddings. Near-duplicates, of which music is full, count as errors, as published.
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
"""Distance in measures up to which `forgiving` accepts another candidate of the same piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The strip and the spectrogram of a piece, and n points of the piece whose place in both is known.

    Arrays of points are (n,).
    """

    piece: str
    strip: NDArray[np.uint8]
    """The unrolled systems (rows, width), white = 255."""
    zoom: int = 1
    """Pixels of the working scale for each pixel of the strip, in each direction."""
    spectrogram: NDArray[np.floating]
    """The spectrogram (bands, frames)."""
    columns: NDArray[np.floating]
    """Column of the strip of each point."""
    frames: NDArray[np.floating]
    """Frame of the spectrogram at which each point sounds."""
    measures: NDArray[np.float64]
    """Position of each point in the score, in measures. It tells near points from far ones."""


Picked = list[tuple[int, int]]
"""Chosen points: number of the material, and number of the point in the material."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """The windows cut out around n points."""

    snippets: NDArray[np.uint8]
    """Windows of the strip (n, strip_rows, snippet_px), at the working scale."""
    excerpts: NDArray[np.float32]
    """Windows of the spectrogram (n, bands, excerpt_frames), with the gain of the recording."""
    pieces: NDArray[np.str_]
    measures: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """The ranks of the counterparts of n queries."""

    exact: Ranks
    forgiving: Ranks
    """The rank of the first candidate of the same piece at most NEAR_MEASURES away."""


def widest(front_ends: Sequence[FrontEnd]) -> FrontEnd:
    """A front end whose windows contain the windows of all the front ends, so that all networks get the same queries.

    Raises ValueError if they do not work at one scale and with the same bands.
    """
    for setting in ("staff_space_px", "bands"):
        values = {getattr(front_end, setting) for front_end in front_ends}
        if len(values) != 1:
            raise ValueError(
                f"expected networks of one {setting}, got {sorted(values)}: measure the networks in separate runs"
            )
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
    """The windows centred on the chosen points."""
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
    """The embeddings of the pairs' snippets."""
    front_end = encoder.identity.front_end
    return encoder.score(_middle(_middle(pairs.snippets, front_end.strip_rows, 1), front_end.snippet_px, 2))


def heard(encoder: Encoder, pairs: Pairs) -> Embeddings:
    """The embeddings of the pairs' excerpts."""
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
    """The first column and the first frame of each point's window."""
    left = np.rint(material.columns).astype(np.int64) - window.snippet_px // material.zoom // 2
    return left, np.rint(material.frames).astype(np.int64) - window.excerpt_frames // 2


def _inside(material: Material, window: FrontEnd) -> NDArray[np.bool_]:
    left, start = _starts(material, window)
    right, stop = left + window.snippet_px // material.zoom, start + window.excerpt_frames
    seen = (left >= 0) & (right <= material.strip.shape[1])
    return np.asarray(seen & (start >= 0) & (stop <= material.spectrogram.shape[1]))


def _middle(array: NDArray[Any], length: int, axis: int) -> NDArray[Any]:
    """The middle `length` elements of an axis."""
    start = (array.shape[axis] - length) // 2
    return np.take(array, np.arange(start, start + length), axis=axis)
