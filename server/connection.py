"""A client's connection to the server: requests out, replies in, each given to the request that waits for it."""

import asyncio
import ssl
from contextlib import suppress
from typing import Any

from server.address import Address
from server.errors import AddressError, ConnectionLost, ServerError, from_code
from server.frames import Decoder, Message, encode
from server.messages import VERSION

MAX_REPLY_BYTES = 1 << 30
MAX_REPLY_VALUES = 1 << 24
"""Limits on a reply: its bytes, and the msgpack values it is made of. A reply with paths has many values."""


GREETING = 0
"""The id of the first request, which shows the token."""


class ServerConnection:
    """One connection to the server, and the requests on it that wait for their replies."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost = False
        self._address = address
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asked = 0
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, address: Address, tls: ssl.SSLContext | None, token: str) -> "ServerConnection":
        """Connects to the server, and shows it the token, if there is one: before that it takes no large messages.

        Raises ConnectionLost if no server answers, and AddressError if its certificate is not trusted.
        """
        try:
            if address.unix is not None:
                reader, writer = await asyncio.open_unix_connection(address.unix, ssl=tls)
            else:
                reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
        except ssl.SSLCertVerificationError as exc:
            raise AddressError(f"{address}: its certificate is not trusted: {exc.verify_message}") from exc
        except OSError as exc:
            raise ConnectionLost(f"no server at {address}: {exc.strerror or exc}") from exc
        if token:
            writer.write(
                encode({"v": VERSION, "id": GREETING, "op": "ping", "token": token})
            )  # nobody waits for a reply
        return cls(address, reader, writer)

    async def ask(self, message: Message) -> dict[str, Any]:
        """Gives the message an id, sends it, and returns the field `ok` of the reply.

        Raises the ServerError that the reply carries, or ConnectionLost.
        """
        self._asked += 1
        id = self._asked
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[id] = reply
        try:
            if self.lost:
                raise ConnectionLost(f"the connection to {self._address} is lost")
            self._writer.write(encode(message | {"id": id}))
            with suppress(OSError):  # `_listen` gets the server's last words, or the end of the connection
                await self._writer.drain()
            return await reply
        finally:
            del self._waiting[id]

    async def close(self) -> None:
        """Closes the connection; requests that wait for a reply get ConnectionLost."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        """Hands replies to the requests that wait for them, until the connection ends."""
        error: ServerError = ConnectionLost(f"the connection to {self._address} was closed")
        decoder = Decoder(MAX_REPLY_BYTES, max_values=MAX_REPLY_VALUES)
        try:
            while data := await self._reader.read(1 << 16):
                for message in decoder.feed(data):
                    if message.get("id") is None and "error" in message:
                        raise _error(message)
                    self._settle(message)
        except OSError as exc:
            error = ConnectionLost(f"the connection to {self._address} is lost: {exc.strerror or exc}")
        except ServerError as exc:
            error = exc
        finally:
            self.lost = True
            self._writer.close()
            for reply in self._waiting.values():
                if not reply.done():
                    reply.set_exception(error)

    def _settle(self, message: Message) -> None:
        """Gives a reply to the request that waits for it."""
        reply = self._waiting.get(message.get("id", GREETING))
        if reply is None or reply.done():
            return  # the request was cancelled
        if "error" in message:
            reply.set_exception(_error(message))
        else:
            reply.set_result(message["ok"])


def _error(message: Message) -> ServerError:
    """Makes the ServerError that a reply carries."""
    told = message["error"]
    return from_code(str(told.get("code")), str(told.get("message")))
