import pytest


@pytest.fixture(autouse=True)
def _indexed(indexed: None) -> None:
    """All that lies on disk is tested."""
