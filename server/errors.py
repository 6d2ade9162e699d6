"""The server's errors: what a reply can say went wrong, and what the client then raises.

Each error has a `code`, which a reply carries beside the message.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from engine.errors import (
    CollectionError,
    CollectionLockedError,
    DocumentMissingError,
    EngineError,
    QueryError,
    ShardLostError,
)

logger = logging.getLogger(__name__)


class ServerError(Exception):
    """Root of all errors that the server and its clients raise on purpose."""

    code: ClassVar[str] = "internal"
    """`internal`: a fault of the server; its log has the details."""


class FrameError(ServerError):
    """The client sent bytes that are no frame. The server closes the connection: it cannot find the next frame."""

    code = "bad_frame"


class FrameTooLarge(FrameError):
    """A frame is larger than allowed. The server refuses it when it has read the header."""

    code = "frame_too_large"


class VersionError(ServerError):
    """A request has a version of the protocol that this server does not support."""

    code = "unsupported_version"


class RequestError(ServerError):
    """A request has a field that is missing, unknown, or of the wrong type or value."""

    code = "bad_request"


class AuthorisationError(ServerError):
    """The token is missing or wrong."""

    code = "unauthorised"


class Overloaded(ServerError):
    """The queue, or the memory for incoming frames, is full. The same request may succeed later."""

    code = "overloaded"


class TooMany(ServerError):
    """The client, or all clients together, have the maximum of requests, streams or connections open."""

    code = "too_many"


class DeadlineExceeded(ServerError):
    """A request took longer than the request itself, the server or the client allows."""

    code = "deadline_exceeded"


class MediaRefused(ServerError):
    """The recording or score that was sent cannot be read, or is larger than allowed."""

    code = "media"


class QueryRefused(ServerError):
    """The query cannot be answered: it has no snippets, or another network embedded them."""

    code = "query"


class DocumentMissing(ServerError):
    """The collection has no document of this id."""

    code = "not_found"


class DocumentExists(ServerError):
    """Another document has this id, and the request does not say `replace`."""

    code = "exists"


class CollectionLocked(ServerError):
    """Another process is writing to the collection."""

    code = "locked"


class CollectionRefused(ServerError):
    """The collection cannot be read or written."""

    code = "collection"


class Stopping(ServerError):
    """The server is stopping: it finishes the requests it has begun and takes no new ones."""

    code = "stopping"


class ConnectionLost(ServerError):
    """The server cannot be reached, or the connection ended before the reply came. Only clients raise this."""

    code = "connection_lost"


class AddressError(ServerError):
    """The address cannot be used, to listen or to connect. Raised before anything is sent."""

    code = "address"


def _children(error: type[ServerError]) -> list[type[ServerError]]:
    """Lists a class of errors and all classes below it."""
    return [error, *(one for child in error.__subclasses__() for one in _children(child))]


BY_CODE = {error.code: error for error in _children(ServerError)}


def from_code(code: str, message: str) -> ServerError:
    """Makes the error that a reply carries. An unknown code becomes a ServerError that names the code."""
    error = BY_CODE.get(code)
    return error(message) if error else ServerError(f"{code}: {message}")


@contextmanager
def translated(work: str) -> Iterator[None]:
    """Turns every Exception that is raised inside the `with` block into a ServerError.

    work: what the block does, for the log. An error that is neither a ServerError nor an EngineError is a fault of
    the server: it is logged with its traceback, and the client gets the code `internal`.
    """
    try:
        yield
    except ServerError:
        raise
    except EngineError as exc:
        raise _counterpart(exc) from exc
    except Exception as exc:
        logger.exception("unexpected error at %s", work)
        raise ServerError(f"unexpected {type(exc).__name__}; the server's log has the details") from exc


def _counterpart(error: EngineError) -> ServerError:
    """Returns the ServerError that tells a client the same as an EngineError."""
    if isinstance(error, DocumentMissingError):
        return DocumentMissing(error.cause)
    if isinstance(error, CollectionLockedError):
        return CollectionLocked(error.cause)
    if isinstance(error, CollectionError):
        return CollectionRefused(error.cause)
    if isinstance(error, ShardLostError):
        return CollectionRefused(str(error))
    return QueryRefused(str(error)) if isinstance(error, QueryError) else ServerError(str(error))
