"""What every request passes and every reply carries: protection of the page, and of the server from other pages.

A browser on this machine can be told by any web site to ask a server on the loopback. So a request from another site
is refused, by its `Origin` and `Sec-Fetch-Site`. A site can also let its own name lead to the loopback (DNS
rebinding). So where no token is needed, `Host` has to be a name of this machine, or one that the settings name.

Viewers of IIIF are other web sites. The settings name those that may read manifests, pages and sound. Tokens are never
shared: a browser sends none to another site without asking first, and such a question is not answered.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.door import Guest
from server.errors import AuthorisationError
from server.web.replies import refusal
from server.web.sites import Sites

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "media-src 'self' blob:",
            "connect-src 'self' blob:",
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
"""Headers of every reply.

`blob:` is what the page itself holds: a file that a user has chosen or recorded, or a reply that needed a token. The
page reads sound from such addresses to draw its waveform.
"""


class Guard:
    """Refuses requests that other web sites make, and protects the replies."""

    def __init__(self, app: ASGIApp, sites: Sites, *, send_s: float, open_reads: Callable[[], bool]) -> None:
        """Guards an application.

        send_s: time for the client to take a part of a reply. open_reads: whether everybody may read without a token.
        """
        self._app = app
        self._sites = sites
        self._send_s = send_s
        self._open_reads = open_reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Identifiers may hold slashes, so paths are matched as they were sent, with %2F in one part.
        scope["path"] = scope["raw_path"].decode("latin-1")

        async def sent(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if self._sites.shares(scope):
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
                    headers["Vary"] = "Origin"
                    if reader := self._sites.reader(scope):
                        headers["Access-Control-Allow-Origin"] = reader
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
        if self._open_reads() and not self._sites.is_ours(host):
            return "Host: expected a name of this machine; `hosts` in the settings names others"
        origin = headers.get("origin")
        is_own = origin is None or self._sites.is_own_origin(origin, host)
        if not is_own and not self._sites.reader(scope):
            return "Origin: expected a page of this server; `viewers` in the settings names others"
        if self._sites.shares(scope):
            return ""
        foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if foreign and not (scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"):
            return "expected a request of a page of this server, got one of another site"
        return ""
