"""The fields of a message, checked one by one. This module knows no operation."""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from engine.values import Kind
from server.errors import RequestError
from server.frames import Message

MAX_TEXT = 1000
"""Characters of an id or a title."""
MAX_QUOTED = 40
"""Characters of a client's text that an error message quotes."""
TYPE_NAMES = {
    int: "a number",
    float: "a number",
    str: "a text",
    bytes: "bytes",
    list: "a list",
    dict: "a map",
    bool: "true or false",
    type(None): "nil",
}

T = TypeVar("T")


class Fields:
    """The fields of a message. Each is taken once; `none_left` refuses those that were not taken."""

    def __init__(self, message: Message, where: str = "") -> None:
        self._left = dict(message)
        self._where = where

    def take(self, name: str, types: type[T] | tuple[type[T], ...], *default: T) -> T:
        """Takes a field of one of these types. If it is missing or nil, returns `default`, where one is given."""
        value = self._left.pop(name, None)
        if value is None and default:
            return default[0]
        kinds = types if isinstance(types, tuple) else (types,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(TYPE_NAMES[kind] for kind in kinds)
            raise self._error(name, names, value)
        return value

    def text(self, name: str, *default: str) -> str:
        """Takes a text of at most `MAX_TEXT` characters."""
        text = self.take(name, str, *default)
        if len(text) > MAX_TEXT or "\0" in text:
            raise self._error(name, f"a text of at most {MAX_TEXT} characters", text)
        return text

    def secret(self, name: str) -> str:
        """Takes a text that no error message may quote; empty if it is missing or nil."""
        value = self._left.pop(name, None)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
            raise RequestError(f"{self._where}{name}: expected a text of at most {MAX_TEXT} characters")
        return value

    def number(self, name: str, *default: float | None, minimum: float) -> float | None:
        """Takes a finite number that is not below the minimum."""
        value = self.take(name, (int, float, type(None)), *default)
        if value is not None and not minimum <= value < np.inf:
            raise self._error(name, f"a finite number of at least {minimum:g}", value)
        return value

    def whole(self, name: str, *default: int, minimum: int = 1, maximum: int) -> int:
        """Takes an integer from the minimum to the maximum."""
        value = self.take(name, int, *default)
        if not minimum <= value <= maximum:
            raise self._error(name, f"a number from {minimum} to {maximum}", value)
        return value

    def choice(self, name: str, choices: Collection[str], *default: str) -> str:
        """Takes one of several texts."""
        value = self.take(name, str, *default)
        if value not in choices:
            raise self._error(name, f"one of {', '.join(choices)}", value)
        return value

    def kind(self, name: str, fallback: Callable[[], T]) -> Kind | T:
        """Takes `score` or `recording`. If the field is missing or nil, returns what `fallback` returns."""
        value = self.take(name, (str, type(None)), None)
        if value is not None and value not in get_args(Kind):
            raise self._error(name, "score or recording", value)
        return value or fallback()  # type: ignore[return-value]

    def has(self, name: str) -> bool:
        """Whether the field is there, is not nil, and has not been taken."""
        return self._left.get(name) is not None

    def array(self, name: str, dtypes: Collection[str], dimensions: int) -> NDArray[Any]:
        """Takes an array as `messages.array` encodes it."""
        inner = Fields(self.take(name, dict), f"{self._where}{name}.")
        dtype = np.dtype(inner.choice("dtype", dtypes))
        shape, data = inner.take("shape", list), inner.take("data", bytes)
        inner.none_left()
        sizes = [size for size in shape if isinstance(size, int) and not isinstance(size, bool) and size >= 0]
        if len(sizes) != dimensions or len(shape) != dimensions:
            raise inner._error("shape", f"{dimensions} sizes", shape)
        count = int(np.prod(sizes, dtype=object))
        if len(data) != count * dtype.itemsize:
            raise inner._error("data", f"{count} x {dtype.itemsize} bytes", data)
        try:
            return np.frombuffer(data, dtype).reshape(sizes)
        except ValueError as exc:  # one size is 0 and another is too large for NumPy
            raise inner._error("shape", f"{dimensions} sizes", shape) from exc

    def none_left(self) -> None:
        """Raises RequestError if a field has not been taken."""
        if self._left:
            raise RequestError(f"{self._where}{next(iter(self._left))[:MAX_QUOTED]}: no such field here")

    def _error(self, name: str, expected: str, got: Any) -> RequestError:
        """Makes the error that names the field, what was expected and what was found."""
        return RequestError(f"{self._where}{name}: expected {expected}, got {shown(got)}")


class TextFields(Fields):
    """The fields of a form, in which numbers and truth values are written as texts."""

    def take(self, name: str, types: type[T] | tuple[type[T], ...], *default: T) -> T:
        """Takes a field of one of these types, as `Fields.take`; reads a text as the type that is wanted."""
        text = self._left.get(name)
        if isinstance(text, str):
            self._left[name] = _read(text, types if isinstance(types, tuple) else (types,))
        return super().take(name, types, *default)


def _read(text: str, kinds: tuple[type, ...]) -> Any:
    """Returns what a text says, as the first of these types that it can be; the text itself if it can be none."""
    if str in kinds:
        return text
    if bool in kinds and text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        if kind in kinds:
            with suppress(ValueError):
                return kind(text)
    if list in kinds:
        with suppress(ValueError):
            return [float(part) for part in text.split(",")]
    return text


def shown(value: Any) -> str:
    """Describes a value for an error message. Only numbers and the beginning of a short text are quoted.

    The message may be logged, so it never holds what lies in bytes, lists and maps: media and other content.
    """
    if value is None:
        return "nothing"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, list | dict):
        return f"{TYPE_NAMES[type(value)]} of {len(value)}"
    if isinstance(value, str):
        return quoted(value)
    return repr(value) if isinstance(value, bool | int | float) else type(value).__name__


def quoted(text: str) -> str:
    """Quotes at most `MAX_QUOTED` characters of a client's text."""
    return repr(text) if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]!r}..."
