"""One client's connection: reads its frames, answers its requests side by side, sends each reply when it is ready."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from server import messages
from server.config import Limits
from server.errors import DeadlineExceeded, Overloaded, ServerError, Stopping, TooMany, translated
from server.frames import Decoder, Message, encode
from server.service import ClientState, Service

logger = logging.getLogger(__name__)

CHUNK = 1 << 16
"""Number of bytes to read at a time."""
LINGER_S = 1.0
"""Time that a client gets to receive the last message when it is cut off."""


class Budget:
    """Memory for messages, in bytes, that all connections share."""

    def __init__(self, total: int) -> None:
        self._left = total

    def take(self, amount: int) -> None:
        """Takes an amount. Raises Overloaded if less is left."""
        if amount > self._left:
            raise Overloaded(f"no memory left for {amount} more bytes; try again later")
        self._left -= amount

    def give_back(self, amount: int) -> None:
        """Returns an amount that was taken."""
        self._left += amount


class Session:
    """Serves one connection until the client closes it, breaks the protocol, or is cut off.

    When the client closes its sending side, it has left: its requests are cancelled.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        service: Service,
        limits: Limits,
        budget: Budget,
        name: str,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._service = service
        self._limits = limits
        self._budget = budget
        self._client = ClientState(name=name)
        self._requests: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()
        self._stopping = False

    async def run(self) -> None:
        """Serves the connection; returns when it is closed and its requests have ended."""
        try:
            async for message, size in self._messages():
                self._begin(message, size)
                while len(self._requests) > 2 * self._limits.requests_per_client:  # sends but does not receive
                    await asyncio.wait(self._requests, return_when=asyncio.FIRST_COMPLETED)
        except ServerError as exc:
            logger.info("%s is cut off: %s", self._client.name, exc)
            await self._end_requests()
            await dismiss(self._reader, self._writer, messages.error_reply(None, self._service.generation, exc))
        except OSError as exc:
            logger.debug("%s is gone: %s", self._client.name, exc)
        finally:
            await self._end_requests()
            await self._close()

    async def drain(self) -> None:
        """Refuses new requests, waits for the replies to the others, and closes the connection."""
        self._stopping = True
        await asyncio.gather(*self._requests, return_exceptions=True)
        self._writer.close()

    async def _messages(self) -> AsyncIterator[tuple[Message, int]]:
        """Yields the client's messages, each with the bytes of the budget that it takes until they are given back."""
        loop = asyncio.get_running_loop()
        decoder = Decoder(self._limits.frame_bytes)
        taken, until = 0, loop.time() + self._limits.idle_s
        try:
            while data := await self._read(until, begun=taken > 0):
                self._budget.take(len(data))
                begins, taken = taken == 0, taken + len(data)
                for message in decoder.feed(data):
                    size, taken, begins = taken - decoder.buffered, decoder.buffered, True
                    yield message, size
                if begins:
                    until = loop.time() + (self._limits.frame_s if taken else self._limits.idle_s)
        finally:
            self._budget.give_back(taken)

    async def _read(self, until: float, *, begun: bool) -> bytes:
        """Reads the next bytes; none at the end of the connection.

        Raises DeadlineExceeded at the time `until`, unless no frame has begun and requests are still being answered.
        """
        while True:
            try:
                async with asyncio.timeout_at(until):
                    return await self._reader.read(CHUNK)
            except TimeoutError as exc:
                if begun:
                    limit_s = self._limits.frame_s
                    raise DeadlineExceeded(f"expected a whole frame within {limit_s:g} s of its first byte") from exc
                if not self._requests:
                    raise DeadlineExceeded(f"the connection was idle for {self._limits.idle_s:g} s") from exc
                until += self._limits.idle_s  # the client waits for replies

    def _begin(self, message: Message, size: int) -> None:
        """Starts to answer a message, which took `size` bytes of the budget."""
        crowded = len(self._requests) >= self._limits.requests_per_client
        task = asyncio.create_task(self._answer(message, crowded))
        self._requests.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._requests.discard(task)
            self._budget.give_back(size)

        task.add_done_callback(done)

    async def _answer(self, message: Message, crowded: bool) -> None:
        """Answers a message, with an error if need be. crowded: the client has too many requests in flight."""
        id = messages.request_id(message)
        try:
            with translated(f"a request of {self._client.name}"):
                frame = encode(await self._replied(message, crowded))
        except ServerError as exc:
            frame = encode(messages.error_reply(id, self._service.generation, exc))
        await self._send(frame)

    async def _replied(self, message: Message, crowded: bool) -> Message:
        """Returns the reply to a message. Raises ServerError."""
        if self._stopping:
            raise Stopping("the server is stopping")
        if crowded:
            raise TooMany(f"{self._limits.requests_per_client} requests are in flight, the maximum for a client")
        request = messages.parse(message)
        reply = await self._service.answer(request, self._client)
        return messages.reply(request.id, request.op, reply.generation, reply.result)

    async def _send(self, frame: bytes) -> None:
        """Sends a reply. A client that does not receive it in time is cut off."""
        async with self._writing:
            if self._writer.is_closing():
                return
            try:
                self._writer.write(frame)
                async with asyncio.timeout(self._limits.frame_s):
                    await self._writer.drain()
            except TimeoutError:
                self.cut_off()
            except OSError as exc:
                logger.debug("%s is gone: %s", self._client.name, exc)

    async def _end_requests(self) -> None:
        """Cancels all requests of the client and waits until they have ended."""
        for task in self._requests:
            task.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)

    async def _close(self) -> None:
        """Closes the connection when the client has received the last replies, or cuts it off when time is over."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._limits.frame_s):
                await self._writer.wait_closed()
        except TimeoutError:
            self.cut_off()
        except OSError as exc:
            logger.debug("%s is gone: %s", self._client.name, exc)

    def cut_off(self) -> None:
        """Ends the session at once, whatever it is waiting for."""
        logger.info("%s is cut off", self._client.name)
        self._writer.transport.abort()


async def dismiss(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, last: Message) -> None:
    """Sends a last message, then reads what the client still sends, for at most `LINGER_S`.

    Closing a connection with unread bytes resets it, and a reset can lose the message.
    """
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER_S):
            writer.write(encode(last))
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(CHUNK):
                pass
