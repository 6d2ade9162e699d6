"""Clients of the server: `AsyncClient` can have many requests in flight, `Client` waits for each reply."""

import asyncio
import functools
import logging
import random
import ssl
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine import names
from engine.embedding import documents
from engine.errors import MediaError
from engine.values import Embeddings, Kind, Method
from server import messages
from server.address import Address
from server.connection import ServerConnection
from server.errors import ConnectionLost, DeadlineExceeded, Stopping
from server.frames import Message

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 6
FIRST_PAUSE_S = 0.1
"""Pause after the first failed try. Each later pause is twice as long, and each varies at random by up to a half."""
GRACE_S = 1.0
"""Time that the client waits beyond a deadline, so that the server can reply that the deadline is exceeded."""


class AsyncClient:
    """A client for asyncio programs. It connects with the first request, and again after a connection is lost.

    Any number of requests may be in flight. All methods raise ServerError: the error that the server replied,
    ConnectionLost, or DeadlineExceeded. They return the maps that docs/protocol.md describes.
    While the server cannot be reached or is stopping, a request is tried again for about three seconds. A request
    whose connection is lost is also sent again, unless it must not be carried out twice (`remove`, streams).
    """

    def __init__(
        self,
        address: Address | str,
        *,
        token: str = "",
        deadline_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepares a client; nothing is sent yet.

        address: the server's; as text, HOST:PORT or the path of a Unix socket.
        token: the server's secret, which changes of the collection need.
        deadline_s: time for each request that names no deadline of its own.
        tls: encrypts the connection, if given.
        Raises AddressError if the address cannot be parsed.
        """
        self._address = Address.parse(address) if isinstance(address, str) else address
        self._token = token
        self._deadline_s = deadline_s
        self._tls = tls
        self._connection: ServerConnection | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; the server drops the requests of it that are still running."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def ping(self) -> dict[str, Any]:
        """Returns an empty map if the server answers."""
        return await self.request("ping")

    async def info(self, *, list: bool = False) -> dict[str, Any]:
        """Returns the collection's generation, size and network; list: the ids of its documents too."""
        facts = await self.request("info", list=list)
        while list and facts["next"] is not None:
            page = await self.request("info", list=True, after=facts["next"])
            facts |= {"ids": facts["ids"] | page["ids"], "next": page["next"]}
        return facts

    async def documents(
        self, search: str = "", *, kind: Kind | None = None, skip: int = 0, most: int = 1000
    ) -> dict[str, Any]:
        """Returns the documents that have these words, and how many there are: `most` of them after `skip`."""
        return await self.request("documents", search=search, kind=kind, skip=skip, most=most)

    async def document(self, id: str) -> dict[str, Any]:
        """Returns the facts about a document, with the systems of a score. Raises DocumentMissing."""
        return await self.request("document", document=id)

    async def stats(self) -> dict[str, Any]:
        """Returns the server's counters: requests by outcome, batches, connections, memory and open files."""
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
        transpose: Sequence[float] | None = None,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        """Searches for the documents that match a recording or a score; returns what `scorefind query --json` prints.

        source: a file, a folder of page images, or the names and contents of files.
        kind: whether the source is a score or a recording; by default its name decides.
        among: the kind of documents to search; by default the other kind.
        start_s, end_s: search only for this part of a recording.
        path: also return the alignment path of each match.
        transpose: semitones by which a recording is transposed; of several, the likeliest. By default none, and a
            recording that is not found is tried at other pitches; (0,) forbids that.
        Raises MediaError if the file cannot be read.
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
            transpose=None if transpose is None else [float(shift) for shift in transpose],
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
        """Searches for the documents that match embedded snippets; returns the same map as `query`.

        embeddings: float32 (n, 32), rows of length 1.
        network: hash of the weights that made them; `info` returns the hash that the collection needs.
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

    async def segment(
        self,
        source: Path | str | Iterable[tuple[str, bytes]],
        *,
        kind: Kind | None = None,
        among: Kind | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        transpose: Sequence[float] | None = None,
        deadline_s: float | None = 600.0,
    ) -> dict[str, Any]:
        """Returns which documents are played from when to when in a recording: what `scorefind segment --json` prints.

        source, kind, among: see `query`. start_s, end_s: read only this part of a recording.
        transpose: semitones by which a recording is transposed; of several, the likeliest. By default none.
        Raises MediaError if the file cannot be read.
        """
        return await self.request(
            "segment",
            deadline_s,
            media=await _media(source),
            kind=kind,
            among=among,
            start_s=start_s,
            end_s=end_s,
            transpose=None if transpose is None else [float(shift) for shift in transpose],
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
        """Adds a recording or a score as the document of this id. The addition is on disk when this returns.

        Adding the same document again changes nothing.
        replace: replace the document of this id if it has another content; otherwise that is the error DocumentExists.
        Raises MediaError if the file cannot be read.
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
        """Removes the documents of these ids. If one of them does not exist, none is removed."""
        return await self.request("remove", 600.0, again=False, documents=list(ids))

    async def reload(self) -> dict[str, Any]:
        """Makes the server open the newest generation on disk; `changed` says whether there was a newer one."""
        return await self.request("reload", 600.0)

    async def stream(
        self,
        rate: int,
        *,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
        passages: bool = False,
    ) -> "AsyncStream":
        """Opens a stream for a recording that is sent while it is played.

        rate: of its samples, in Hz.
        passages: tell the passages of an evening since its start, in place of the matches of what was heard last.
        """
        wanted: dict[str, Any] = {"passages": True} if passages else {"method": method, "top": top}
        opened = await self.request("stream.open", again=False, rate=rate, among=among, **wanted)
        return AsyncStream(self, opened["stream"])

    async def request(
        self, op: str, deadline_s: float | None = None, *, again: bool = True, **fields: Any
    ) -> dict[str, Any]:
        """Sends a request and returns the field `ok` of the reply.

        fields: of the operation `op`, as docs/protocol.md lists them.
        again: send the request again if the connection is lost before the reply comes.
        """
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
        """Sends the message until there is a reply or TRIES are used up; returns the field `ok` of the reply."""
        for pause_s in (*(FIRST_PAUSE_S * 2**attempt for attempt in range(TRIES - 1)), None):
            connection: ServerConnection | None = None
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

    async def _connected(self) -> ServerConnection:
        """Returns the open connection, after opening one if there is none."""
        async with self._connecting:
            if self._connection is None or self._connection.lost:
                self._connection = await ServerConnection.open(self._address, self._tls, self._token)
            return self._connection


class AsyncStream:
    """A recording that an `AsyncClient` sends while it is played."""

    def __init__(self, client: AsyncClient, number: int) -> None:
        """Called by `AsyncClient.stream`, which is how to get one."""
        self._client = client
        self._number = number

    async def push(self, samples: NDArray[np.float32] | NDArray[np.int16], *, answer: bool = True) -> dict[str, Any]:
        """Sends further samples and returns the matches so far, like `query`, with `heard_s`.

        samples: (n,) mono, float32 in -1..1 or int16.
        answer: False only sends the samples; the map returned then holds no matches.
        """
        return await self._client.request(
            "stream.push", again=False, stream=self._number, samples=messages.array(samples), answer=answer
        )

    async def get(self) -> dict[str, Any]:
        """Returns the matches of what was sent so far, like `push` without samples."""
        return await self._client.request("stream.get", again=False, stream=self._number)

    async def close(self) -> None:
        """Ends the stream; the server forgets what it heard."""
        await self._client.request("stream.close", again=False, stream=self._number)


def _blocking(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> "Callable[Concatenate[Client, P], T]":
    """Makes a method of `Client`, which waits for the result, from the one of `AsyncClient`; its types are the same."""

    @functools.wraps(method)
    def wait(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(method(self._client, *args, **kwargs))

    return wait


class Client:
    """An `AsyncClient` for programs that wait for each reply: same methods, same arguments, same results.

    Only one thread may use it, and not from inside an event loop.
    """

    def __init__(
        self,
        address: Address | str,
        *,
        token: str = "",
        deadline_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Takes the arguments of `AsyncClient`."""
        self._client = AsyncClient(address, token=token, deadline_s=deadline_s, tls=tls)
        self._runner = asyncio.Runner()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the server drops the requests of it that are still running."""
        self._run(self._client.close())
        self._runner.close()

    ping = _blocking(AsyncClient.ping)
    info = _blocking(AsyncClient.info)
    documents = _blocking(AsyncClient.documents)
    document = _blocking(AsyncClient.document)
    stats = _blocking(AsyncClient.stats)
    query = _blocking(AsyncClient.query)
    query_embeddings = _blocking(AsyncClient.query_embeddings)
    segment = _blocking(AsyncClient.segment)
    add = _blocking(AsyncClient.add)
    remove = _blocking(AsyncClient.remove)
    reload = _blocking(AsyncClient.reload)

    def stream(
        self,
        rate: int,
        *,
        among: Kind | None = None,
        method: Method = "refine",
        top: int = 10,
        passages: bool = False,
    ) -> "Stream":
        """Opens a stream for a recording that is sent while it is played; see `AsyncClient.stream`."""
        opened = self._client.stream(rate, among=among, method=method, top=top, passages=passages)
        return Stream(self, self._run(opened))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


class Stream:
    """A recording that a `Client` sends while it is played; the blocking counterpart of `AsyncStream`."""

    def __init__(self, client: Client, stream: AsyncStream) -> None:
        """Called by `Client.stream`, which is how to get one."""
        self._client = client
        self._stream = stream

    def push(self, samples: NDArray[np.float32] | NDArray[np.int16], *, answer: bool = True) -> dict[str, Any]:
        """Sends further samples and returns the matches so far; see `AsyncStream.push`."""
        return self._client._run(self._stream.push(samples, answer=answer))

    def get(self) -> dict[str, Any]:
        """Returns the matches of what was sent so far, like `push` without samples."""
        return self._client._run(self._stream.get())

    def close(self) -> None:
        """Ends the stream; the server forgets what it heard."""
        self._client._run(self._stream.close())


async def _media(source: Path | str | Iterable[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """Returns the field `media` of a request: the name and the content of each file."""
    if isinstance(source, Path | str):
        source = await asyncio.to_thread(_read, Path(source))
    return [{"name": name, "data": data} for name, data in source]


def _read(path: Path) -> list[tuple[str, bytes]]:
    """Reads a file, or the page images of a folder in their order. Raises MediaError."""
    try:
        documents.require_file_or_folder(path)
        documents.warn_of_unread(path)
        files = documents.page_files(path) if path.is_dir() else [path]
        found = [(names.encodable(file.name), file.read_bytes()) for file in files]
    except OSError as exc:
        raise MediaError(path, f"cannot be read: {exc.strerror}") from exc
    if not found:
        raise MediaError(path, "expected a folder of page images, got a folder that holds none")
    return found
