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


class DuplicateIdError(IndexerError):
    """Two files of one run would become documents with the same id."""

    def __init__(self, id: str, first: Path, second: Path) -> None:
        super().__init__(
            f"{first} and {second} would both have the id {id!r}; "
            "give each its own id in a manifest (columns path,id), or leave one out"
        )
        self.id = id
        self.paths = (first, second)
