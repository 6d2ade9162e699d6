import logging
import unicodedata

import pytest

from engine.names import OneLine, encodable, normal, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Étude op. 10 № 3 – 夜曲 🎹", "Étude op. 10 № 3 – 夜曲 🎹"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x07\x7f", "\\x1b[31mred\\x07\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("next\u2028line \u202eflac", "next\\u2028line \\u202eflac"),
        ("fa\udce7ile", "fa\\xe7ile"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_only_what_is_no_utf_8_is_escaped_in_what_is_stored() -> None:
    assert encodable("fa\udce7ile\n") == "fa\\xe7ile\n"
    assert normal(unicodedata.normalize("NFD", "fa\udce7ile é")) == "fa\\xe7ile é"


def test_a_log_record_is_one_line_and_its_traceback_has_no_escape_sequences() -> None:
    record = logging.LogRecord("engine", logging.ERROR, "f.py", 1, "%s: broken", ("a\nERROR \x1b[0m.wav",), None)
    assert OneLine().format(record) == "ERROR engine: a\\nERROR \\x1b[0m.wav: broken"
    try:
        raise ValueError("bad \x1b[31m name")
    except ValueError as exc:
        record.exc_info = (type(exc), exc, exc.__traceback__)
    lines = OneLine().format(record).split("\n")
    assert lines[-1] == "ValueError: bad \\x1b[31m name"
    assert lines[1] == "Traceback (most recent call last):"
