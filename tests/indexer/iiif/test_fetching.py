"""Files are fetched within limits, and from nowhere that the user does not mean. A server on the loopback answers."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from indexer.errors import IIIFError
from indexer.iiif.fetching import Fetcher, FetchLimits, host_of
from web_host import Page, WebHost, web_host

QUICK = FetchLimits(file_bytes=1000, silence_s=5, file_s=5, wait_s=0.01)


@pytest.fixture
def host() -> Iterator[WebHost]:
    with web_host() as running:
        yield running


def trusting(host: WebHost) -> Fetcher:
    return Fetcher(limits=QUICK, trusted=frozenset([host_of(host.at("/"))]))


def test_a_file_comes_with_its_type(host: WebHost) -> None:
    host.pages["/a%20b?c=1"] = Page(body=b"abc", type="Image/JPEG; charset=x")
    found = trusting(host).fetch(host.at("/a b?c=1"))
    assert (found.data, found.type) == (b"abc", "image/jpeg")


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]"]
)
def test_an_address_of_a_private_network_is_not_asked(name: str, host: WebHost) -> None:
    with pytest.raises(IIIFError, match=r"private network|Address family"):
        Fetcher(limits=QUICK).fetch(f"http://{name}:{host.port}/a")
    assert host.asked == []


def test_a_name_that_resolves_to_a_private_network_is_not_asked(host: WebHost, monkeypatch: pytest.MonkeyPatch) -> None:
    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", host.port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [place])
    with pytest.raises(IIIFError, match=r"music\.example is an address of a private network"):
        Fetcher(limits=QUICK).fetch("http://music.example/a")
    assert host.asked == []


def test_a_user_may_allow_the_own_network(host: WebHost) -> None:
    host.pages["/a"] = Page(body=b"abc")
    assert Fetcher(limits=QUICK, private=True).fetch(host.at("/a")).data == b"abc"


def test_a_redirect_leads_to_no_private_network_either(host: WebHost) -> None:
    with web_host() as inner:
        inner.pages["/secret"] = Page(body=b"secret")
        host.pages["/a"] = Page(status=302, headers={"Location": inner.at("/secret")})
        with pytest.raises(IIIFError, match="private network"):
            trusting(host).fetch(host.at("/a"))
        assert inner.asked == []


def test_a_redirect_is_followed_and_not_for_ever(host: WebHost) -> None:
    host.pages["/a"] = Page(status=303, headers={"Location": "/b"})
    host.pages["/b"] = Page(body=b"abc")
    assert trusting(host).fetch(host.at("/a")).data == b"abc"
    host.pages["/b"] = Page(status=307, headers={"Location": "/a"})
    with pytest.raises(IIIFError, match="redirected more than 5 times"):
        trusting(host).fetch(host.at("/a"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://x/a"])
def test_a_redirect_to_another_protocol_is_refused(target: str, host: WebHost) -> None:
    host.pages["/a"] = Page(status=302, headers={"Location": target})
    with pytest.raises(IIIFError, match="http:// or https://"):
        trusting(host).fetch(host.at("/a"))


def test_a_redirect_to_nowhere_is_refused_at_once(host: WebHost) -> None:
    host.pages["/a"] = Page(status=302)
    with pytest.raises(IIIFError, match=r"/a: is redirected, and the server does not say where to"):
        trusting(host).fetch(host.at("/a"))
    assert host.asked == ["/a"]


def test_a_redirect_to_no_address_is_refused(host: WebHost) -> None:
    host.pages["/a"] = Page(status=302, headers={"Location": "http://[bad/"})
    with pytest.raises(IIIFError, match=r"/a: is redirected to 'http://\[bad/', which is no address"):
        trusting(host).fetch(host.at("/a"))


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://x/a", "http:///a", "http://x:99999/a", "http://[x/a", "a"]
)
def test_what_is_no_web_address_is_refused(address: str) -> None:
    with pytest.raises(IIIFError, match=re.escape(address)):
        Fetcher(limits=QUICK).fetch(address)


def test_an_address_cannot_smuggle_a_header(host: WebHost) -> None:
    host.pages["/a%0D%0AX-Evil:%201"] = Page(body=b"abc")
    with pytest.raises(IIIFError, match="404"):  # the line ends are taken out of the address
        trusting(host).fetch(host.at("/a\r\nX-Evil: 1"))
    assert host.asked == ["/aX-Evil:%201"]


@pytest.mark.parametrize("announced", [None, -1])
def test_a_file_that_is_too_large_is_refused_whether_it_says_so_or_not(announced: int | None, host: WebHost) -> None:
    host.pages["/a"] = Page(body=bytes(2000), announced=announced)
    with pytest.raises(IIIFError, match=r"more than 1,000"):
        trusting(host).fetch(host.at("/a"))


def test_a_file_that_ends_early_is_refused(host: WebHost) -> None:
    host.pages["/a"] = Page(body=b"abc", announced=10)
    with pytest.raises(IIIFError, match=r"ends after 3 of 10 bytes|IncompleteRead"):
        trusting(host).fetch(host.at("/a"))


def test_a_busy_server_is_asked_again(host: WebHost) -> None:
    answers = [Page(status=503), Page(status=429, headers={"Retry-After": "60"}), Page(body=b"abc")]
    host.pages["/a"] = lambda: answers.pop(0)
    assert trusting(host).fetch(host.at("/a")).data == b"abc"
    host.pages["/b"] = Page(status=503)
    with pytest.raises(IIIFError, match="answers 503"):
        trusting(host).fetch(host.at("/b"))
    assert host.asked.count("/b") == 3


def test_a_server_that_does_not_answer_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(IIIFError, match="cannot be fetched"):
        Fetcher(limits=QUICK, private=True).fetch(f"http://127.0.0.1:{port}/a")


@contextmanager
def trickling(start: bytes, end: bytes) -> Iterator[str]:
    """Yields the address of a server that sends `start`, a byte each tenth of a second for 6 s, and `end`."""

    def serve() -> None:
        with suppress(OSError), listening, listening.accept()[0] as connection:  # the client goes
            connection.recv(1 << 16)
            connection.sendall(start)
            for _ in range(60):
                time.sleep(0.1)
                connection.sendall(b"a")
            connection.sendall(end)

    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(60)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a"
    finally:
        thread.join()


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (b"", b"\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"\r\nContent-Length: 0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n", b""),
    ],
)
def test_a_server_that_never_falls_silent_has_as_much_time_as_a_file(start: bytes, end: bytes) -> None:
    with trickling(start, end) as address, pytest.raises(IIIFError, match=r"/a: takes more than 0\.5 s"):
        Fetcher(limits=FetchLimits(silence_s=30, file_s=0.5), private=True).fetch(address)


def test_a_slow_server_that_is_in_time_is_waited_for() -> None:
    with trickling(b"HTTP/1.1 200 OK\r\nX: ", b"\r\nConnection: close\r\n\r\nabc") as address:
        assert Fetcher(limits=FetchLimits(silence_s=60, file_s=60), private=True).fetch(address).data == b"abc"
