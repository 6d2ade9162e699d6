"""Who may ask and who may change: the tokens and the certificate of a server, and the files that hold them."""

import hmac
import math
import os
import ssl
import string
from dataclasses import dataclass
from pathlib import Path

from server.address import Address
from server.errors import AddressError

TOKEN_BITS = 128
"""Least strength of a token where other machines can try to guess it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The tokens of a server, and its settings of TLS."""

    write_token: str = ""
    """Secret that changes need; it opens reads, too. Empty: the server refuses changes."""
    read_token: str = ""
    """Secret that opens reads alone. Empty: there is none."""
    open_reads: bool = True
    """Whether everybody may read without a token."""
    tls: ssl.SSLContext | None = None
    """How connections are encrypted; None: they are not."""

    def may_write(self, token: str) -> bool:
        """Returns whether this token opens changes."""
        return _same(token, self.write_token)

    def knows(self, token: str) -> bool:
        """Returns whether this is one of the tokens."""
        return self.may_write(token) or _same(token, self.read_token)

    def may_read(self, token: str) -> bool:
        """Returns whether this token, or no token at all, opens reads."""
        return self.open_reads or self.knows(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessFiles:
    """The files from which the access to a server is read, when it starts and on SIGHUP."""

    address: Address
    token_file: Path | None = None
    """Holds the token that changes need."""
    read_token_file: Path | None = None
    """Holds a token that opens reads alone."""
    cert: Path | None = None
    """The certificate (PEM); None: connections are not encrypted."""
    key: Path | None = None
    """The certificate's key (PEM), if in a file of its own."""
    plain: bool = False
    """Whether other machines may connect without encryption, on purpose."""

    def load(self) -> Access:
        """Reads the files. Raises AddressError if other machines can reach the address and it is not secured."""
        exposed = not self.address.is_local
        if exposed and self.token_file is None and self.read_token_file is None:
            raise AddressError(
                f"{self.address} can be reached from other machines: give a token (--token-file), or a local address"
            )
        if exposed and self.cert is None and not self.plain:
            raise AddressError(
                f"{self.address} can be reached from other machines: give a certificate (--tls-cert), or say --plain "
                "if tokens and media may cross the network unencrypted"
            )
        return Access(
            write_token=secret(self.token_file, strong=exposed) if self.token_file else "",
            read_token=secret(self.read_token_file, strong=exposed) if self.read_token_file else "",
            open_reads=not exposed,
            tls=tls_context(self.cert, self.key) if self.cert else None,
        )


def secret(file: Path, *, strong: bool = False) -> str:
    """Returns the token in the first line of a file.

    strong: refuse a token that can be guessed, and a file that other users can read.
    Raises AddressError, or OSError if the file cannot be read.
    """
    with file.open("rb") as opened:
        status = os.fstat(opened.fileno())
        line = opened.readline()
    try:
        token = line.decode("utf-8").strip()
    except UnicodeDecodeError as exc:  # its own message shows a byte of the token
        raise AddressError(f"{file}: expected a token in UTF-8 in the first line, got {exc.reason}") from None
    if not token:
        raise AddressError(f"{file}: expected a token in the first line, got nothing")
    if strong and status.st_mode & 0o077:
        raise AddressError(f"{file}: other users can read the token; expected a file of mode 0600 (chmod 600)")
    if strong and _strength_bits(token) < TOKEN_BITS:
        raise AddressError(
            f"{file}: expected a token of at least {TOKEN_BITS} random bits, got one of some "
            f"{_strength_bits(token):.0f}; `openssl rand -hex 32` makes one"
        )
    return token


def tls_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """Makes the TLS settings of a server from its certificate and key (PEM). Raises AddressError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ValueError) as exc:
        raise AddressError(f"{cert}, {key}: not a certificate and its key: {exc}") from exc
    return context


def trusted(certificates: Path) -> ssl.SSLContext:
    """Makes the TLS settings of a client that trusts these certificates (PEM) alone. Raises AddressError."""
    try:
        return ssl.create_default_context(cafile=certificates)
    except OSError as exc:  # also what ssl raises for a file without a certificate
        raise AddressError(f"{certificates}: cannot be read as certificates: {exc}") from exc


def _strength_bits(token: str) -> float:
    """Returns how many bits a token of these kinds of characters has at most; few if it repeats a few characters."""
    characters = set(token)
    if characters <= set(string.hexdigits.lower()) or characters <= set(string.hexdigits.upper()):
        kinds = 16
    else:
        groups = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
        kinds = sum(len(group) for group in groups if characters & set(group)) + len(characters - set("".join(groups)))
    return min(len(token), 4 * len(characters)) * math.log2(max(kinds, 2))


def _same(given: str, token: str) -> bool:
    """Returns whether a token is the right one, in a time that does not tell how much of it is right."""
    return bool(token) and hmac.compare_digest(given.encode(errors="replace"), token.encode())
