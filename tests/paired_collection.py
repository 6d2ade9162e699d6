"""A collection of four pieces whose two forms have the same embeddings."""

from pathlib import Path

import numpy as np

from bench.lib.pieces import Piece
from engine.collection import CollectionWriter
from engine.config import FrontEnd
from engine.values import RECORDING_PLACE, SCORE_PLACE, Box, Document, NetworkIdentity, SnippetSequence, System

NETWORK = NetworkIdentity(name="test", hash="0" * 64, front_end=FrontEnd())
SNIPPETS = 120
BOX = Box(x0=0.1, y0=0.1, x1=0.9, y1=0.2)
SYSTEMS = tuple(
    System(page=1, number=number, box=BOX, staves=(BOX,), staff_space=0.01, confidence=1.0) for number in range(1, 13)
)


def piece(number: int) -> Piece:
    return Piece(id=f"piece{number}", title="", composer="", work="", pages=(), notes=Path("played.mid"))


def write(path: Path) -> None:
    """Pieces 0 to 3; each score has 12 systems of 10 snippets."""
    rng = np.random.default_rng(0)
    with CollectionWriter(path, NETWORK) as writer:
        for number in range(4):
            embeddings = rng.standard_normal((SNIPPETS, 32)).astype(np.float32)
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
            bias = np.zeros(SNIPPETS, np.float32)
            places = np.zeros(SNIPPETS, SCORE_PLACE)
            places["system"] = places["end_system"] = 1 + np.arange(SNIPPETS) // 10
            score = SnippetSequence(kind="score", embeddings=embeddings, places=places, bias=bias)
            places = np.zeros(SNIPPETS, RECORDING_PLACE)
            recording = SnippetSequence(kind="recording", embeddings=embeddings, places=places, bias=bias)
            name = piece(number).id
            writer.put(Document(id=name, kind="score", snippets=SNIPPETS, systems=SYSTEMS), score)
            writer.put(Document(id=f"{name}.played", kind="recording", snippets=SNIPPETS), recording)
        writer.commit()
