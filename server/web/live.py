"""A recording that a browser sends while it is played: a WebSocket that is a stream of the service."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from server import messages
from server.config import Limits
from server.door import Guest
from server.errors import ConnectionLost, DeadlineExceeded, RequestError, ServerError, translated
from server.frames import Message
from server.messages import array
from server.service import ClientState, Service
from server.web.bodies import unreserved
from server.web.replies import as_json, error_body

MAX_MESSAGE_BYTES = 1 << 20
"""Size of a message: five seconds of samples at 48 kHz."""
MAX_OPENING = 4096
"""Characters of the first message."""
SAMPLES = ("<f4", "<i2")


async def listen(socket: WebSocket, service: Service, limits: Limits) -> None:
    """Serves a WebSocket until either side closes it. An error is the last message.

    The first message is a text, a JSON object with the fields of `stream.open` and, where it is needed, `token`;
    `samples` names the type of the samples. All further ones are samples, and each is answered.
    """
    await socket.accept()
    guest, client = socket.state.guest, socket.state.client
    try:
        with translated(f"a stream of {client.name}"):
            opening, token = await _opening(socket, limits, guest)
            dtype = opening.pop("samples", SAMPLES[0])
            if dtype not in SAMPLES:
                raise RequestError(f"samples: expected one of {', '.join(SAMPLES)}")
            opened = await _asked(service, client, token, "stream.open", opening)
            _introduce(service, guest, token)
            number = opened["stream"]
            await _send(socket, opened)
            try:
                while True:
                    data = await _received(socket, limits.idle_s, f"no samples came for {limits.idle_s:g} s")
                    pushed = {"stream": number, "samples": _array(data, dtype)}
                    await _send(socket, await _asked(service, client, token, "stream.push", pushed))
            finally:
                client.streams.pop(number, None)
    except ConnectionLost:
        pass
    except ServerError as exc:
        service.metrics.cut_off(exc.code)
        with suppress(ConnectionLost, RuntimeError):  # RuntimeError: starlette knows already that the client has left
            await _send(socket, error_body(exc))
            await socket.close(1008)


async def _opening(socket: WebSocket, limits: Limits, guest: Guest) -> tuple[Message, str]:
    """Returns the fields of the first message, and its token."""
    within_s = min(limits.frame_s, limits.stranger_s) if guest.stranger else limits.frame_s
    text = await _received(socket, within_s, f"expected the first message within {within_s:g} s")
    if not isinstance(text, str) or len(text) > MAX_OPENING:
        raise RequestError(f"expected a first message of text, of at most {MAX_OPENING} characters")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RequestError("expected a JSON object") from exc
    if not isinstance(fields, dict) or not isinstance(fields.get("token", ""), str):
        raise RequestError("expected a JSON object, whose token is a text")
    token = fields.pop("token", "")
    return unreserved(fields), token


async def _received(socket: WebSocket, within_s: float, late: str) -> str | bytes:
    """Returns the next message. Raises DeadlineExceeded, or ConnectionLost if the client has left."""
    try:
        async with asyncio.timeout(within_s):
            event = await socket.receive()
    except TimeoutError as exc:
        raise DeadlineExceeded(late) from exc
    if event["type"] == "websocket.disconnect":
        raise ConnectionLost("the client has left")
    found: str | bytes = event["bytes"] if event.get("bytes") is not None else event["text"]
    return found


async def _send(socket: WebSocket, result: dict[str, Any]) -> None:
    """Sends a result. Raises ConnectionLost if the client has left."""
    try:
        await socket.send_bytes(as_json(result))
    except WebSocketDisconnect as exc:
        raise ConnectionLost("the client has left") from exc


async def _asked(service: Service, client: ClientState, token: str, op: str, fields: Message) -> dict[str, Any]:
    """Returns the service's result of an operation."""
    request = messages.parse(fields | {"v": messages.VERSION, "id": 0, "op": op, "token": token})
    return (await service.answer(request, client)).result


def _introduce(service: Service, guest: Guest, token: str) -> None:
    """Makes a client known that has shown a token."""
    if guest.stranger and service.access.knows(token):
        guest.stranger = False


def _array(data: str | bytes, dtype: str) -> dict[str, Any]:
    """Returns samples as a message has them."""
    if isinstance(data, str) or len(data) % np.dtype(dtype).itemsize:
        raise RequestError(f"expected samples, whole numbers of {dtype}")
    return array(np.frombuffer(data, dtype))
