"""The files of the page, read once when the gateway starts: no path of a request ever reaches the file system."""

import hashlib
import importlib.resources
from dataclasses import dataclass

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file of the page."""

    content: bytes
    type: str
    tag: str
    """Changes with the content."""


def assets() -> dict[str, Asset]:
    """Returns the files of the page by the paths at which they are served; `/` is index.html."""
    found: dict[str, Asset] = {}
    for file in (importlib.resources.files("server.web") / "page").iterdir():
        suffix = file.name.rpartition(".")[2]
        if suffix in TYPES:
            content = file.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            found[path] = Asset(content=content, type=TYPES[suffix], tag=tag)
    return found
