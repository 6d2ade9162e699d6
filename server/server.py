"""The server: listens for connections, runs their sessions, and stops in order."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from engine.collection import Storage
from engine.finder import Engine
from server import messages
from server.accepting import Acceptor, opened, streams
from server.access import Access
from server.address import Address
from server.budget import Budget
from server.config import Limits, ServerSettings, WebSettings
from server.door import Door, Guest
from server.errors import AddressError, ServerError, Stopping, translated
from server.metrics import Monitor, Monitored
from server.service import Service
from server.session import Memory, Session, dismiss
from server.shelf import Shelf

if TYPE_CHECKING:
    from server.web.gateway import Gateway

logger = logging.getLogger(__name__)


class Server:
    """Listens for connections and runs a session of the service for each. Leaving its `async with` block stops it."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service = service
        self._limits = limits
        self._memory = Memory(
            requests=Budget(limits.buffered_bytes),
            strangers=Budget(limits.stranger_bytes),
            replies=Budget(limits.reply_bytes),
        )
        self._door = Door(limits)
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """One for each connection, from the moment that it is accepted."""
        self._acceptors: list[Acceptor] = []
        self._unix: Path | None = None
        self._monitor: Monitor | None = None
        self._gateway: Gateway | None = None
        self._monitored = Monitored(metrics=service.metrics, health=self._health)
        self._stopping = False

    async def listen(self, address: Address) -> Address:
        """Starts to listen and returns the address, with the port chosen by the system. Raises AddressError."""
        try:
            sockets = await opened(address, self._limits.connections)
        except OSError as exc:
            raise AddressError(f"cannot listen on {address}: {exc.strerror or exc}") from exc
        self._acceptors = [Acceptor(socket, self._accepted, self._make_room) for socket in sockets]
        if address.unix is not None:
            self._unix = address.unix
            return address
        return Address(host=address.host, port=sockets[0].getsockname()[1])

    def monitor(self, address: Address) -> Address:
        """Starts to answer /metrics and /healthz over HTTP and returns the address. Raises AddressError."""
        try:
            self._monitor = Monitor(address.host, address.port, self._monitored)
        except OSError as exc:
            raise AddressError(f"cannot listen on {address}: {exc.strerror or exc}") from exc
        return Address(host=address.host, port=self._monitor.port)

    async def web(self, address: Address, settings: WebSettings | None = None) -> Address:
        """Starts to serve HTTP and the page, and returns the address. Raises AddressError."""
        from server.web.gateway import Gateway  # of the extra `web`

        self._gateway = Gateway(
            self._service, self._limits, self._memory, self._door, self._monitored, settings or WebSettings()
        )
        return await self._gateway.listen(address)

    @contextmanager
    def signals(self, reread: Callable[[], Access] | None = None) -> Iterator[asyncio.Event]:
        """Gives the event that SIGTERM and SIGINT set during the `with` block.

        SIGHUP reloads the collection, and the access: reread: reads the tokens and the certificate again.
        """
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        reloads: set[asyncio.Task[None]] = set()

        def reload() -> None:
            if reread is not None:
                self._reread(reread)
            task = asyncio.create_task(self._reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        handlers = {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield stop
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def stop(self) -> None:
        """Stops the server: refuses connections, finishes requests in flight, closes connections, ends workers."""
        logger.info("stopping: %d connections", len(self._sessions))
        self._stopping = True
        while self._acceptors:
            self._acceptors.pop().close()
        if self._unix is not None:
            self._unix.unlink(missing_ok=True)
        for arriving in self._tasks - set(self._sessions.values()):
            arriving.cancel()
        tasks = list(self._tasks)
        leaving = [asyncio.ensure_future(self._gateway.stop())] if self._gateway is not None else []
        draining = [asyncio.ensure_future(session.drain()) for session in self._sessions]
        if tasks:
            await asyncio.wait([*draining, *tasks], timeout=self._limits.drain_s)
        for session in self._sessions:
            session.cut_off()
        for task in [*draining, *tasks]:
            task.cancel()
        await asyncio.gather(*draining, *tasks, *leaving, return_exceptions=True)
        await self._service.close()
        if self._monitor is not None:
            await asyncio.to_thread(self._monitor.close)

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _accepted(self, connection: socket.socket, name: str) -> None:
        """Starts to serve a connection that has been accepted."""
        task = asyncio.create_task(self._serve(connection, name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _make_room(self) -> None:
        """Ends a connection that can be spared, because the process has run out of files."""
        self._door.make_room(asyncio.get_running_loop().time())

    async def _serve(self, connection: socket.socket, name: str) -> None:
        """Serves one connection from its first byte to its last, or turns it away."""
        access, task = self._service.access, asyncio.current_task()
        assert task is not None
        guest = Guest(
            host=name.rpartition(":")[0] or name,
            name=name,
            since=asyncio.get_running_loop().time(),
            evict=lambda error: _cancel(task),
            stranger=not access.open_reads,
        )
        refusal: ServerError | None = Stopping("the server is stopping") if self._stopping else None
        try:
            self._door.enter(guest)
        except ServerError as exc:
            refusal = exc
        crowded = len(self._tasks) > 2 * self._limits.connections
        if refusal is not None and (crowded or access.tls is not None):  # no word is worth a handshake
            connection.close()
            return
        try:
            reader, writer = await streams(connection, access.tls, min(self._limits.frame_s, self._limits.stranger_s))
            if refusal is None:
                await self._run(Session(reader, writer, self._service, self._limits, self._memory, guest), task)
            else:
                self._service.metrics.cut_off(refusal.code)
                await dismiss(reader, writer, messages.error_reply(None, self._service.generation, refusal))
                writer.transport.abort()
        except OSError as exc:
            logger.debug("%s is gone before its first message: %s", name, exc)
        except asyncio.CancelledError:
            logger.info("%s is cut off", name)
        finally:
            self._door.leave(guest)

    async def _run(self, session: Session, task: "asyncio.Task[None]") -> None:
        """Runs a session that counts as long as it runs."""
        self._sessions[session] = task
        self._service.metrics.connections.set(len(self._sessions))
        try:
            await session.run()
        finally:
            del self._sessions[session]
            self._service.metrics.connections.set(len(self._sessions))

    async def _reload(self) -> None:
        """Reloads the collection; a failure is logged, and the server continues."""
        try:
            with translated("a reload"):
                await self._service.reload()
        except ServerError as exc:
            logger.error("the collection cannot be reloaded; generation %d stays: %s", self._service.generation, exc)

    def _reread(self, reread: Callable[[], Access]) -> None:
        """Reads the tokens and the certificate again; a failure is logged, and the old ones stay."""
        try:
            self._service.access = reread()
            logger.info("the tokens and the certificate are read again")
        except (ServerError, OSError) as exc:
            logger.error("the tokens and the certificate cannot be read again, the old ones stay: %s", exc)

    def _health(self) -> dict[str, Any]:
        return {
            "ok": not self._stopping,
            "degraded": self._service.degraded(),
            "generation": self._service.generation,
        }


@asynccontextmanager
async def serving(
    place: Path | Storage, engine: Engine, settings: ServerSettings, access: Access | None = None
) -> AsyncIterator[Server]:
    """Gives a server of the collection at this place, ready to listen; leaving the `async with` block stops it.

    access: who may ask and change; None: everybody may ask, and nobody may change.
    Raises CollectionError.
    """
    shelf, threads = Shelf(place, engine), engine.settings.threads
    service = Service(place, shelf, engine.encoder, settings, access or Access(), threads=threads)
    async with Server(service, settings.limits) as server:
        await service.warm()
        tending = [asyncio.create_task(chore) for chore in service.chores()]
        try:
            yield server
        finally:
            for task in tending:
                task.cancel()


def _cancel(task: "asyncio.Task[None]") -> None:
    """Cancels a task, and returns nothing."""
    task.cancel()
