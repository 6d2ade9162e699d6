"""One client's connection: reads its frames, answers its requests side by side, sends each reply when it is ready."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from server import messages
from server.accepting import CHUNK
from server.budget import Budget, Taken, Unfinished
from server.config import Limits
from server.door import Guest
from server.errors import DeadlineExceeded, Overloaded, RequestError, ServerError, Stopping, TooMany, translated
from server.frames import Decoder, Message, encode
from server.service import ClientState, Service

logger = logging.getLogger(__name__)

LINGER_S = 1.0
"""Time that a client gets to receive the last message when it is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The budgets that all connections share."""

    requests: Budget
    """Budget of the messages that are received or worked on."""
    strangers: Budget
    """Budget of the messages of clients that have not shown their token yet."""
    replies: Budget
    """Budget of the replies that are not sent yet."""


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
        memory: Memory,
        guest: Guest,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._service = service
        self._limits = limits
        self._memory = memory
        self._guest = guest
        self._client = ClientState(name=guest.name)
        self._requests: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()
        self._unsent = 0
        """Bytes of the replies that wait to be sent."""
        self._stopping = False

    async def run(self) -> None:
        """Serves the connection; returns when it is closed and its requests have ended."""
        self._guest.evict = self.evict
        try:
            async for message, taken in self._messages():
                self._begin(message, taken)
                while len(self._requests) > 2 * self._limits.requests_per_client:  # sends but does not receive
                    await asyncio.wait(self._requests, return_when=asyncio.FIRST_COMPLETED)
        except ServerError as exc:
            logger.info("%s is cut off: %s", self._client.name, exc)
            self._service.metrics.cut_off(exc.code)
            await self._end_requests()
            await dismiss(self._reader, self._writer, messages.error_reply(None, self._service.generation, exc))
        except OSError as exc:
            logger.debug("%s is gone: %s", self._client.name, exc)
        finally:
            await self._end_requests()
            self._client.streams.clear()
            await self._close()

    async def drain(self) -> None:
        """Refuses new requests, waits for the replies to the others, and closes the connection."""
        self._stopping = True
        await asyncio.gather(*self._requests, return_exceptions=True)
        self._writer.close()

    async def _messages(self) -> AsyncIterator[tuple[Message, Taken]]:
        """Yields the client's messages, each with the bytes of a budget that it takes until they are given back."""
        loop, limits = asyncio.get_running_loop(), self._limits
        decoder = Decoder(limits.stranger_frame_bytes if self._guest.stranger else limits.frame_bytes)
        unfinished = Unfinished(self._memory.strangers if self._guest.stranger else self._memory.requests, self.evict)
        until = loop.time() + limits.idle_s
        try:
            while data := await self._read(until, begun=unfinished.size > 0):
                begins = unfinished.size == 0
                unfinished.add(len(data))
                for message in decoder.feed(data):
                    taken, begins = unfinished.finish(decoder.buffered), True
                    self._introduce(message, decoder, unfinished)
                    yield message, taken
                if begins:
                    until = loop.time() + (limits.frame_s if unfinished.size else limits.idle_s)
                self._note_activity(sends=unfinished.size > 0)
        finally:
            unfinished.close()

    def _introduce(self, message: Message, decoder: Decoder, unfinished: Unfinished) -> None:
        """Makes a stranger a known client if the message has a token; its further messages may then be large."""
        token = message.get("token")
        if self._guest.stranger and isinstance(token, str) and self._service.access.knows(token):
            self._guest.stranger = False
            decoder.limit = self._limits.frame_bytes
            unfinished.move(self._memory.requests)

    def _note_activity(self, *, sends: bool = False) -> None:
        """Notes whether the connection is idle, and since when."""
        self._guest.busy = sends or bool(self._requests)
        if not self._guest.stranger:
            self._guest.since = asyncio.get_running_loop().time()

    async def _read(self, until: float, *, begun: bool) -> bytes:
        """Reads the next bytes; none at the end of the connection.

        Raises DeadlineExceeded at the time `until`, unless no frame has begun and requests are still being answered.
        A stranger gets `stranger_s` in all.
        """
        limits = self._limits
        while True:
            try:
                shown_by = self._guest.since + limits.stranger_s if self._guest.stranger else until
                async with asyncio.timeout_at(min(until, shown_by)):
                    return await self._reader.read(CHUNK)
            except TimeoutError as exc:
                if self._guest.stranger and shown_by <= until:
                    raise DeadlineExceeded(f"expected the token within {limits.stranger_s:g} s") from exc
                if begun:
                    limit_s = limits.frame_s
                    raise DeadlineExceeded(f"expected a whole frame within {limit_s:g} s of its first byte") from exc
                if not self._requests:
                    raise DeadlineExceeded(f"the connection was idle for {limits.idle_s:g} s") from exc
                until += limits.idle_s  # the client waits for replies

    def _begin(self, message: Message, taken: Taken) -> None:
        """Starts to answer a message, which takes these bytes of a budget."""
        crowded = len(self._requests) >= self._limits.requests_per_client
        task = asyncio.create_task(self._answer(message, crowded))
        self._requests.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._requests.discard(task)
            taken.give_back()
            self._note_activity()

        task.add_done_callback(done)

    async def _answer(self, message: Message, crowded: bool) -> None:
        """Answers a message, with an error if need be. crowded: the client has too many requests in flight."""
        id, size = messages.request_id(message), 0
        try:
            with translated(f"a request of {self._client.name}"):
                frame = encode(await self._replied(message, crowded))
                self._take_memory(len(frame))
                size = len(frame)
        except ServerError as exc:
            frame = encode(messages.error_reply(id, self._service.generation, exc))
        try:
            await self._send(frame)
        finally:
            self._unsent -= size
            self._memory.replies.give_back(size)

    def _take_memory(self, size: int) -> None:
        """Takes memory for a reply of this size. Raises RequestError or Overloaded if the client may not have it."""
        most = self._limits.client_reply_bytes
        if size > most:
            raise RequestError(
                f"the reply would take {size} bytes, more than the {most} allowed; ask for fewer matches"
            )
        if self._unsent + size > most:
            raise Overloaded(f"{self._unsent} bytes of replies wait for this client to receive them; try again later")
        self._memory.replies.take(size)
        self._unsent += size

    async def _replied(self, message: Message, crowded: bool) -> Message:
        """Returns the reply to a message. Raises ServerError."""
        try:
            if self._stopping:
                raise Stopping("the server is stopping")
            if crowded:
                raise TooMany(f"{self._limits.requests_per_client} requests are in flight, the maximum for a client")
            request = messages.parse(message)
        except ServerError as exc:
            self._service.metrics.refused(exc.code)
            raise
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

    def evict(self, error: ServerError) -> None:
        """Ends the session at once, with a last word if the client can take it without waiting."""
        logger.info("%s is cut off: %s", self._client.name, error)
        self._service.metrics.cut_off(error.code)
        if not self._writer.is_closing():
            self._writer.write(encode(messages.error_reply(None, self._service.generation, error)))
            self._writer.transport.abort()

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
