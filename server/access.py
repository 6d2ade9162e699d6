"""Who may ask and who may change: the tokens and the certificate of a server."""

import hmac
import ssl
from dataclasses import dataclass


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


def _same(given: str, token: str) -> bool:
    """Returns whether a token is the right one, in a time that does not tell how much of it is right."""
    return bool(token) and hmac.compare_digest(given.encode(errors="replace"), token.encode())
