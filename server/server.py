"""The server: listens for connections, runs their sessions, and stops in order."""

import asyncio
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.finder import Engine
from server import messages
from server.address import Address
from server.config import Limits, ServerSettings
from server.errors import AddressError, ServerError, Stopping, TooMany, translated
from server.metrics import Monitor
from server.service import Service
from server.session import CHUNK, Budget, Session, dismiss
from server.shelf import Shelf

logger = logging.getLogger(__name__)


class Server:
    """Listens for connections and runs a session of the service for each. Leaving its `async with` block stops it."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service = service
        self._limits = limits
        self._budget = Budget(limits.buffered_bytes)
        self._sessions: dict[Session, asyncio.Task[Any]] = {}
        self._listening: asyncio.Server | None = None
        self._unix: Path | None = None
        self._monitor: Monitor | None = None
        self._stopping = False

    async def listen(self, address: Address, tls: ssl.SSLContext | None = None) -> Address:
        """Starts to listen and returns the address, with the port chosen by the system. Raises AddressError."""
        options: dict[str, Any] = {"limit": CHUNK, "backlog": self._limits.connections}
        if tls is not None:
            options |= {"ssl": tls, "ssl_handshake_timeout": self._limits.frame_s}
        try:
            if address.unix is not None:
                _require_free(address.unix)
                self._listening = await asyncio.start_unix_server(self._serve, address.unix, **options)
                self._unix = address.unix
                address.unix.chmod(0o600)
                return address
            self._listening = await asyncio.start_server(self._serve, address.host, address.port, **options)
        except OSError as exc:
            raise AddressError(f"cannot listen on {address}: {exc.strerror or exc}") from exc
        port: int = self._listening.sockets[0].getsockname()[1]
        return Address(host=address.host, port=port)

    def monitor(self, address: Address) -> Address:
        """Starts to answer /metrics and /healthz over HTTP and returns the address. Raises AddressError."""
        try:
            self._monitor = Monitor(address.host, address.port, self._service.metrics, self._health)
        except OSError as exc:
            raise AddressError(f"cannot listen on {address}: {exc.strerror or exc}") from exc
        return Address(host=address.host, port=self._monitor.port)

    @contextmanager
    def signals(self) -> Iterator[asyncio.Event]:
        """Gives the event that SIGTERM and SIGINT set during the `with` block; SIGHUP reloads the collection."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        reloads: set[asyncio.Task[None]] = set()

        def reload() -> None:
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
        if self._listening is not None:
            self._listening.close()
        if self._unix is not None:
            self._unix.unlink(missing_ok=True)
        tasks = list(self._sessions.values())
        draining = [asyncio.ensure_future(session.drain()) for session in self._sessions]
        if tasks:
            await asyncio.wait([*draining, *tasks], timeout=self._limits.drain_s)
        for session in self._sessions:
            session.cut_off()
        for task in [*draining, *tasks]:
            task.cancel()
        await asyncio.gather(*draining, *tasks, return_exceptions=True)
        await self._service.close()
        if self._monitor is not None:
            await asyncio.to_thread(self._monitor.close)

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection from its first byte to its last, or turns it away."""
        name = _name(writer)
        if self._stopping:
            return await self._turn_away(reader, writer, Stopping("the server is stopping"))
        if len(self._sessions) >= self._limits.connections:
            return await self._turn_away(
                reader, writer, TooMany("no more connections are accepted for now; try again later")
            )
        session = Session(reader, writer, self._service, self._limits, self._budget, name)
        task = asyncio.current_task()
        assert task is not None
        self._sessions[session] = task
        self._service.metrics.connections.set(len(self._sessions))
        try:
            await session.run()
        except asyncio.CancelledError:
            logger.info("%s is cut off: the server has stopped", name)
        finally:
            del self._sessions[session]
            self._service.metrics.connections.set(len(self._sessions))
        return None

    async def _turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: ServerError) -> None:
        await dismiss(reader, writer, messages.error_reply(None, self._service.generation, error))
        writer.transport.abort()

    async def _reload(self) -> None:
        """Reloads the collection; a failure is logged, and the server continues."""
        try:
            with translated("a reload"):
                await self._service.reload()
        except ServerError as exc:
            logger.error("the collection cannot be reloaded; generation %d stays: %s", self._service.generation, exc)

    def _health(self) -> dict[str, Any]:
        return {"ok": not self._stopping, "generation": self._service.generation}


@asynccontextmanager
async def serving(
    path: Path, engine: Engine, settings: ServerSettings, *, token: str = "", open_reads: bool = True
) -> AsyncIterator[Server]:
    """Gives a server of the collection at `path`, ready to listen; leaving the `async with` block stops it.

    token: secret that changes of the collection need; without a token the server refuses changes.
    open_reads: whether all other requests are answered without the token.
    Raises CollectionError.
    """
    shelf, threads = Shelf(path, engine), engine.settings.threads
    service = Service(path, shelf, engine.encoder, settings, threads=threads, token=token, open_reads=open_reads)
    async with Server(service, settings.limits) as server:
        await service.warm()
        yield server


def require_token(address: Address, token: str) -> None:
    """Raises AddressError if other machines can reach the address and there is no token to keep them out."""
    if not address.is_local and not token:
        raise AddressError(
            f"{address} can be reached from other machines: give a token (--token-file), or a local address"
        )


def tls_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """Makes the TLS settings of a server from its certificate and key (PEM). Raises AddressError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ValueError) as exc:
        raise AddressError(f"{cert}, {key}: not a certificate and its key: {exc}") from exc
    return context


def _require_free(path: Path) -> None:
    """Raises AddressError if the path exists, unless it is the socket of a server that is gone."""
    if not path.exists():
        return
    if not path.is_socket():
        raise AddressError(f"{path}: exists already and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe, suppress(ConnectionRefusedError):
        probe.connect(os.fspath(path))
        raise AddressError(f"{path}: another server listens there")


def _name(writer: asyncio.StreamWriter) -> str:
    """Names the client of a connection, for the log."""
    peer = writer.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"
