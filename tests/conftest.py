"""What tests of several folders ask for."""

import pytest

from engine import process
from engine.collection import writer
from engine.neighbours import cells
from skips import pytest_addoption, pytest_sessionfinish, pytest_terminal_summary

__all__ = ["pytest_addoption", "pytest_sessionfinish", "pytest_terminal_summary"]

process.prepare()


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collections of a few snippets have what only large ones have: an index on disk, here made anew by each change."""
    monkeypatch.setattr(cells, "EXACT_ROWS", 0)
    monkeypatch.setattr(writer, "MAX_ADDED_SNIPPETS", 0)
