"""Indexes made anew tell what they are and how well they find."""

import re
from pathlib import Path

import numpy as np
import pytest

from collection_samples import NETWORK, document, fill, sequence
from engine.collection import Collection, CollectionWriter
from indexer.build import build


def test_a_small_collection_needs_no_index_on_disk(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with CollectionWriter(tmp_path, NETWORK) as writer:
        facts = build(writer)
    assert facts["generation"] == 2
    assert facts["score"] == {"documents": 1, "snippets": 5, "index": "none on disk: all snippets are compared"}


@pytest.mark.usefixtures("indexed")
def test_an_index_made_anew_tells_its_type_and_recall(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        for number in range(50):
            writer.put(document(f"s{number}"), sequence(100, seed=number))
            writer.put(document(f"r{number}", "recording"), sequence(10, "recording", seed=100 + number))
        writer.commit()
    with CollectionWriter(tmp_path, NETWORK, threads=2) as writer:
        facts = build(writer, threads=2)
    assert [path.name for path in sorted(tmp_path.glob("*.faiss"))] == [
        "recordings-000002.faiss",
        "scores-000002.faiss",
    ]
    assert re.fullmatch(r"1\d cells found by a graph, 32 bytes a snippet", facts["score"]["index"])
    assert facts["score"]["recall"]["long"] > 0.95  # all cells are looked into: what is missing, rounding takes
    assert 40 < facts["score"]["bytes_a_snippet"] < 50
    with Collection.open(tmp_path) as collection:
        collection.check()
        assert np.all(np.isfinite(collection.packed("score").embeddings))
