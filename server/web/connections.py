"""Connections of HTTP: they pass the same door as those of the socket, under the same limits on time."""

import asyncio
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from server.config import Limits
from server.door import Door, Guest
from server.service import ClientState


class HttpConnection(H11Protocol):
    """A connection that is cut off when it does not send a whole request in time, or when the door wants it gone."""

    def __init__(self, config: Config, state: ServerState, door: Door, guest: Guest, limits: Limits) -> None:
        self.guest = guest
        self._door = door
        self._limits = limits
        self._late: asyncio.TimerHandle | None = None
        self._upgraded = False
        client = ClientState(name=guest.name)
        super().__init__(config, state, {"guest": guest, "client": client, "door": door})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._wait_for_request()
        if self.guest.stranger:
            self.loop.call_later(self._limits.stranger_s, self._cut_off_a_stranger)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._door.leave(self.guest)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._upgraded or self._at_work:
            self._stop_waiting()
        else:
            self._wait_for_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._at_work:
            self._wait_for_request()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._upgraded = True
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    @property
    def _at_work(self) -> bool:
        """Whether a request has come whose reply is not sent."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_request(self) -> None:
        """Gives the client `frame_s` for the head of its next request, unless the time runs already."""
        if self._late is None:
            self._late = self.loop.call_later(self._limits.frame_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _cut_off_a_stranger(self) -> None:
        if self.guest.stranger and not self._at_work:
            self.transport.abort()


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A connection that has become a WebSocket."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.app_state["door"].leave(self.app_state["guest"])
        super().connection_lost(exc)


def configuration(app: Any, limits: Limits, max_message: int) -> Config:
    """Returns uvicorn's settings. max_message: size of a message of a WebSocket in bytes."""
    config = Config(
        app,
        http=HttpConnection,
        ws=WebSocketConnection,
        ws_max_size=max_message,
        ws_per_message_deflate=False,  # sound does not shrink, and a bomb cannot grow
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(limits.frame_s) + 1,  # `HttpConnection` is sooner
    )
    config.load()
    return config
