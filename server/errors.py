"""The server's errors: what a reply can say went wrong, and what its client then raises.

Each has a `code`, which is what goes over the wire beside the message.
"""

from typing import ClassVar


class ServerError(Exception):
    """Root of everything the server and its clients raise on purpose."""

    code: ClassVar[str] = "internal"
    """`internal`: a fault of the server; its log tells more."""


class FrameError(ServerError):
    """Bytes that are no frame. The connection is closed, for where the next frame starts is not known."""

    code = "bad_frame"


class FrameTooLarge(FrameError):
    """A frame of more bytes than are taken, refused by its header."""

    code = "frame_too_large"


class VersionError(ServerError):
    """A request in a version of the protocol that is not spoken here."""

    code = "unsupported_version"


class RequestError(ServerError):
    """A request with a field missing, unknown, or of the wrong type or value."""

    code = "bad_request"


class AuthorisationError(ServerError):
    """The token is missing or wrong."""

    code = "unauthorised"


class Overloaded(ServerError):
    """The queue, or the memory for frames that are coming in, is full; the same request may do later."""

    code = "overloaded"


class TooMany(ServerError):
    """This client has as many requests, streams or connections open as it may have."""

    code = "too_many"


class DeadlineExceeded(ServerError):
    """It took longer than the request, the server or the client allows."""

    code = "deadline_exceeded"


class MediaRefused(ServerError):
    """The recording or score that was sent cannot be read, or is larger than is allowed."""

    code = "media"


class QueryRefused(ServerError):
    """A query that cannot be answered: no snippets, or made with another network."""

    code = "query"


class DocumentMissing(ServerError):
    """No document of this id."""

    code = "not_found"


class DocumentExists(ServerError):
    """Another document has this id, and it was not said to replace it."""

    code = "exists"


class CollectionLocked(ServerError):
    """Another process is writing to the collection."""

    code = "locked"


class CollectionRefused(ServerError):
    """The collection cannot be read or written."""

    code = "collection"


class Stopping(ServerError):
    """The server finishes what it has begun, and takes nothing new."""

    code = "stopping"


class ConnectionLost(ServerError):
    """The server cannot be reached, or the connection ended before the reply came; raised by clients only."""

    code = "connection_lost"


class AddressError(ServerError):
    """No address to listen on or to connect to; raised before anything is sent."""

    code = "address"


def _children(error: type[ServerError]) -> list[type[ServerError]]:
    return [error, *(one for child in error.__subclasses__() for one in _children(child))]


BY_CODE = {error.code: error for error in _children(ServerError)}


def from_code(code: str, message: str) -> ServerError:
    """The error that a reply tells of; an unknown code is told in the message."""
    error = BY_CODE.get(code)
    return error(message) if error else ServerError(f"{code}: {message}")
