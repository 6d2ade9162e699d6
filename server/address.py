"""Where a server listens, and where it is reached."""

import ipaddress
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.errors import AddressError

PORT = 7700


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Host and port, or a Unix socket."""

    host: str = "127.0.0.1"
    port: int = PORT
    """0: the server takes a free one."""
    unix: Path | None = None
    """A Unix socket in place of host and port."""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """HOST:PORT, HOST, or the path of a Unix socket, which holds a slash. Raises AddressError."""
        if "/" in text:
            return cls(unix=Path(text))
        host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
        if not colon:
            host, port = text, str(PORT)
        if not port.isdecimal() or int(port) > 65535 or not host:
            raise AddressError(f"expected HOST:PORT or the path of a Unix socket, got {text!r}")
        return cls(host=host.strip("[]"), port=int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return str(self.unix) if self.unix else f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether this machine alone reaches it."""
        if self.unix is not None or self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False
