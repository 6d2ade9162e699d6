"""The gateway: listens for connections of HTTP, lets them in by the server's door, and stops in order."""

import asyncio
import logging
import socket

from uvicorn.server import ServerState

from server.accepting import Acceptor, opened
from server.address import Address
from server.config import Limits, WebSettings
from server.door import Door, Guest
from server.errors import AddressError, ServerError
from server.metrics import Monitored
from server.service import Service
from server.session import Memory
from server.web.app import Application
from server.web.connections import HttpConnection, configuration
from server.web.live import MAX_MESSAGE_BYTES

logger = logging.getLogger(__name__)


class Gateway:
    """Serves HTTP beside the socket, with the same door, memory and service."""

    def __init__(
        self,
        service: Service,
        limits: Limits,
        memory: Memory,
        door: Door,
        monitored: Monitored,
        settings: WebSettings,
    ) -> None:
        """Starts with no connections. Raises AddressError if `public_url` is no URL."""
        self._service = service
        self._limits = limits
        self._door = door
        self._application = Application(service, limits, memory, monitored, settings)
        self._config = configuration(self._application.guarded(), limits, MAX_MESSAGE_BYTES)
        self._state = ServerState()
        self._acceptors: list[Acceptor] = []
        self._arriving: set[asyncio.Task[None]] = set()

    async def listen(self, address: Address) -> Address:
        """Starts to listen and returns the address, with the port chosen by the system. Raises AddressError."""
        try:
            sockets = await opened(address, self._limits.connections)
        except OSError as exc:
            raise AddressError(f"cannot listen on {address}: {exc.strerror or exc}") from exc
        await self._service.prepare_to_show()
        self._acceptors = [Acceptor(listening, self._accepted, self._make_room) for listening in sockets]
        return Address(host=address.host, port=sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Refuses connections and new requests, waits for those in flight, and ends all connections."""
        self._application.stopping = True
        while self._acceptors:
            self._acceptors.pop().close()
        for arriving in list(self._arriving):
            arriving.cancel()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=self._limits.drain_s)
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._arriving, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.transport.abort()

    def _accepted(self, connection: socket.socket, name: str) -> None:
        """Starts to serve a connection that has been accepted."""
        task = asyncio.create_task(self._enter(connection, name))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _make_room(self) -> None:
        """Ends a connection that can be spared, because the process has run out of files."""
        self._door.make_room(asyncio.get_running_loop().time())

    async def _enter(self, connection: socket.socket, name: str) -> None:
        """Lets a connection in, after its handshake if it is encrypted, or closes it."""
        loop, access, task = asyncio.get_running_loop(), self._service.access, asyncio.current_task()
        assert task is not None
        guest = Guest(
            host=name.rpartition(":")[0],
            name=f"http {name}",
            since=loop.time(),
            evict=lambda error: _cancel(task),
            stranger=not access.open_reads,
        )
        try:
            self._door.enter(guest)
        except ServerError as exc:
            self._service.metrics.cut_off(exc.code)
            connection.close()
            return
        protocol = HttpConnection(self._config, self._state, self._door, guest, self._limits)
        timeouts = {} if access.tls is None else {"ssl_handshake_timeout": self._limits.stranger_s}
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=access.tls, **timeouts)
        except BaseException as exc:
            connection.close()
            self._door.leave(guest)
            if not isinstance(exc, OSError):
                raise
            logger.debug("%s is gone before its first request: %s", name, exc)
            return

        def evict(error: ServerError) -> None:
            logger.info("%s is cut off: %s", guest.name, error)
            self._service.metrics.cut_off(error.code)
            transport.abort()

        guest.evict = evict


def _cancel(task: "asyncio.Task[None]") -> None:
    """Cancels a task, and returns nothing."""
    task.cancel()
