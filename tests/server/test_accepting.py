"""Connections as the server accepts them."""

import asyncio
import socket

from server.accepting import Acceptor


def test_small_replies_do_not_wait_for_the_client() -> None:
    """asyncio switches Nagle's algorithm off only for sockets that know their protocol, which accepted ones do not."""

    async def go() -> int:
        listening = socket.create_server(("127.0.0.1", 0))
        accepted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        acceptor = Acceptor(listening, lambda connection, _: accepted.set_result(connection), lambda: None)
        try:
            client = socket.create_connection(listening.getsockname())
            with client, await asyncio.wait_for(accepted, 10) as connection:
                return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        finally:
            acceptor.close()

    assert asyncio.run(go())
