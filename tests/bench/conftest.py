from collections.abc import Iterator
from pathlib import Path

import pytest

import paired_collection
from engine.collection import Collection


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    paired_collection.write(tmp_path / "collection")
    with Collection.open(tmp_path / "collection", paired_collection.NETWORK) as opened:
        yield opened
