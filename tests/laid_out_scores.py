"""Scores whose snippets have places on systems, one after the other."""

from pathlib import Path

import numpy as np

from collection_samples import NETWORK
from engine.collection import CollectionWriter
from engine.values import SCORE_PLACE, Box, Document, Embeddings, SnippetSequence, System

SPACES, HOP, WIDTH = 80, 8, 32
"""Length of a system, distance of snippets, and length of a snippet, in staff spaces of a hundredth of a page width."""


def systems(count: int) -> tuple[System, ...]:
    """Systems from 0.1 to 0.9 page widths, four a page."""
    boxes = [Box(x0=0.1, y0=0.1 + 0.3 * (i % 4), x1=0.9, y1=0.2 + 0.3 * (i % 4)) for i in range(count)]
    return tuple(
        System(page=1 + i // 4, number=i + 1, box=box, staves=(box,), staff_space=0.01, confidence=1.0)
        for i, box in enumerate(boxes)
    )


def pair(path: Path, one: Embeddings, two: Embeddings) -> Path:
    """A collection of two scores of these snippets."""
    with CollectionWriter(path, NETWORK) as writer:
        for id, music in (("one", one), ("two", two)):
            count = (HOP * len(music) + WIDTH - 1) // SPACES + 1
            writer.put(Document(id=id, kind="score", systems=systems(count)), score(music))
        writer.commit()
    return path


def score(music: Embeddings) -> SnippetSequence:
    """A score of these snippets."""
    places = np.zeros(len(music), SCORE_PLACE)
    starts = HOP * np.arange(len(music))
    for name, x, along in (("system", "x", starts), ("end_system", "end_x", starts + WIDTH - 1e-3)):
        places[name] = 1 + along // SPACES
        places[x] = 0.1 + 0.01 * (along % SPACES)
    return SnippetSequence(kind="score", embeddings=music, places=places, bias=np.zeros(len(music), np.float32))
