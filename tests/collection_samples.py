"""Small documents for tests that need a collection."""

from pathlib import Path

import numpy as np

from engine.collection import CollectionWriter
from engine.config import FrontEnd
from engine.values import PLACE_DTYPES, Box, Document, Kind, NetworkIdentity, Packed, SnippetSequence, System

NETWORK = NetworkIdentity(name="small", hash="ab" * 32, front_end=FrontEnd())


def embeddings(n: int, seed: int = 0) -> np.ndarray:
    """float32 (n, 32), unit rows."""
    rows = np.random.default_rng(seed).normal(size=(n, 32)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def packed(rows: np.ndarray) -> Packed:
    """One document of these embeddings."""
    return Packed(embeddings=rows, bias=np.zeros(len(rows), np.float32), offsets=np.array([0, len(rows)]))


def sequence(n: int = 5, kind: Kind = "score", seed: int = 0) -> SnippetSequence:
    rng = np.random.default_rng(seed)
    places = np.zeros(n, dtype=PLACE_DTYPES[kind])
    for name in places.dtype.names or ():
        places[name] = rng.integers(1, 9, n)
    bias = rng.normal(size=n).astype(np.float32)
    return SnippetSequence(kind=kind, embeddings=embeddings(n, seed), places=places, bias=bias)


def document(id: str, kind: Kind = "score", content_hash: str = "f") -> Document:
    box = Box(x0=0.1, y0=0.2, x1=0.9, y1=0.3)
    system = System(page=1, number=1, box=box, staves=(box, box), staff_space=0.01, confidence=0.5)
    systems = (system,) if kind == "score" else ()
    return Document(id=id, kind=kind, title=f"Title of {id}", content_hash=content_hash, pages=1, systems=systems)


def fill(path: Path, *ids: str, kind: Kind = "score", n: int = 5) -> None:
    """Commits documents of n snippets to the collection at `path`."""
    with CollectionWriter(path, NETWORK) as writer:
        for id in ids:
            writer.put(document(id, kind), sequence(n, kind), replace=True)
        writer.commit()
