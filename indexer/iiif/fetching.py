"""Fetches files by HTTP, within limits, and only from addresses that the user means.

A manifest is somebody else's text, and names addresses. None of them leads into the user's own network, by itself, by a
redirect or by a name that resolves to it, unless the user gave that host or allows it. Only the command line fetches: a
server that did would be a way into its network. No proxy is used, because it would hide the address.
"""

import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from engine import __version__
from indexer.errors import IIIFError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)
BUSY = (429, 503)
"""Statuses by which a server asks to come again later."""
AGENT = f"scorefind/{__version__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """Limits on what is fetched."""

    pages: int = 2000
    """Largest number of images of a manifest."""
    file_bytes: int = 64 << 20
    """Size of the largest file."""
    total_bytes: int = 4 << 30
    """Size of all images of a manifest."""
    redirects: int = 5
    tries: int = 3
    """How often a server that is busy is asked."""
    wait_s: float = 30.0
    """Longest pause before a busy server is asked again."""
    silence_s: float = 30.0
    """Longest time without a byte."""
    file_s: float = 300.0
    """Longest time that one file takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """A file that was fetched."""

    data: bytes
    type: str
    """Media type that the server gives, in lower case without parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """Fetches files."""

    limits: FetchLimits = FetchLimits()
    private: bool = False
    """Whether any address of this machine and its network may be fetched from."""
    trusted: frozenset[str] = frozenset()
    """Hosts with ports (`host:port`) that the user gave, wherever they are."""
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def fetch(self, address: str, accept: str = "*/*") -> FetchedFile:
        """Returns the file at an address. Raises IIIFError, which names the address and the cause."""
        deadline_s = time.monotonic() + self.limits.file_s
        asked = address
        for _ in range(self.limits.redirects + 1):
            with self._asked(asked, accept, deadline_s) as response:
                if response.status not in REDIRECTS:
                    if response.status != 200:
                        raise IIIFError(address, f"the server answers {response.status} {response.reason}")
                    data = self._body(response, address, deadline_s)
                    return FetchedFile(data=data, type=response.headers.get_content_type())
                location = response.headers.get("Location", "")
            asked = _redirected(address, asked, location)
        raise IIIFError(address, f"is redirected more than {self.limits.redirects} times")

    @contextmanager
    def _asked(self, address: str, accept: str, deadline_s: float) -> Iterator[http.client.HTTPResponse]:
        """Yields the response to a request. A busy server is asked again, as often and as late as the limits allow."""
        parts = _parts(address)
        for number in range(1, self.limits.tries + 1):
            try:
                with closing(self._connection(parts, deadline_s)) as connection:
                    headers = {"Accept": accept, "Accept-Encoding": "identity", "User-Agent": AGENT}
                    connection.request("GET", _target(parts), headers=headers)
                    with connection.getresponse() as response:
                        if response.status not in BUSY or number == self.limits.tries:
                            yield response
                            return
                        pause_s = min(_pause_s(response.headers.get("Retry-After", "")), self.limits.wait_s)
            except (OSError, http.client.HTTPException, UnicodeError) as exc:
                if time.monotonic() >= deadline_s:
                    raise IIIFError(address, f"takes more than {self.limits.file_s:g} s") from exc
                raise IIIFError(address, f"cannot be fetched: {exc}") from exc
            if time.monotonic() + pause_s > deadline_s:
                raise IIIFError(address, "the server is busy")
            time.sleep(pause_s)

    def _connection(self, parts: SplitResult, deadline_s: float) -> http.client.HTTPConnection:
        """Returns a connection, not yet open, that connects to allowed addresses only, and waits until the deadline."""
        host, port = parts.hostname or "", _port(parts)
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, context=self.context)
        else:
            connection = http.client.HTTPConnection(host, port)
        anywhere = self.private or f"{host}:{port}" in self.trusted
        patience = _Patience(self.limits.silence_s, deadline_s)
        connection._create_connection = _connecting(anywhere, patience)  # type: ignore[attr-defined]  # of connect()
        connection.response_class = partial(_TimedResponse, patience=patience)  # type: ignore[assignment]
        return connection

    def _body(self, response: http.client.HTTPResponse, address: str, deadline_s: float) -> bytes:
        """Returns the body of a response. Raises IIIFError if it is too large, too slow, or ends early."""
        announced = response.length
        if announced is not None and announced > self.limits.file_bytes:
            raise IIIFError(address, f"has {announced:,} bytes, more than {self.limits.file_bytes:,}")
        data = bytearray()
        while block := response.read1(BLOCK_BYTES):
            data += block
            if len(data) > self.limits.file_bytes:
                raise IIIFError(address, f"has more than {self.limits.file_bytes:,} bytes")
            if time.monotonic() > deadline_s:
                raise IIIFError(address, f"takes more than {self.limits.file_s:g} s")
        if announced is not None and len(data) < announced:
            raise IIIFError(address, f"ends after {len(data):,} of {announced:,} bytes")
        return bytes(data)


@dataclass(frozen=True, slots=True)
class _Patience:
    """How long a server is waited for."""

    silence_s: float
    deadline_s: float
    """Time of `time.monotonic` when the file must be there."""

    def apply(self, opened: socket.socket) -> None:
        """Lets the next wait of a socket end after the silence, or at the deadline. Raises TimeoutError after it."""
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        opened.settimeout(min(self.silence_s, left_s))


class _TimedReader(io.RawIOBase):
    """Reads from a socket until a deadline. The timeout of a socket begins anew with each byte that comes."""

    def __init__(self, opened: socket.socket, patience: _Patience) -> None:
        self._socket, self._patience = opened, patience
        self._file = opened.makefile("rb", buffering=0)  # the socket stays open until this is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        self._patience.apply(self._socket)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """A response whose headers and body are read until a deadline."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, *, patience: _Patience
    ) -> None:
        super().__init__(sock, debuglevel, method)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReader(sock, patience))


