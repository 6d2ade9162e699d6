"""Listening sockets, and the streams of the connections that they accept."""

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from server.address import Address
from server.errors import AddressError

logger = logging.getLogger(__name__)

CHUNK = 1 << 16
"""Number of bytes to read at a time."""
PAUSE_S = 0.1
"""Pause after a connection could not be accepted because the machine has run out of something."""
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


async def opened(address: Address, backlog: int) -> list[socket.socket]:
    """Returns sockets that listen on an address: one for each address that the host's name has.

    Raises OSError, or AddressError if another server listens on the Unix socket.
    """
    if address.unix is not None:
        return [_unix(address.unix, backlog)]
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, place in dict.fromkeys(found):
            sockets.append(socket.create_server((str(place[0]), int(place[1])), family=family, backlog=backlog))
    except BaseException:
        for made in sockets:
            made.close()
        raise
    return sockets


def _unix(path: Path, backlog: int) -> socket.socket:
    """Returns a socket that listens on a path, to which only the server's own user can connect."""
    _require_free(path)
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.bind(os.fspath(path))
        path.chmod(0o600)  # before it listens: no other user connects in between
        made.listen(backlog)
    except BaseException:
        made.close()
        raise
    return made


def _require_free(path: Path) -> None:
    """Raises AddressError if the path exists, unless it is the socket of a server that is gone."""
    if not path.exists():
        return
    if not path.is_socket():
        raise AddressError(f"{path}: exists already and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe, suppress(ConnectionRefusedError):
        probe.connect(os.fspath(path))
        raise AddressError(f"{path}: another server listens there")


class Acceptor:
    """Accepts connections until it is closed, even while the process has no files left.

    asyncio's own server logs a traceback for each waiting connection when files run out, and hides handshakes.
    """

    def __init__(
        self, listening: socket.socket, accepted: Callable[[socket.socket, str], None], make_room: Callable[[], None]
    ) -> None:
        """Starts to accept.

        accepted: gets each connection, with the client's address for the log.
        make_room: is called when files have run out.
        """
        listening.setblocking(False)
        self._listening = listening
        self._accepted = accepted
        self._make_room = make_room
        self._short = False
        self._resuming: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """Stops to accept."""
        if self._resuming is not None:
            self._resuming.cancel()
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        """Accepts a connection that waits. Without a file for it, makes room, and tries again after a pause."""
        try:
            connection, peer = self._listening.accept()
        except OSError as exc:  # or the client has left already
            if exc.errno in SCARCE:
                self._wait_for_room(exc)
            return
        self._short = False
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            # A reply may be several small packets. Without this, each after the first waits some 40 ms for the client.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted(connection, f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix")

    def _wait_for_room(self, error: OSError) -> None:
        if not self._short:
            logger.warning("connections wait: %s", error.strerror)
        self._short = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        self._resuming = loop.call_later(PAUSE_S, self._listen)
        self._make_room()


async def streams(
    connection: socket.socket, tls: ssl.SSLContext | None, handshake_s: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Returns the streams of an accepted connection, after the handshake if it is encrypted. Raises OSError."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=CHUNK)
    protocol = asyncio.StreamReaderProtocol(reader)
    timeouts = {} if tls is None else {"ssl_handshake_timeout": handshake_s}
    try:
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=tls, **timeouts)
    except BaseException:
        connection.close()
        raise
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
