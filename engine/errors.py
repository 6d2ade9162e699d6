"""The engine's errors. `EngineError` is the root; each child is named after what is wrong, and carries its data."""

from pathlib import Path
from typing import Any


class EngineError(Exception):
    """Root of all errors that the engine raises on purpose. They pass from process to process with their data."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


class MediaError(EngineError):
    """Raised if a media file gives no snippets: unreadable, empty, too short, or without music."""

    def __init__(self, path: Path | str, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = Path(path)
        self.cause = cause


class AudioError(MediaError):
    """Raised if a recording cannot be decoded, or is shorter than one excerpt."""


class PageError(MediaError):
    """Raised if a score file cannot be decoded, or shows no systems."""


class WeightsError(EngineError):
    """Raised if a weights file is missing, damaged, or of another format."""


class CollectionError(EngineError):
    """Root of the errors of a collection on disk. `path` is the directory of the collection."""

    def __init__(self, path: Path | str, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = Path(path)
        self.cause = cause


class CollectionMissingError(CollectionError):
    """Raised if there is no collection at this path."""


class CollectionVersionError(CollectionError):
    """Raised if the collection has a newer format version than this program reads."""


class CollectionDamagedError(CollectionError):
    """Raised if a file of the collection is missing, truncated, or does not match its checksum."""


class GenerationGoneError(CollectionError):
    """Raised if a replica of a shard does not have the generation any more that a query began with."""


class NetworkMismatchError(CollectionError):
    """Raised if the collection was embedded by another network, or with other front-end settings, than now in use."""


class CollectionLockedError(CollectionError):
    """Raised if another process is writing to the collection."""


class DocumentMissingError(CollectionError):
    """Raised if the collection has no document with this id."""


class DocumentExistsError(CollectionError):
    """Raised if another document has the id of an added document, and the caller does not ask to replace it."""


class ShardLostError(EngineError):
    """Raised if shards of a collection do not answer. `shards` has their names."""

    def __init__(self, shards: frozenset[str], cause: str) -> None:
        super().__init__(f"{', '.join(sorted(shards)) or 'the collection'}: {cause}")
        self.shards = shards


class SettingsError(EngineError):
    """Raised if a settings file cannot be read, or a setting has an unknown name, or a wrong type or value."""


class QueryError(EngineError):
    """Raised if no collection could answer the query."""


class ExportError(EngineError):
    """Raised if a document cannot be written in the format that is asked for."""


class DeviceError(EngineError):
    """Raised if the caller asks for a GPU, and there is none, or it does not work."""


def _restored(error: type[EngineError], args: tuple[Any, ...], data: dict[str, Any]) -> EngineError:
    """Returns an error with its message and its data, whatever its class takes to make one."""
    made = error.__new__(error, *args)
    made.args = args
    made.__dict__.update(data)
    return made
