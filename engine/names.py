"""Names of files, ids and titles: in one form for comparison, and without control characters for terminals."""

import logging
import re
import unicodedata
from collections.abc import Iterable

_SURROGATES = re.compile("[\ud800-\udfff]")
"""Characters that no text in UTF-8 has. Python puts them in place of the bytes of a file name that is not UTF-8."""
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal obeys: control characters, line separators, changes of direction, and surrogates."""


def printable(text: str) -> str:
    """Returns a text for one line of a terminal: each character that a terminal would obey is escaped, as in `\\x1b`.

    Names come from files and clients: a line feed could forge a line of output, an escape sequence any output.
    """
    return _CONTROLS.sub(_escaped, text)


def shown_as(shown: str, names: Iterable[str]) -> str | None:
    """Returns the name that a terminal shows as this text (`printable`); None if it shows none so, or several."""
    found = [name for name in names if printable(name) == shown] if "\\" in shown else []
    return found[0] if len(found) == 1 else None


def columns(text: str) -> int:
    """Returns the columns of a terminal that a text takes: two for a Chinese character, none for a combining accent."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else not unicodedata.combining(one) for one in text)


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Returns a text with spaces after it, or before it, that make it take this many columns."""
    spaces = " " * (width - columns(text))
    return spaces + text if right else text + spaces


def encodable(text: str) -> str:
    """Returns a text that can be written as UTF-8: each byte of a file name that is not UTF-8 becomes `\\xNN`."""
    return _SURROGATES.sub(_escaped, text)


def normal(name: str) -> str:
    """Returns an id, or the name of a file, in the form in which ids are stored: encodable, composed as NFC.

    File systems and keyboards compose accents differently, so `é` may be one character or two.
    """
    return unicodedata.normalize("NFC", encodable(name))


class OneLine(logging.Formatter):
    """Formats each log record as one printable line, and a traceback as printable lines below it."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        return "\n".join(map(printable, super().formatException(ei).split("\n")))  # type: ignore[arg-type]  # typeshed's


def _escaped(match: re.Match[str]) -> str:
    """Returns the escape of one character."""
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(match[0], f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
