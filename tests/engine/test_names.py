import logging
import unicodedata

import pytest

from engine.names import OneLine, columns, encodable, normal, padded, printable, shown_as


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


def test_a_name_is_known_by_what_a_terminal_shows_of_it() -> None:
    names = ["a\nb", "c\td", "c\\td", "plain"]
    assert shown_as("a\\nb", names) == "a\nb"
    assert shown_as("c\\td", names) is None  # two are shown so
    assert shown_as("a\\rb", names) is None


@pytest.mark.parametrize(("text", "width"), [("Étude", 5), ("E\u0301tude", 5), ("夜曲", 4), ("ブルク 譜", 9), ("", 0)])
def test_a_cell_is_as_wide_as_a_terminal_shows_it(text: str, width: int) -> None:
    assert columns(text) == width
    assert padded(text, 10) == text + " " * (10 - width)
    assert padded(text, 10, right=True) == " " * (10 - width) + text


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
