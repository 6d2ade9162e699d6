"""A web server on the loopback that answers as a test says, and remembers what it was asked for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the server answers."""

    body: bytes = b""
    type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    """Length that the header says; by default that of the body. -1: none."""


@dataclass(slots=True, kw_only=True)
class WebHost:
    """The server: what it has at each path, and the paths that were asked for."""

    port: int
    pages: dict[str, Page | Callable[[], Page]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def at(self, path: str) -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def web_host() -> Iterator[WebHost]:
    """Yields a server that runs until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.asked.append(self.path)
            page = host.pages.get(self.path, Page(status=404))
            page = page if isinstance(page, Page) else page()
            self.send_response(page.status)
            self.send_header("Content-Type", page.type)
            length = len(page.body) if page.announced is None else page.announced
            if length >= 0:
                self.send_header("Content-Length", str(length))
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host = WebHost(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
