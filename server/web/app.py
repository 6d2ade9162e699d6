"""The application behind the gateway: each request of HTTP becomes a message, which the service answers."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from server import messages
from server.access import Access
from server.budget import Unfinished
from server.config import Limits, WebSettings
from server.door import Guest
from server.errors import AuthorisationError, RequestError, ServerError, Stopping, translated
from server.frames import Message
from server.metrics import Monitored
from server.service import Service
from server.session import Memory
from server.web import bodies, operations, static
from server.web.guard import Guard
from server.web.live import listen
from server.web.operations import OPERATIONS, Operation
from server.web.replies import CountedReply, as_json, bearer, error_body, refusal
from server.web.sites import Sites
from server.web.sound import ranged

Handler = Callable[[Request], Awaitable[Response]]


class Application:
    """Answers requests of HTTP by a service, whose only other clients are the sessions of the socket."""

    def __init__(
        self, service: Service, limits: Limits, memory: Memory, monitored: Monitored, settings: WebSettings
    ) -> None:
        """Answers nothing yet. Raises AddressError if `public_url` of the settings is no URL."""
        self.stopping = False
        self._sites = Sites(settings)
        self._service = service
        self._limits = limits
        self._memory = memory
        self._monitored = monitored

    def guarded(self) -> ASGIApp:
        """Returns the application as uvicorn runs it."""
        routes: list[BaseRoute] = [
            Route(operation.path, functools.partial(self._serve, operation), methods=[operation.method])
            for operation in OPERATIONS
        ]
        routes += [Route(path, functools.partial(_asset, asset)) for path, asset in static.assets().items()]
        routes += [
            Route("/openapi.json", _described),
            Route("/healthz", self._monitor),
            Route("/metrics", self._monitor),
            WebSocketRoute("/stream", self._listen),
        ]
        handlers: dict[Any, Any] = {404: _no_such, 405: _no_such, Exception: _unexpected}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        return Guard(app, self._sites, send_s=self._limits.frame_s, open_reads=lambda: self._access.open_reads)

    @property
    def _access(self) -> Access:
        return self._service.access

    async def _serve(self, operation: Operation, request: Request) -> Response:
        """Returns the reply to a request."""
        guest: Guest = request.state.guest
        try:
            with translated(f"a request of {guest.name}"):
                return await self._answered(operation, request, guest)
        except ServerError as exc:
            return refusal(exc)

    async def _answered(self, operation: Operation, request: Request, guest: Guest) -> Response:
        """Returns the reply to a request. Raises ServerError."""
        token = bearer(request)
        if guest.stranger and self._access.knows(token):
            guest.stranger = False
        budget = self._memory.strangers if guest.stranger else self._memory.requests
        taken = Unfinished(budget, guest.evict)
        try:
            message = await self._message(operation, request, taken, token, guest)
            if operation.op == "sound":
                return await ranged(request, functools.partial(self._result, message, request), self._memory)
            result = await self._result(message, request)
            return self._reply(operation, message, result)
        finally:
            taken.close()

    async def _message(
        self, operation: Operation, request: Request, taken: Unfinished, token: str, guest: Guest
    ) -> Message:
        """Returns the message that a request means."""
        if self.stopping:
            raise Stopping("the server is stopping")
        fields: Message = {}
        if operation.body:
            fields = await bodies.message(request, self._limits, taken, stranger=guest.stranger)
        for name, value in request.query_params.multi_items():
            if name in fields or name in bodies.RESERVED or name not in operation.fields:
                raise RequestError(f"{name[:40]}: no such field here, or given twice")
            fields[name] = value
        fields |= {name: unquote(value) for name, value in request.path_params.items()}
        fields |= operation.given
        if operation.op == "remove":
            fields["documents"] = [fields.pop("document")]
        if operation.op == "export":
            fields["base"] = self._sites.base(request, encrypted=self._access.tls is not None)
        return fields | {"v": messages.VERSION, "id": 0, "op": operation.op, "token": token}

    async def _result(self, message: Message, request: Request, **more: Any) -> dict[str, Any]:
        """Returns the service's result; gives the request up if the client leaves."""
        try:
            parsed = messages.parse(message | more, form=True)
        except ServerError as exc:
            self._service.metrics.refused(exc.code)
            raise
        answering = asyncio.ensure_future(self._service.answer(parsed, request.state.client))
        leaving = asyncio.ensure_future(bodies.gone(request))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise RequestError("the client has left")
            return answering.result().result
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    def _reply(self, operation: Operation, message: Message, result: dict[str, Any]) -> Response:
        """Returns a result as a reply. Raises Overloaded or RequestError if it is too large."""
        if operation.content:
            headers = {"Cache-Control": "private, max-age=3600"} if operation.op == "page" else {}
            return CountedReply(self._memory, result["data"], result["type"], headers=headers)
        if operation.op in ("query", "segment"):
            result = {"query": _named(message)} | result
        content = as_json(result)
        if len(content) > self._limits.client_reply_bytes:
            raise RequestError("the reply would be larger than allowed; ask for fewer matches")
        return CountedReply(self._memory, content, "application/json")

    async def _monitor(self, request: Request) -> Response:
        """Returns the metrics or the health. The metrics need what all questions but `ping` need."""
        if request.url.path == "/metrics" and not self._access.may_read(bearer(request)):
            return refusal(AuthorisationError("metrics: expected the token, got none or another"))
        status, media_type, content = await asyncio.to_thread(self._monitored.at, request.url.path)
        return Response(content, status, media_type=media_type)

    async def _listen(self, socket: WebSocket) -> None:
        await listen(socket, self._service, self._limits)


def _named(message: Message) -> str:
    """Returns the name of what a query asks for."""
    media = message.get("media")
    if isinstance(media, list) and media and isinstance(media[0], dict):
        return str(media[0].get("name", ""))
    return str(message.get("document", ""))


async def _asset(asset: static.Asset, request: Request) -> Response:
    headers = {"ETag": asset.tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers | {"Content-Type": asset.type})


async def _described(request: Request) -> Response:
    return Response(as_json(operations.described()), media_type="application/json")


async def _no_such(request: Request, exc: Exception) -> Response:
    code = getattr(exc, "status_code", 404)
    body = error_body(RequestError("no such address, or not with this method; /openapi.json lists them"))
    return Response(as_json(body), code, media_type="application/json")


async def _unexpected(request: Request, exc: Exception) -> Response:
    return refusal(ServerError("unexpected error; the server's log has the details"))
