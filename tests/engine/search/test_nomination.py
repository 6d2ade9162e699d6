"""Which documents may be played in a stage of a long query."""

from types import SimpleNamespace

import numpy as np
import pytest

from engine.search.nomination import MAX_SNIPPETS, affordable


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [
        ((300, 300, 300), [0, 1, 2]),
        ((MAX_SNIPPETS, 300, 300), [0]),
        ((MAX_SNIPPETS + 1, 300, 300), [1, 2]),
        ((300, MAX_SNIPPETS, 300), [0, 2]),
    ],
)
def test_a_document_that_does_not_fit_leaves_its_room_to_others(sizes: tuple[int, ...], kept: list[int]) -> None:
    searched = SimpleNamespace(numbers={"a": 0, "b": 1, "c": 2}, sizes=np.array(sizes))
    found = affordable([("a", "b", "c"), ("a", "b")], searched)  # type: ignore[arg-type]
    assert found.tolist() == kept
