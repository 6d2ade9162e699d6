"""The indexer's errors."""

from pathlib import Path


class IndexerError(Exception):
    """Root of the errors that the indexer raises on purpose."""


class ManifestError(IndexerError):
    """A manifest cannot be read, or one of its rows makes no sense."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = path
        self.cause = cause


class IIIFError(IndexerError):
    """A IIIF manifest, or an image that it names, cannot be had."""

    def __init__(self, address: str, cause: str) -> None:
        super().__init__(f"{address}: {cause}")
        self.address = address
        self.cause = cause


class LinkListError(IndexerError):
    """A list of works cannot be read, or one of its lines makes no sense."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = path
        self.cause = cause


class CorpusError(IndexerError):
    """A training corpus, or a part of a packed one, is damaged, or a network cannot learn from it."""
