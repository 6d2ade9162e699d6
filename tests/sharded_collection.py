"""Collections with editions, so that costs tie, and the same in shards."""

from pathlib import Path

import numpy as np

from collection_samples import NETWORK, embeddings
from engine.collection import CollectionWriter, shard
from engine.values import PLACE_DTYPES, Box, Document, Kind, SnippetSequence, System
from fake_encoder import FakeEncoder

DOCUMENTS = 60
"""Number of documents of each kind."""


class NetworkEncoder(FakeEncoder):
    """Stands in for the network that embedded these documents."""

    identity = NETWORK


def made(kind: Kind, number: int) -> tuple[Document, SnippetSequence]:
    """Document `number`, of 20 to 90 snippets; every seventh is the same as the one before."""
    seed = number - (number % 7 == 6)
    length = 20 + 37 * seed % 71
    places = np.zeros(length, PLACE_DTYPES[kind])
    box = Box(x0=0.1, y0=0.1, x1=0.9, y1=0.2)
    if kind == "recording":
        places["start_s"], places["end_s"] = np.arange(length) / 2, np.arange(length) / 2 + 4.2
    else:
        places["system"] = places["end_system"] = 1 + np.arange(length) // 8
        places["end_x"] = 0.8
    systems = tuple(
        System(page=1, number=1 + i, box=box, staves=(box,), staff_space=0.01, confidence=1.0)
        for i in range(-(-length // 8) if kind == "score" else 0)
    )
    rows = embeddings(length, 1000 * (kind == "score") + seed)
    bias = np.random.default_rng(seed).normal(size=length).astype(np.float32) / 8
    id = f"{kind}-{number * 37 % DOCUMENTS if number < DOCUMENTS else number:02d}"  # not in alphabetical order
    document = Document(id=id, kind=kind, title=id, content_hash=id, pages=1, systems=systems)
    return document, SnippetSequence(kind=kind, embeddings=rows, places=places, bias=bias)


def write(path: Path, first: int = 0, last: int = DOCUMENTS) -> Path:
    """A plain collection of these documents of each kind."""
    with CollectionWriter(path, NETWORK) as writer:
        for number in range(first, last):
            for kind in ("score", "recording"):
                writer.put(*made(kind, number))
        writer.commit()
    return path


def split(path: Path, count: int) -> Path:
    """Returns the collection in shards, written beside it."""
    into = path.with_name(f"{path.name}-{count}")
    shard(path, into, count)
    return into


def heard(number: int, length: int = 14, kind: Kind = "recording", seed: int = 0) -> SnippetSequence:
    """A query that resembles some snippets of document `number` of the other kind."""
    rng = np.random.default_rng([number, seed])
    other: Kind = "score" if kind == "recording" else "recording"
    _, document = made(other, number)
    first = int(rng.integers(max(1, len(document) - length)))
    rows = document.embeddings[first : first + length] + 0.15 * rng.standard_normal((1, 32))
    rows = rows + 0.1 * rng.standard_normal(rows.shape)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    places = np.zeros(len(rows), PLACE_DTYPES[kind])
    if kind == "recording":
        places["start_s"], places["end_s"] = np.arange(len(rows)) / 2, np.arange(len(rows)) / 2 + 4.2
    return SnippetSequence(kind=kind, embeddings=rows, places=places, bias=np.zeros(len(rows), np.float32))
