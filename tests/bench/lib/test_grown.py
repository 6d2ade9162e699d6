"""The growing collection is refused where it holds more than a run asks for."""

from pathlib import Path

import numpy as np
import pytest

import paired_collection
from bench.lib.grown import GrowingCollection
from bench.lib.made_documents import DistractorSource
from bench.lib.queries import AMONG
from engine.collection import Collection
from engine.values import NetworkIdentity
from fake_encoder import FakeEncoder


class PairedEncoder(FakeEncoder):
    identity: NetworkIdentity = paired_collection.NETWORK


@pytest.fixture
def growing(tmp_path: Path, collection: Collection) -> GrowingCollection:
    sources = {kind: DistractorSource.of(collection.packed(kind), kind, np.array([40, 60])) for kind in AMONG.values()}
    return GrowingCollection(work=tmp_path, found={}, pieces=collection, sources=sources, load=PairedEncoder)


def test_a_collection_that_has_grown_already_is_as_large_as_asked(growing: GrowingCollection) -> None:
    assert growing.grow(800, jobs=1).snippets > 0
    assert growing.grow(800, jobs=1).snippets == 0
    with Collection.open(growing.path) as found:
        assert all(800 <= held.snippets < 860 for held in found.manifest.kinds.values())


def test_a_collection_that_is_too_large_is_refused(growing: GrowingCollection) -> None:
    growing.grow(900, jobs=1)
    with pytest.raises(ValueError, match="expected 600 score snippets, got 9"):
        growing.grow(600, jobs=1)
