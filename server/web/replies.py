"""What the gateway answers: results and errors as JSON, with the status that goes with each error."""

import json
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.errors import ServerError
from server.session import Memory

STATUS = {
    "bad_frame": 400,
    "bad_request": 400,
    "unsupported_version": 400,
    "unauthorised": 401,
    "not_found": 404,
    "exists": 409,
    "locked": 409,
    "frame_too_large": 413,
    "media": 422,
    "query": 422,
    "too_many": 429,
    "internal": 500,
    "collection": 500,
    "overloaded": 503,
    "stopping": 503,
    "deadline_exceeded": 504,
}
"""The status of a reply by its error's code."""


PIECE_BYTES = 1 << 16


def as_json(value: Any) -> bytes:
    """Returns a result as JSON, with NumPy's numbers as plain ones. A number that JSON has not, such as NaN, raises
    ValueError."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=float).encode("utf-8", "backslashreplace")


def error_body(error: ServerError, most: int = 500) -> dict[str, Any]:
    """Returns the body of a reply that carries an error."""
    return {"error": {"code": error.code, "message": str(error)[:most]}}


class CountedReply(Response):
    """A reply whose bytes count against the memory for replies until they are sent."""

    def __init__(self, memory: Memory, content: bytes, media_type: str, **options: Any) -> None:
        """Takes the memory. Raises Overloaded if there is none left."""
        memory.replies.take(len(content))
        self._memory = memory
        super().__init__(content, media_type=media_type, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            # In pieces, each of which waits until the client has taken most of those before it.
            for start in range(0, max(1, len(self.body)), PIECE_BYTES):
                piece, more = self.body[start : start + PIECE_BYTES], start + PIECE_BYTES < len(self.body)
                await send({"type": "http.response.body", "body": piece, "more_body": more})
        finally:
            self._memory.replies.give_back(len(self.body))


def refusal(error: ServerError, status: int | None = None) -> Response:
    """Returns the reply that carries an error. status: by default that of the error's code."""
    headers = {"Retry-After": "1"} if error.code in ("overloaded", "too_many") else {}
    if error.code == "unauthorised":
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        as_json(error_body(error)), status or STATUS.get(error.code, 500), headers, media_type="application/json"
    )


def bearer(request: HTTPConnection) -> str:
    """Returns the token of a request: of the header `Authorization: Bearer TOKEN`; empty without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
