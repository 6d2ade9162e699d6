"""One client's connection: its frames in, its requests answered side by side, the replies out as they are ready."""

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
"""Bytes read at a time."""
LINGER_S = 1.0
"""For a client that is cut off to take the word why."""


class Budget:
    """Bytes that all connections together may hold."""

    def __init__(self, total: int) -> None:
        self._left = total

    def take(self, amount: int) -> None:
        """Raises Overloaded if there is not so much left."""
        if amount > self._left:
            raise Overloaded(f"{amount} bytes more are too many for now; try again later")
        self._left -= amount

    def give_back(self, amount: int) -> None:
        self._left += amount


class Session:
    """Serves one connection until the client closes it, breaks the protocol, or is cut off.

    A client that closes its sending side has left: what it asked for is cancelled.
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
        """Returns when the connection is closed and nothing of it is left."""
        try:
            async for message, size in self._messages():
                self._begin(message, size)
                while len(self._requests) > 2 * self._limits.requests_per_client:  # it asks on without taking replies
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
        """Ends the session as soon as its requests are answered; new ones are refused."""
        self._stopping = True
        await asyncio.gather(*self._requests, return_exceptions=True)
        self._writer.close()

    async def _messages(self) -> AsyncIterator[tuple[Message, int]]:
        """The client's messages, each with what it took of the budget, which is to be given back."""
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
        """What comes next; nothing at the end. Raises DeadlineExceeded."""
        while True:
            try:
                async with asyncio.timeout_at(until):
                    return await self._reader.read(CHUNK)
            except TimeoutError as exc:
                if begun:
                    limit_s = self._limits.frame_s
                    raise DeadlineExceeded(f"expected a whole frame within {limit_s:g} s of its beginning") from exc
                if not self._requests:
                    raise DeadlineExceeded(f"nothing came for {self._limits.idle_s:g} s") from exc
                until += self._limits.idle_s  # it waits for replies

    def _begin(self, message: Message, size: int) -> None:
        """Sets out to answer a message."""
        crowded = len(self._requests) >= self._limits.requests_per_client
        task = asyncio.create_task(self._answer(message, crowded))
        self._requests.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._requests.discard(task)
            self._budget.give_back(size)

        task.add_done_callback(done)

    async def _answer(self, message: Message, crowded: bool) -> None:
        id = messages.request_id(message)
        try:
            with translated(f"a request of {self._client.name}"):
                frame = encode(await self._replied(message, crowded))
        except ServerError as exc:
            frame = encode(messages.error_reply(id, self._service.generation, exc))
        await self._send(frame)

    async def _replied(self, message: Message, crowded: bool) -> Message:
        if self._stopping:
            raise Stopping("the server is stopping")
        if crowded:
            raise TooMany(f"{self._limits.requests_per_client} requests are in flight, as many as a client may have")
        request = messages.parse(message)
        reply = await self._service.answer(request, self._client)
        return messages.reply(request.id, request.op, reply.generation, reply.result)

    async def _send(self, frame: bytes) -> None:
        """Sends a reply; a client that does not take it in time is cut off."""
        async with self._writing:
            if self._writer.is_closing():
                return
            try:
                self._writer.write(frame)
                async with asyncio.timeout(self._limits.frame_s):
                    await self._writer.drain()
            except TimeoutError:
                self.cut_off()  # it takes no replies
            except OSError as exc:
                logger.debug("%s is gone: %s", self._client.name, exc)

    async def _end_requests(self) -> None:
        for task in self._requests:
            task.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)

    async def _close(self) -> None:
        """Closes the connection as soon as the client has taken the last replies, or not in time."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._limits.frame_s):
                await self._writer.wait_closed()
        except TimeoutError:
            self.cut_off()
        except OSError as exc:
            logger.debug("%s is gone: %s", self._client.name, exc)

    def cut_off(self) -> None:
        """Ends the session now, whatever it waits for."""
        logger.info("%s is cut off", self._client.name)
        self._writer.transport.abort()


async def dismiss(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, word: Message) -> None:
    """Sends a last message, and then takes what the client still sends, but only for a while.

    A connection that is closed with bytes unread is reset, and the client may lose the message by that.
    """
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER_S):
            writer.write(encode(word))
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(CHUNK):
                pass
