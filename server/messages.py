"""Requests as they come out of a frame, checked, and replies as they go into one. Knows no sockets."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Generic, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from engine import documents
from engine.audio import RATES
from engine.score import pages
from engine.search import Method
from engine.values import DIMENSION, OTHER, Embeddings, Kind
from server.errors import RequestError, ServerError, VersionError
from server.frames import Message

VERSION = 1
MOST_TOP = 1000
MOST_IDS = 10_000
MOST_SNIPPETS = 10_000
"""Of a query that is embedded already: more than the media that are taken have. All others wait while it is aligned."""
MOST_TEXT = 1000
"""Characters of an id or a title."""

Id = int | str
T = TypeVar("T")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A recording, a PDF, or an image of pages."""

    name: str
    """What its owner calls it; says what kind it is, and is told in errors."""
    data: bytes

    @property
    def suffix(self) -> str:
        """Of the name, if that is a plain one."""
        suffix = PurePath(self.name).suffix.lower()
        return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A recording in one file, or a score in one or, if they are images, in several."""

    kind: Kind
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Snippets that the client has embedded itself."""

    kind: Kind
    network: str
    """SHA-256 (hex) of the weights they were embedded with."""
    embeddings: Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be told of a query."""

    among: Kind
    method: Method
    top: int
    path: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Is anybody there?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What does the collection hold?"""

    list: bool
    """The documents too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How does the server do?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which documents go with this?"""

    asked: Media | Embedded
    wanted: Wanted
    start_s: float | None
    """Of a recording only what lies from here on counts ..."""
    end_s: float | None
    """... up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """Take this in."""

    id: str
    title: str
    composer: str
    work: str
    media: Media
    replace: bool
    """Even if another document has this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Take these out: all, or none if one is not there."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """Open the generation that is in force on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream:
    """A recording that is going on is about to be sent."""

    rate: int
    """Hz."""
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class PushStream:
    """What was heard since; what is it, as far as one can tell?"""

    stream: int
    samples: NDArray[np.float32]
    """(n,) mono, in -1..1."""
    answer: bool
    """False: only listen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseStream:
    """It is over."""

    stream: int


Body = Ping | Info | Stats | Query | Add | Remove | Reload | OpenStream | PushStream | CloseStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[B]):
    """One request."""

    id: Id
    op: str
    token: str
    deadline_s: float | None
    """From its arrival on."""
    body: B


def reply(id: Id | None, op: str, generation: int, result: dict[str, Any]) -> Message:
    """The message that answers a request."""
    return {"v": VERSION, "id": id, "op": op, "generation": generation, "ok": result}


def error_reply(id: Id | None, generation: int, error: ServerError) -> Message:
    """The message that says why there is no answer; without an id it is of the connection as a whole."""
    told = {"code": error.code, "message": str(error)}
    return {"v": VERSION, "id": id, "generation": generation, "error": told}


def array(values: NDArray[Any]) -> dict[str, Any]:
    """An array as it is sent: raw little-endian bytes in C-order, with dtype and shape."""
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return {"dtype": values.dtype.str, "shape": list(values.shape), "data": values.tobytes()}


def request_id(message: Message) -> Id | None:
    """The id of a request, if it has a proper one."""
    id = message.get("id")
    return id if isinstance(id, int | str) and not isinstance(id, bool) else None


def parse(message: Message) -> Request[Body]:
    """The request in a message. Raises VersionError or RequestError, which names the field and what was expected."""
    fields = _Fields(message)
    version = fields.take("v", int)
    if version != VERSION:
        raise VersionError(f"expected protocol version {VERSION}, got {version}")
    id: Any = fields.take("id", (int, str))
    op = fields.choice("op", _BODIES.keys())
    deadline_s = fields.number("deadline_s", None, least=0.0)
    token = fields.text("token", "")
    body = _BODIES[op](fields)
    fields.none_left()
    return Request(id=id, op=op, token=token, deadline_s=deadline_s, body=body)


class _Fields:
    """The fields of a message, taken one by one; what nobody takes is an error."""

    def __init__(self, message: Message, where: str = "") -> None:
        self._left = dict(message)
        self._where = where

    def take(self, name: str, types: type[T] | tuple[type[T], ...], *default: T) -> T:
        """The field, of one of these types; `default` if it is missing or nil, where one is given."""
        value = self._left.pop(name, None)
        if value is None and default:
            return default[0]
        kinds = types if isinstance(types, tuple) else (types,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(_NAMES[kind] for kind in kinds)
            raise self._error(name, names, value)
        return value

    def text(self, name: str, *default: str) -> str:
        text = self.take(name, str, *default)
        if len(text) > MOST_TEXT or "\0" in text:
            raise self._error(name, f"a text of at most {MOST_TEXT} characters", text)
        return text

    def number(self, name: str, *default: float | None, least: float) -> float | None:
        value = self.take(name, (int, float, type(None)), *default)
        if value is not None and not least <= value < np.inf:
            raise self._error(name, f"a finite number of at least {least:g}", value)
        return value

    def whole(self, name: str, *default: int, most: int) -> int:
        value = self.take(name, int, *default)
        if not 0 < value <= most:
            raise self._error(name, f"a number from 1 to {most}", value)
        return value

    def choice(self, name: str, choices: Collection[str], *default: str) -> str:
        value = self.take(name, str, *default)
        if value not in choices:
            raise self._error(name, f"one of {', '.join(choices)}", value)
        return value

    def kind(self, name: str, fallback: Callable[[], Kind]) -> Kind:
        """Score or recording; what `fallback` tells if the field is missing or nil."""
        value = self.take(name, (str, type(None)), None)
        if value is not None and value not in get_args(Kind):
            raise self._error(name, "score or recording", value)
        return value or fallback()  # type: ignore[return-value]

    def has(self, name: str) -> bool:
        return self._left.get(name) is not None

    def array(self, name: str, dtypes: Collection[str], dimensions: int) -> NDArray[Any]:
        """An array as `array` sends it."""
        inner = _Fields(self.take(name, dict), f"{self._where}{name}.")
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
        except ValueError as exc:  # of no numbers, but too many times
            raise inner._error("shape", f"{dimensions} sizes", shape) from exc

    def none_left(self) -> None:
        if self._left:
            raise RequestError(f"{self._where}{next(iter(self._left))}: no such field here")

    def _error(self, name: str, expected: str, got: Any) -> RequestError:
        return RequestError(f"{self._where}{name}: expected {expected}, got {_shown(got)}")


_NAMES = {
    int: "a number",
    float: "a number",
    str: "a text",
    bytes: "bytes",
    list: "a list",
    dict: "a map",
    bool: "true or false",
    type(None): "nil",
}


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    shown = repr(value)
    return "nothing" if value is None else shown if len(shown) <= 60 else f"{shown[:60]}..."


def _query(fields: _Fields) -> Query:
    asked: Media | Embedded
    if fields.has("embeddings"):
        asked = _embedded(fields)
    else:
        asked = _media(fields)
    wanted = _wanted(fields, asked.kind)
    start_s, end_s = fields.number("start_s", None, least=0.0), fields.number("end_s", None, least=0.0)
    if (start_s is not None or end_s is not None) and not (isinstance(asked, Media) and asked.kind == "recording"):
        raise RequestError("start_s, end_s: only a recording that is sent as a file has parts in seconds")
    if wanted.path and isinstance(asked, Embedded) and asked.kind == "score":
        raise RequestError(
            "path: where the snippets of a score lie is known if its pages are sent, not from embeddings"
        )
    return Query(asked=asked, wanted=wanted, start_s=start_s, end_s=end_s)


def _wanted(fields: _Fields, kind: Kind) -> Wanted:
    method: Any = fields.choice("method", get_args(Method), "refine")
    return Wanted(
        among=fields.kind("among", lambda: OTHER[kind]),
        method=method,
        top=fields.whole("top", 10, most=MOST_TOP),
        path=fields.take("path", bool, False),
    )


def _embedded(fields: _Fields) -> Embedded:
    embeddings = np.ascontiguousarray(fields.array("embeddings", ("<f4", "<f2"), 2), dtype=np.float32)
    if embeddings.shape[1] != DIMENSION or len(embeddings) == 0:
        raise RequestError(f"embeddings: expected a shape of (n, {DIMENSION}), n > 0, got {embeddings.shape}")
    if len(embeddings) > MOST_SNIPPETS:
        raise RequestError(f"embeddings: expected at most {MOST_SNIPPETS} rows, got {len(embeddings)}")
    norms = np.linalg.norm(embeddings, axis=1)
    if not np.allclose(norms, 1, atol=1e-2):
        raise RequestError("embeddings: expected rows of length 1")
    kind: Any = fields.choice("kind", get_args(Kind))
    return Embedded(kind=kind, network=fields.text("network"), embeddings=embeddings)


def _media(fields: _Fields) -> Media:
    given = fields.take("media", list)
    files = tuple(_file(_Fields(part if isinstance(part, dict) else {}, f"media.{i}.")) for i, part in enumerate(given))
    if not files:
        raise RequestError("media: expected at least one file, got none")
    kind = fields.kind("kind", lambda: _kind_of(files[0]))
    if len(files) > 1 and (kind == "recording" or any(file.suffix not in pages.IMAGE_SUFFIXES for file in files)):
        raise RequestError("media: expected one file, or several images of pages by their names")
    return Media(kind=kind, files=files)


def _file(fields: _Fields) -> File:
    file = File(name=fields.text("name"), data=fields.take("data", bytes))
    fields.none_left()
    return file


def _kind_of(file: File) -> Kind:
    kind = documents.kind_by_suffix(file.suffix)
    if kind is None:
        raise RequestError(f"kind: needed, for {file.name!r} is neither a score nor a recording by its name")
    return kind


def _add(fields: _Fields) -> Add:
    media, id = _media(fields), fields.text("document")
    if not id:
        raise RequestError("document: expected an id, got an empty text")
    return Add(
        id=id,
        title=fields.text("title", ""),
        composer=fields.text("composer", ""),
        work=fields.text("work", ""),
        media=media,
        replace=fields.take("replace", bool, False),
    )


def _remove(fields: _Fields) -> Remove:
    ids = fields.take("documents", list)
    if not 0 < len(ids) <= MOST_IDS or not all(isinstance(id, str) for id in ids):
        raise RequestError(f"documents: expected 1 to {MOST_IDS} ids, each a text, got {_shown(ids)}")
    return Remove(ids=tuple(dict.fromkeys(ids)))


def _push(fields: _Fields) -> PushStream:
    stream = fields.take("stream", int)
    samples = fields.array("samples", ("<f4", "<i2"), 1)
    scaled = samples / np.float32(32768) if samples.dtype == np.int16 else samples
    if not np.isfinite(scaled).all():
        raise RequestError("samples: expected finite numbers")
    return PushStream(
        stream=stream, samples=scaled.astype(np.float32, copy=False), answer=fields.take("answer", bool, True)
    )


_BODIES: dict[str, Callable[[_Fields], Body]] = {
    "ping": lambda fields: Ping(),
    "info": lambda fields: Info(list=fields.take("list", bool, False)),
    "stats": lambda fields: Stats(),
    "query": _query,
    "add": _add,
    "remove": _remove,
    "reload": lambda fields: Reload(),
    "stream.open": lambda fields: OpenStream(
        rate=fields.whole("rate", most=RATES[-1]), wanted=_wanted(fields, "recording")
    ),
    "stream.push": _push,
    "stream.close": lambda fields: CloseStream(stream=fields.take("stream", int)),
}
