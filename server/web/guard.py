"""What every request passes and every reply carries: protection of the page, and of the server from other pages.

A browser on this machine can be told by any web site to ask a server on the loopback. So a request from another site
is refused, by its `Origin` and `Sec-Fetch-Site`. A site can also let its own name lead to the loopback (DNS
rebinding). So where no token is needed, `Host` has to be a name of this machine, or one that the settings name.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Collection
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.door import Guest
from server.errors import AuthorisationError
from server.web.replies import refusal

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "media-src 'self' blob:",
            "connect-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}
"""Headers of every reply. `blob:` is what a user has chosen or recorded himself."""


class Guard:
    """Refuses requests that other web sites make, and protects the replies."""

    def __init__(self, app: ASGIApp, *, send_s: float, open_reads: Callable[[], bool], hosts: Collection[str]) -> None:
        """Guards an application.

        send_s: time for the client to take a part of a reply. open_reads: whether everybody may read without a token.
        hosts: names by which browsers may reach the server besides those of this machine.
        """
        self._app = app
        self._send_s = send_s
        self._open_reads = open_reads
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Identifiers may hold slashes, so paths are matched as they were sent, with %2F in one part.
        scope["path"] = scope["raw_path"].decode("latin-1")

        async def sent(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            async with asyncio.timeout(self._send_s):
                await send(message)

        if fault := self._fault(scope):
            await refusal(AuthorisationError(fault), 403)(scope, receive, sent)
            return
        guest: Guest = scope["state"]["guest"]
        guest.busy = True
        try:
            with suppress(TimeoutError):  # the client takes nothing; uvicorn ends the connection of a reply cut short
                await self._app(scope, receive, sent)
        finally:
            guest.busy, guest.since = False, asyncio.get_running_loop().time()

    def _fault(self, scope: Scope) -> str:
        """Returns why a request is refused; empty if it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._open_reads() and not self._is_ours(host):
            return "Host: expected a name of this machine; `hosts` in the settings names others"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "Origin: expected a page of this server"
        foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if foreign and not (scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"):
            return "expected a request of a page of this server, got one of another site"
        return ""

    def _is_ours(self, host: str) -> bool:
        """Returns whether a `Host` names this machine, or a name that the settings allow."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name == "localhost" or name in self._hosts:
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(name).is_loopback
        return False
