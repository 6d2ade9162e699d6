"""The address at which a server listens and its clients connect."""

import ipaddress
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.errors import AddressError

LOCAL_HOST = "127.0.0.1"
PORT = 7700
PORTS = range(65536)
"""Numbers of ports. The system takes a larger number modulo 65536, and so another port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a server: host and port, or the path of a Unix socket."""

    host: str = LOCAL_HOST
    port: int = PORT
    """0: the server chooses a free port."""
    unix: Path | None = None
    """Path of a Unix socket, which takes the place of host and port."""

    def __post_init__(self) -> None:
        """Raises AddressError if the port is not in `PORTS`, or the host cannot be looked up."""
        if self.port not in PORTS:
            raise AddressError(f"expected a port from {PORTS[0]} to {PORTS[-1]}, got {self.port}")
        try:
            self.host.encode("idna")  # as sockets do
        except UnicodeError as exc:
            raise AddressError(f"expected the name of a host, got {self.host!r}: {exc}") from exc

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parses HOST:PORT, HOST, or the path of a Unix socket, which has a slash in it. Raises AddressError."""
        if "/" in text:
            return cls(unix=Path(text))
        host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
        if not colon:
            host, port = text, str(PORT)
        if not port.isdecimal() or len(port) > 5 or int(port) not in PORTS or not host:
            raise AddressError(f"expected HOST:PORT or the path of a Unix socket, got {text!r}")
        return cls(host=host.strip("[]"), port=int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return str(self.unix) if self.unix else f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can connect to the address."""
        if self.unix is not None or self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False
