"""Collections of random snippets of any size. They serve to measure speed, but say nothing about accuracy."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from engine.collection import CollectionWriter
from engine.config import FrontEnd
from engine.embedding import documents
from engine.files import replacing
from engine.values import (
    DIMENSION,
    PLACE_DTYPES,
    Box,
    Document,
    Embeddings,
    Kind,
    NetworkIdentity,
    SnippetSequence,
    System,
)

A_SYSTEM, A_PAGE = 8, 5
"""Number of snippets in a system, and of systems on a page."""


def made(path: Path, network: NetworkIdentity, snippets: int) -> Path:
    """A collection of `snippets` random snippets, both kinds in turns, made unless it exists; always the same."""
    if not path.exists():
        with replacing(path) as unfinished, CollectionWriter(unfinished, network, threads=2) as writer:
            for document, sequence in random_documents(snippets, network.front_end):
                writer.put(document, sequence)
            writer.commit()
    return path


def random_documents(snippets: int, front_end: FrontEnd) -> Iterator[tuple[Document, SnippetSequence]]:
    """Scores and recordings of 250 to 400 snippets, the last one shorter, with `snippets` snippets together."""
    rng = np.random.default_rng(0)
    for number in itertools.count():
        count = min(snippets, int(rng.integers(250, 401)))
        kind: Kind = "recording" if number % 2 else "score"
        bias = np.full(count, 0.5, np.float32)
        yield document(f"random{number:05d}", kind, unit_rows(rng, count), bias, front_end)
        snippets -= count
        if snippets == 0:
            return


def document(
    id: str, kind: Kind, embeddings: Embeddings, bias: NDArray[np.float32], front_end: FrontEnd
) -> tuple[Document, SnippetSequence]:
    """A document of these snippets, which lie on invented systems, or sound one after the other."""
    count = len(embeddings)
    if kind == "recording":
        places = documents.recording_places(0.0, count, front_end)
        made = Document(id=id, kind=kind, title=id, duration_s=float(places["end_s"][-1]))
        return made, SnippetSequence(kind=kind, embeddings=embeddings, places=places, bias=bias)
    places, number = np.zeros(count, PLACE_DTYPES["score"]), np.arange(count)
    end = np.minimum(number + front_end.snippet_px // front_end.snippet_hop_px, count - 1)
    for system, x, at in (("system", "x", number), ("end_system", "end_x", end)):
        places[system], places[x] = 1 + at // A_SYSTEM, 0.1 + 0.8 * (at % A_SYSTEM) / A_SYSTEM
    systems = tuple(_system(one) for one in range(1, int(places["system"][-1]) + 1))
    made = Document(id=id, kind=kind, title=id, pages=systems[-1].page, systems=systems)
    return made, SnippetSequence(kind=kind, embeddings=embeddings, places=places, bias=bias)


def _system(number: int) -> System:
    top = 0.1 + 0.25 * ((number - 1) % A_PAGE)
    box = Box(x0=0.1, y0=top, x1=0.9, y1=top + 0.15)
    return System(
        page=1 + (number - 1) // A_PAGE, number=number, box=box, staves=(box,), staff_space=0.008, confidence=1.0
    )


def unit_rows(rng: Generator, count: int) -> Embeddings:
    """Random embeddings: float32 (count, 32), unit length."""
    rows = rng.standard_normal((count, DIMENSION), dtype=np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
