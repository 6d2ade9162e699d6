"""Clients of the server: `AsyncClient`, which has many requests in flight, and `Client`, which waits for each."""

import asyncio
import logging
import random
import ssl
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine import documents
from engine.errors import MediaError
from engine.values import Embeddings, Kind, Method
from server import messages
from server.address import Address
from server.errors import AddressError, ConnectionLost, DeadlineExceeded, ServerError, Stopping, from_code
from server.frames import Decoder, Message, encode

logger = logging.getLogger(__name__)

T = TypeVar("T")

MOST_REPLY = 1 << 30
MOST_VALUES = 1 << 24
"""Of a reply: its bytes, and the numbers it is made of, of which paths have many."""
TRIES = 6
FIRST_PAUSE_S = 0.1
"""Between the first two tries to connect; each pause after it is twice as long, and all vary at random by a half."""
GRACE_S = 1.0
"""The server gets so much time beyond a deadline to say itself that it is missed."""


class AsyncClient:
    """A connection to a server, made when it is needed and made again when it is lost.

    Any number of requests may be in flight. All methods raise ServerError: what the server replied, ConnectionLost, or
    DeadlineExceeded. Their results are the maps that ARCHITECTURE.md describes.
    If the server cannot be reached, or is stopping, a request is tried again for some three seconds. One whose
    connection is lost is sent again too, but for those that must not be done twice (`remove`, streams).
    """

    def __init__(
        self,
        address: Address | str,
        *,
        token: str = "",
        deadline_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """address: as text HOST:PORT or the path of a Unix socket. deadline_s: of each request that names no other.

        Raises AddressError.
        """
        self._address = Address.parse(address) if isinstance(address, str) else address
        self._token = token
        self._deadline_s = deadline_s
        self._tls = tls
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; the server drops what it still works on."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def ping(self) -> dict[str, Any]:
        return await self.request("ping")

    async def info(self, *, list: bool = False) -> dict[str, Any]:
        """What the collection holds; list: its documents too."""
        return await self.request("info", list=list)

    async def stats(self) -> dict[str, Any]:
        """How the server does."""
        return await self.request("stats")

    async def query(
        self,
        source: Path | str | Iterable[tuple[str, bytes]],
        *,
        kind: Kind | None = None,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
        start_s: float | None = None,
        end_s: float | None = None,
        path: bool = False,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        """Which documents go with a recording or a score, as `scorefind query --json` prints it.

        source: a file, a folder of page images, or names and contents of files.
        kind: what it is; by default that is judged by its name.
        Raises MediaError too, if the file cannot be read.
        """
        return await self.request(
            "query",
            deadline_s,
            media=await _media(source),
            kind=kind,
            among=among,
            method=method,
            top=top,
            start_s=start_s,
            end_s=end_s,
            path=path,
        )

    async def query_embeddings(
        self,
        embeddings: Embeddings,
        kind: Kind,
        network: str,
        *,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
        path: bool = False,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        """The same for snippets that are embedded already.

        embeddings: float32 (n, 32), unit rows. network: the hash of the weights they were embedded with.
        """
        return await self.request(
            "query",
            deadline_s,
            embeddings=messages.array(embeddings),
            kind=kind,
            network=network,
            among=among,
            method=method,
            top=top,
            path=path,
        )

    async def add(
        self,
        document: str,
        source: Path | str | Iterable[tuple[str, bytes]],
        *,
        kind: Kind | None = None,
        title: str = "",
        composer: str = "",
        work: str = "",
        replace: bool = False,
        deadline_s: float | None = 600.0,
    ) -> dict[str, Any]:
        """Takes a recording or score into the collection as a document of this id; when it returns, that is durable.

        Adding the same again changes nothing. replace: even if the id is that of something else.
        """
        return await self.request(
            "add",
            deadline_s,
            document=document,
            media=await _media(source),
            kind=kind,
            title=title,
            composer=composer,
            work=work,
            replace=replace,
        )

    async def remove(self, *ids: str) -> dict[str, Any]:
        """Takes documents out: all of them, or none if one is not there."""
        return await self.request("remove", 600.0, again=False, documents=list(ids))

    async def reload(self) -> dict[str, Any]:
        """Has the server open the generation in force on disk."""
        return await self.request("reload", 600.0)

    async def stream(
        self,
        rate: int,
        *,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
    ) -> "AsyncStream":
        """A recording that is about to be sent as it goes on; rate: of its samples, Hz."""
        opened = await self.request("stream.open", again=False, rate=rate, among=among, method=method, top=top)
        return AsyncStream(self, opened["stream"])

    async def request(
        self, op: str, deadline_s: float | None = None, *, again: bool = True, **fields: Any
    ) -> dict[str, Any]:
        """The `ok` of the reply. again: whether to send it once more if the connection is lost."""
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        message = {"v": messages.VERSION, "op": op, "deadline_s": deadline_s, **fields}
        if self._token:
            message["token"] = self._token
        try:
            async with asyncio.timeout(deadline_s + GRACE_S):
                return await self._tried(message, again)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"{op}: no reply from {self._address} within {deadline_s:g} s") from exc

    async def _tried(self, message: Message, again: bool) -> dict[str, Any]:
        for pause_s in (*(FIRST_PAUSE_S * 2**attempt for attempt in range(TRIES - 1)), None):
            connection: _Connection | None = None
            try:
                connection = await self._connected()
                return await connection.ask(message)
            except (ConnectionLost, Stopping) as exc:
                maybe_done = connection is not None and isinstance(exc, ConnectionLost)
                if pause_s is None or (maybe_done and not again):
                    raise
                logger.info("%s; trying again in about %.1f s", exc, pause_s)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        raise AssertionError("the last try returns or raises")

    async def _connected(self) -> "_Connection":
        async with self._connecting:
            if self._connection is None or self._connection.lost:
                self._connection = await _Connection.open(self._address, self._tls)
            return self._connection


class AsyncStream:
    """A recording that is going on."""

    def __init__(self, client: AsyncClient, number: int) -> None:
        """Use `AsyncClient.stream`."""
        self._client = client
        self._number = number

    async def push(self, samples: NDArray[np.float32] | NDArray[np.int16], *, answer: bool = True) -> dict[str, Any]:
        """Sends what was heard since, and returns what it is as far as one can tell: as `query`, with `heard_s`.

        samples: (n,) mono, float32 in -1..1 or int16. answer: False only listens.
        """
        return await self._client.request(
            "stream.push", again=False, stream=self._number, samples=messages.array(samples), answer=answer
        )

    async def close(self) -> None:
        await self._client.request("stream.close", again=False, stream=self._number)


class _Connection:
    """One connection, as long as it lasts."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost = False
        self._address = address
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asked = 0
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def open(cls, address: Address, tls: ssl.SSLContext | None) -> "_Connection":
        """Raises ConnectionLost if nobody answers there, AddressError if somebody does who is not trusted."""
        try:
            if address.unix is not None:
                reader, writer = await asyncio.open_unix_connection(address.unix, ssl=tls)
            else:
                reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
        except ssl.SSLCertVerificationError as exc:
            raise AddressError(f"{address}: its certificate is not trusted: {exc.verify_message}") from exc
        except OSError as exc:
            raise ConnectionLost(f"no server at {address}: {exc.strerror or exc}") from exc
        return cls(address, reader, writer)

    async def ask(self, message: Message) -> dict[str, Any]:
        """The `ok` of the reply to a message, which gets an id here. Raises what the reply tells, or ConnectionLost."""
        self._asked += 1
        id = self._asked
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[id] = reply
        try:
            if self.lost:
                raise ConnectionLost(f"the connection to {self._address} is lost")
            self._writer.write(encode(message | {"id": id}))
            with suppress(OSError):  # the reply, which may say why, or the end of the connection tells more
                await self._writer.drain()
            return await reply
        finally:
            del self._waiting[id]

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _listen(self) -> None:
        """Takes replies until the connection ends."""
        error: ServerError = ConnectionLost(f"the connection to {self._address} was closed")
        decoder = Decoder(MOST_REPLY, most_values=MOST_VALUES)
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
        reply = self._waiting.get(message.get("id", 0))
        if reply is None or reply.done():
            return  # whoever asked waits no longer
        if "error" in message:
            reply.set_exception(_error(message))
        else:
            reply.set_result(message["ok"])


class Client:
    """`AsyncClient` for programs that wait for each reply; for one thread. Its methods are the same."""

    def __init__(
        self,
        address: Address | str,
        *,
        token: str = "",
        deadline_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Arguments as for `AsyncClient`."""
        self._client = AsyncClient(address, token=token, deadline_s=deadline_s, tls=tls)
        self._runner = asyncio.Runner()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._run(self._client.close())
        self._runner.close()

    def ping(self) -> dict[str, Any]:
        return self._run(self._client.ping())

    def info(self, *, list: bool = False) -> dict[str, Any]:
        return self._run(self._client.info(list=list))

    def stats(self) -> dict[str, Any]:
        return self._run(self._client.stats())

    def query(self, source: Path | str | Iterable[tuple[str, bytes]], **options: Any) -> dict[str, Any]:
        return self._run(self._client.query(source, **options))

    def query_embeddings(self, embeddings: Embeddings, kind: Kind, network: str, **options: Any) -> dict[str, Any]:
        return self._run(self._client.query_embeddings(embeddings, kind, network, **options))

    def add(self, document: str, source: Path | str | Iterable[tuple[str, bytes]], **options: Any) -> dict[str, Any]:
        return self._run(self._client.add(document, source, **options))

    def remove(self, *ids: str) -> dict[str, Any]:
        return self._run(self._client.remove(*ids))

    def reload(self) -> dict[str, Any]:
        return self._run(self._client.reload())

    def stream(self, rate: int, **options: Any) -> "Stream":
        return Stream(self, self._run(self._client.stream(rate, **options)))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


class Stream:
    """`AsyncStream` of a `Client`."""

    def __init__(self, client: Client, stream: AsyncStream) -> None:
        """Use `Client.stream`."""
        self._client = client
        self._stream = stream

    def push(self, samples: NDArray[np.float32] | NDArray[np.int16], *, answer: bool = True) -> dict[str, Any]:
        return self._client._run(self._stream.push(samples, answer=answer))

    def close(self) -> None:
        self._client._run(self._stream.close())


def _error(message: Message) -> ServerError:
    told = message["error"]
    return from_code(str(told.get("code")), str(told.get("message")))


async def _media(source: Path | str | Iterable[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """Names and contents of a file, of the page images of a folder, or of what was given so."""
    if isinstance(source, Path | str):
        source = await asyncio.to_thread(_read, Path(source))
    return [{"name": name, "data": data} for name, data in source]


def _read(path: Path) -> list[tuple[str, bytes]]:
    try:
        files = documents.page_files(path) if path.is_dir() else [path]
        found = [(file.name, file.read_bytes()) for file in files]
    except OSError as exc:
        raise MediaError(path, f"cannot be read: {exc.strerror}") from exc
    if not found:
        raise MediaError(path, "expected a folder of page images, got a folder that holds none")
    return found
