"""The bodies of requests: read under the limits of frames, and turned into the messages that a socket would bring."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from server.budget import Unfinished
from server.config import Limits
from server.errors import AuthorisationError, DeadlineExceeded, FrameTooLarge, RequestError
from server.fields import MAX_TEXT
from server.frames import MAX_VALUES, Message

MAX_FIELDS = 32
MAX_FILES = 1000
MAX_JSON_BYTES = 8 << 20
"""Size of a body in JSON. 10,000 embeddings take 1.8 MB in base64; files belong into a form."""
RESERVED = ("v", "id", "op", "token")
"""Fields of a message that the gateway itself fills in."""


class _Form(MultiPartParser):
    """Keeps files in memory: their bytes count against the memory for requests, and no file is written."""

    spool_max_size = 1 << 40


async def message(request: Request, limits: Limits, taken: Unfinished, *, stranger: bool) -> Message:
    """Returns the fields of a request: of its body, a form or JSON.

    taken: counts the bytes as they arrive. stranger: whether the client has not shown a token that it needs.
    Raises ServerError.
    """
    chunks = _chunks(request, limits, taken, stranger=stranger)
    kind = _media_type(request)
    if kind == "multipart/form-data":
        return unreserved(await _form(request, chunks))
    if kind == "application/json":
        return unreserved(_json(b"".join([chunk async for chunk in chunks])))
    if [chunk async for chunk in chunks if chunk]:
        raise RequestError("Content-Type: expected multipart/form-data or application/json")
    return {}


def _media_type(request: Request) -> str:
    """Returns the media type of the body in lower case, without parameters; empty if the request names none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unreserved(fields: Message) -> Message:
    """Returns the fields. Raises RequestError if one of them is not for clients to give."""
    for name in RESERVED:
        if name in fields:
            raise RequestError(f"{name}: no such field here")
    return fields


async def _chunks(
    request: Request, limits: Limits, taken: Unfinished, *, stranger: bool
) -> AsyncGenerator[bytes, None]:
    """Yields the body in pieces. Raises ServerError as soon as it is too large or too slow."""
    most = limits.stranger_frame_bytes if stranger else limits.frame_bytes
    if _media_type(request) == "application/json":
        most = min(most, MAX_JSON_BYTES)
    announced = request.headers.get("content-length", "0")
    size = int(announced) if announced.isdecimal() and len(announced) < 20 else 0
    stream = request.stream()
    try:
        async with asyncio.timeout(limits.frame_s):
            while size <= most:
                chunk = await anext(stream, None)
                if chunk is None:
                    return
                taken.add(len(chunk))
                size = max(size, taken.size)
                yield chunk
    except TimeoutError as exc:
        raise DeadlineExceeded(f"expected the whole body within {limits.frame_s:g} s") from exc
    if stranger:
        raise AuthorisationError(f"expected the token with a body of more than {most} bytes, got none or another")
    raise FrameTooLarge(f"expected a body of at most {most} bytes, got {size}")


async def _form(request: Request, chunks: AsyncGenerator[bytes, None]) -> Message:
    """Returns the fields of a form. The files of the field `media` become its list."""
    try:
        parser = _Form(request.headers, chunks, max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=4 * MAX_TEXT)
        form = await parser.parse()
    except MultiPartException as exc:
        raise RequestError(f"expected a form: {exc.message}") from exc
    fields: dict[str, Any] = {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "media":
                    raise RequestError("expected files in the field media alone")
                file = {"name": (value.filename or "")[:MAX_TEXT], "data": await value.read()}
                fields.setdefault("media", []).append(file)
            elif name in fields:
                raise RequestError("expected each field once")
            else:
                fields[name] = value
    finally:
        with suppress(OSError):
            await form.close()
    return fields


def _json(body: bytes) -> Message:
    """Returns the fields of a JSON object. Bytes, in any field `data` below the first level, are base64.

    Raises RequestError. A body with more values than a frame may have is not parsed: it would take sixty times its
    size in memory.
    """
    if sum(map(body.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise RequestError(f"expected JSON of at most {MAX_VALUES} values")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise RequestError("expected a JSON object, got bytes that are none") from exc
    if not isinstance(fields, dict):
        raise RequestError("expected a JSON object, got another value")
    return {name: _with_bytes(value) for name, value in fields.items()}


def _with_bytes(value: Any) -> Any:
    """Returns a value of JSON with bytes in place of base64, in arrays and files."""
    if isinstance(value, list):
        return [_with_bytes(item) if isinstance(item, dict) else item for item in value]
    if not isinstance(value, dict) or not isinstance(value.get("data"), str):
        return value
    try:
        return value | {"data": base64.b64decode(value["data"], validate=True)}
    except (binascii.Error, ValueError) as exc:
        raise RequestError("data: expected base64") from exc


async def gone(request: Request) -> None:
    """Returns when the client has left. Call it when the body is read."""
    with suppress(ClientDisconnect):
        while (await request.receive())["type"] != "http.disconnect":
            pass
