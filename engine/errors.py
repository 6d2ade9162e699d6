"""The engine's errors: one root, children named after the fact, each carrying its data."""

from pathlib import Path


class EngineError(Exception):
    """Root of everything the engine raises on purpose."""


class MediaError(EngineError):
    """A file that cannot be turned into snippets: unreadable, empty, too short, or without music."""

    def __init__(self, path: Path | str, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = Path(path)
        self.cause = cause


class AudioError(MediaError):
    """A recording that cannot be decoded, or holds less than one excerpt."""


class PageError(MediaError):
    """A score file that cannot be decoded, or shows no systems."""


class WeightsError(EngineError):
    """A weights file that is missing, damaged, or of another format."""


class CollectionError(EngineError):
    """Root of what can be wrong with a collection on disk; `path` is the collection's directory."""

    def __init__(self, path: Path | str, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = Path(path)
        self.cause = cause


class CollectionMissingError(CollectionError):
    """No collection at this path."""


class CollectionVersionError(CollectionError):
    """Written by a newer format than this program reads."""


class CollectionDamagedError(CollectionError):
    """A file is missing, truncated, or does not match its checksum."""


class NetworkMismatchError(CollectionError):
    """Embedded by another network, or with other front-end settings, than the ones in force."""


class CollectionLockedError(CollectionError):
    """Another process is writing to this collection."""


class DocumentMissingError(CollectionError):
    """No document of this id in the collection."""


class DocumentExistsError(CollectionError):
    """Another document has this id, and the addition was not said to replace it."""


class SettingsError(EngineError):
    """A settings file that cannot be read, or a setting of an unknown name, type or value."""


class QueryError(EngineError):
    """A query that cannot be answered, whatever the collection holds."""


class DeviceError(EngineError):
    """A GPU that was asked for and is not there, or does not work."""
