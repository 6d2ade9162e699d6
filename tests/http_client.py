"""A client of the gateway that sends what a test wants, whatever it is, and returns what comes."""

import asyncio
import http.client
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running_server import Running, running
from server.address import Address
from server.config import WebSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """A reply of HTTP."""

    status: int
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the error, or `ok`."""
        return str(self.json["error"]["code"]) if self.status >= 400 else "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """A running server with its gateway."""

    running: Running
    address: Address

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, token: str = ""
    ) -> HttpReply:
        """One request on a connection of its own."""
        given = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        return await asyncio.to_thread(self._ask, method, path, body, given)

    async def get(self, path: str, **options: Any) -> HttpReply:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, fields: Any, **options: Any) -> HttpReply:
        """Sends JSON."""
        body, kind = json.dumps(fields).encode(), {"Content-Type": "application/json"}
        return await self.ask("POST", path, body, kind, **options)

    async def form(self, path: str, fields: Mapping[str, str], *files: Path, token: str = "") -> HttpReply:
        """Sends a form, with the files as its field `media`."""
        body, kind = form_of(fields, *files)
        return await self.ask("POST", path, body, {"Content-Type": kind}, token=token)

    async def raw(self, *parts: bytes) -> bytes:
        """Sends bytes, and returns all that comes until the server closes the connection."""
        found, (reader, writer) = b"", await asyncio.open_connection(self.address.host, self.address.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(20):
                while data := await reader.read(1 << 16):
                    found += data
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        return found

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> HttpReply:
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=30)
        try:
            connection.request(method, path, body or None, headers)
            reply = connection.getresponse()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return HttpReply(status=reply.status, headers=found, body=reply.read())
        finally:
            connection.close()


def form_of(fields: Mapping[str, str], *files: Path) -> tuple[bytes, str]:
    """The body of a form, and its content type."""
    border = uuid.uuid4().hex
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [
        f'Content-Disposition: form-data; name="media"; filename="{file.name}"\r\n\r\n'.encode() + file.read_bytes()
        for file in files
    ]
    body = b"".join(f"--{border}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{border}--\r\n".encode()
    return body, f"multipart/form-data; boundary={border}"


@asynccontextmanager
async def serving_web(
    collection: Path, *args: Any, settings: WebSettings | None = None, **options: Any
) -> AsyncIterator[Web]:
    """A server in this process with its gateway, on a free port each. Arguments as `running_server.running`."""
    async with running(collection, *args, **options) as started:
        yield Web(running=started, address=await started.server.web(Address(port=0), settings))
