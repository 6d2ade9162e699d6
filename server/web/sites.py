"""Which names and web sites a browser may use the server by: its own, that of a proxy, and viewers of IIIF."""

import ipaddress
import re
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from server.config import WebSettings
from server.errors import AddressError, RequestError

SHARED = re.compile(r"/documents/[^/]+/(?:manifest\.json|export/[a-z-]+|pages/[0-9]+|sound)")
"""Paths that pages of other web sites may be let read: manifests, and what manifests lead to."""
_HOST = re.compile(r"[A-Za-z0-9._~\-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?")


class Sites:
    """Knows the server's names, and the other web sites that may read what is shared."""

    def __init__(self, settings: WebSettings) -> None:
        """Raises AddressError if `public_url` is no URL, or one of the viewers no origin."""
        self._public = settings.public_url.rstrip("/")
        found = _split(self._public)
        self._public_origin = f"{found.scheme}://{found.netloc}".lower() if self._public else None
        for viewer in settings.viewers:
            if viewer != "*" and not re.fullmatch(r"https?://[^/]+", viewer):
                raise AddressError(f"viewers: expected origins such as https://projectmirador.org, or *, got {viewer}")
        self._viewers = {viewer.lower() for viewer in settings.viewers}
        self._hosts = {host.lower() for host in (*settings.hosts, found.hostname or "")} - {""}

    def base(self, request: Request, *, encrypted: bool) -> str:
        """Returns the URL of the server for a client, without a slash at the end: that of the proxy, or the client's.

        Raises RequestError if there is no proxy, and the client names no host.
        """
        if self._public:
            return self._public
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            raise RequestError("Host: expected the name of the server")
        return f"{'https' if encrypted else 'http'}://{host}"

    def is_ours(self, host: str) -> bool:
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

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Returns whether an `Origin` is a page of this server, which the client calls by `host`."""
        with suppress(ValueError):
            return urlsplit(origin).netloc.lower() == host.lower() or origin.lower() == self._public_origin
        return False

    def shares(self, scope: Scope) -> bool:
        """Returns whether pages of other web sites may have what a request is for: show pictures, and play sound."""
        return bool(self._viewers) and scope.get("method") in ("GET", "HEAD") and bool(SHARED.fullmatch(scope["path"]))

    def reader(self, scope: Scope) -> str:
        """Returns the origin of another web site that may read the reply to a request; empty if it is none."""
        origin = Headers(scope=scope).get("origin", "")
        allowed = "*" in self._viewers or origin.lower() in self._viewers
        return origin if origin and allowed and self.shares(scope) else ""


def _split(url: str) -> SplitResult:
    """Returns the parts of a public URL, which may be empty. Raises AddressError if it is no URL of HTTP."""
    refused = f"public_url: expected a URL such as https://music.example, got {url}"
    try:
        found = urlsplit(url)
        found.port  # noqa: B018 - raises ValueError above 65535
    except ValueError as exc:
        raise AddressError(f"{refused}: {exc}") from exc
    if url and (found.scheme not in ("http", "https") or not found.hostname or found.query):
        raise AddressError(refused)
    return found
