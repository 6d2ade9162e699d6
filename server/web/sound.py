"""The sound of a recording over HTTP: the whole file, or the range that a browser asks for, piece by piece."""

import re
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from server.browsing import MAX_PART_BYTES
from server.session import Memory

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


class Read(Protocol):
    """Reads a part of the file by the service."""

    def __call__(self, *, start: int, size: int) -> Awaitable[dict[str, Any]]: ...


async def ranged(request: Request, read: Read, memory: Memory) -> Response:
    """Returns the file, or the range that the request's header names. Raises ServerError.

    Each piece is read by the service when the client has taken the piece before it.
    """
    whole = await read(start=0, size=1)
    total = whole["total"]
    wanted = _wanted(request.headers.get("range", ""), total)
    start, end = wanted or (0, total)
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=3600"}
    if wanted is not None and start >= end:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{total}"})
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
    headers["Content-Length"] = str(end - start)
    status = 200 if wanted is None else 206
    return StreamingResponse(_pieces(read, memory, start, end), status, headers, media_type=whole["type"])


def _wanted(header: str, total: int) -> tuple[int, int] | None:
    """Returns the first byte that is asked for, and the one after the last; None if the header names no single range.

    HTTP lets a server ignore such headers, and send the whole file with status 200 (RFC 9110, section 14.2).
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:  # so many bytes from the end
        return max(0, total - int(last)), total
    return int(first), min(total, int(last) + 1) if last else total


async def _pieces(read: Read, memory: Memory, start: int, end: int) -> AsyncIterator[bytes]:
    """Yields the bytes of a range."""
    while start < end:
        part = await read(start=start, size=min(MAX_PART_BYTES, end - start))
        data: bytes = part["data"]
        if not data:
            return  # the file has been cut meanwhile; the connection ends short of what was announced
        memory.replies.take(len(data))
        try:
            yield data
        finally:
            memory.replies.give_back(len(data))
        start += len(data)