def host_of(address: str) -> str:
    """Returns the host and port of an address, as `Fetcher.trusted` has them. Raises IIIFError."""
    parts = _parts(address)
    return f"{parts.hostname}:{_port(parts)}"


def is_remote(text: str) -> bool:
    """Returns whether a text is an address that is fetched by HTTP, and no path."""
    return text.lower().startswith(("http://", "https://"))


def _parts(address: str) -> SplitResult:
    """Returns the parts of an address. Raises IIIFError if it is none of http or https."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as exc:
        raise IIIFError(address, f"is no address: {exc}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise IIIFError(address, "expected an address that begins with http:// or https://")
    return parts


def _redirected(address: str, asked: str, location: str) -> str:
    """Returns the address to which a server redirects. Raises IIIFError if it is none, or gives up encryption.

    address: named in errors. asked: the address that answers. location: what it answers, perhaps relative to itself.
    """
    if not location:
        raise IIIFError(address, "is redirected, and the server does not say where to")
    try:
        target = urljoin(asked, location)
        secure = [urlsplit(one).scheme == "https" for one in (asked, target)]
    except ValueError as exc:
        raise IIIFError(address, f"is redirected to {location[:80]!r}, which is no address: {exc}") from exc
    if secure == [True, False]:
        raise IIIFError(address, "is redirected from https to an address without encryption")
    return target


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _target(parts: SplitResult) -> str:
    """Returns what of an address is sent to the server. What is no ASCII, or would end the line, is quoted."""
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    return path + ("?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~-._") if parts.query else "")


def _connecting(anywhere: bool, patience: _Patience) -> Callable[..., socket.socket]:
    """Returns a function that connects as `socket.create_connection` does, to allowed addresses only.

    The address that was looked at is the one that is connected to: a name may resolve to another one a moment later.
    """

    def connect(address: tuple[str, int], timeout: object = None, source_address: object = None) -> socket.socket:
        fault: OSError = OSError(f"{address[0]} has no address")
        for family, kind, protocol, _, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            if not anywhere and not _is_public(str(place[0])):
                fault = OSError(f"{address[0]} is an address of a private network ({place[0]})")
                continue
            opened = socket.socket(family, kind, protocol)
            try:
                patience.apply(opened)
                opened.connect(place)
                patience.apply(opened)  # for the TLS handshake and the request
            except OSError as exc:
                opened.close()
                fault = exc
            else:
                return opened
        raise fault

    return connect


def _is_public(ip: str) -> bool:
    """Returns whether an IP address is one of the public internet."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_global


def _pause_s(retry_after: str) -> float:
    """Returns the seconds that a busy server asks to wait; 1 if it does not say, or gives a date."""
    return float(retry_after) if retry_after.isdecimal() else 1.0
