"""Requests and replies: parses and checks the messages of clients, and builds those of the server. No sockets here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from engine.audio import RATES
from engine.audio.transposition import MAX_SEMITONES
from engine.values import DIMENSION, OTHER, Embeddings, Kind, Method
from server import browsing
from server.browsing import Browsing, Looks, looks
from server.errors import RequestError, ServerError, VersionError
from server.fields import MAX_TEXT, Fields, TextFields, shown
from server.frames import Message
from server.sent import Media, sent_media

VERSION = 1
MAX_SAMPLE = 1000.0
"""Largest magnitude of a sample. It should be 1, but a recording that is too loud is still music; 1e38 overflows."""
MAX_MESSAGE = 500
"""Characters of an error's message."""
MAX_TOP = 1000
MAX_IDS = 10_000
MAX_SNIPPETS = 10_000
"""Snippets of a query that the client has embedded: more than the largest media have. All other queries wait for it."""
MAX_TRANSPOSITIONS = 8
"""Transpositions that a query may name. Each of them is embedded and searched for."""

Id = int | str
B = TypeVar("B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Snippets that the client has embedded."""

    kind: Kind
    network: str
    """SHA-256 (hex) of the weights that embedded them."""
    embeddings: Embeddings


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuery:
    """The snippets of a document of the collection."""

    document: str
    """The document's id."""
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The results that a query asks for."""

    among: Kind
    method: Method
    top: int
    path: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Asks whether the server answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Asks what the collection holds."""

    list: bool
    """Whether to list the ids of the documents."""
    after: str
    """The id after which the list starts; empty: at the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Asks for the server's counters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRequest:
    """Asks which documents match."""

    asked: Media | Embedded | StoredQuery
    wanted: Wanted
    start_s: float | None
    """Start of the part of a recording to search for."""
    end_s: float | None
    """End of the part of a recording to search for."""
    transpose: tuple[float, ...] | None = None
    """Semitones by which a recording is transposed before the search; of several, the likeliest. None: not at all, but
    a recording that is not found is tried at other pitches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRequest:
    """Asks which documents are played from when to when in a long recording, or printed where in a volume."""

    asked: Media | StoredQuery
    among: Kind
    start_s: float | None
    """Start of the part of a recording to read."""
    end_s: float | None
    """End of that part."""
    transpose: tuple[float, ...] = ()
    """Semitones by which a recording is transposed; of several, the likeliest. Empty: not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """Asks the server to add a document."""

    id: str
    title: str
    composer: str
    work: str
    media: Media
    replace: bool
    """Whether to replace another document of this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Asks for a picture of a page of a score that is sent, such as a query that a browser cannot show."""

    media: Media
    looks: Looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Asks the server to remove documents: all of them, or none if one does not exist."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """Asks the server to open the newest generation on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream:
    """Opens a stream for a recording that is sent while it is played."""

    rate: int
    """Sampling rate, Hz."""
    wanted: Wanted
    passages: bool = False
    """Whether to tell the passages of an evening in place of the matches of what was heard last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushStream:
    """Adds samples to a stream and asks which documents match so far."""

    stream: int
    samples: NDArray[np.float32]
    """(n,) mono, in -1..1."""
    answer: bool
    """False: only add the samples; do not search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStream:
    """Asks which documents match what a stream has sent so far."""

    stream: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseStream:
    """Ends a stream."""

    stream: int


Streaming = OpenStream | PushStream | GetStream | CloseStream
Body = Ping | Info | Stats | QueryRequest | SegmentRequest | Browsing | Draw | Add | Remove | Reload | Streaming


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[B]):
    """A request: the fields that all have, and the body of its operation."""

    id: Id
    op: str
    token: str
    deadline_s: float | None
    """Time allowed, from the arrival of the request."""
    body: B


def reply(id: Id | None, op: str, generation: int, result: dict[str, Any]) -> Message:
    """Builds the message that answers a request."""
    return {"v": VERSION, "id": id, "op": op, "generation": generation, "ok": result}


def error_reply(id: Id | None, generation: int, error: ServerError) -> Message:
    """Builds the message that carries an error: of a request or, without an id, of the whole connection.

    The error's message is cut to `MAX_MESSAGE` characters, whatever it quotes.
    """
    description = {"code": error.code, "message": str(error)[:MAX_MESSAGE]}
    return {"v": VERSION, "id": id, "generation": generation, "error": description}


def array(values: NDArray[Any]) -> dict[str, Any]:
    """Encodes an array for a message: raw little-endian bytes in C-order, with dtype and shape."""
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return {"dtype": values.dtype.str, "shape": list(values.shape), "data": values.tobytes()}


def request_id(message: Message) -> Id | None:
    """Returns the id of a request; None if it has none that is a number or a text of at most `MAX_TEXT` characters."""
    id = message.get("id")
    if isinstance(id, str):
        return id if len(id) <= MAX_TEXT else None
    return id if isinstance(id, int) and not isinstance(id, bool) else None


def parse(message: Message, *, form: bool = False) -> Request[Body]:
    """Parses a message into a request.

    form: whether numbers and truth values may be written as texts, as in a form or an address of HTTP.
    Raises VersionError, or RequestError, which names the field, what was expected and what was found.
    """
    fields = TextFields(message) if form else Fields(message)
    version = fields.take("v", int)
    if version != VERSION:
        raise VersionError(f"expected protocol version {VERSION}, got {version}")
    id: Any = fields.text("id") if isinstance(message.get("id"), str) else fields.take("id", (int, str))
    op = fields.choice("op", _BODIES.keys())
    deadline_s = fields.number("deadline_s", None, minimum=0.0)
    token = fields.secret("token")
    body = _BODIES[op](fields)
    fields.none_left()
    return Request(id=id, op=op, token=token, deadline_s=deadline_s, body=body)


def _query(fields: Fields) -> QueryRequest:
    """Parses the body of `query`."""
    asked: Media | Embedded | StoredQuery
    among = fields.kind("among", lambda: None)
    if fields.has("embeddings"):
        asked = _embedded(fields)
    elif fields.has("document"):
        asked = _stored(fields)
    else:
        asked = sent_media(fields, among)
    wanted = _wanted(fields, among or OTHER[asked.kind])
    start_s, end_s = _part(fields, asked)
    if wanted.path and isinstance(asked, Embedded) and asked.kind == "score":
        raise RequestError(
            "path: where the snippets of a score lie is only known if its pages are sent; got embeddings"
        )
    return QueryRequest(
        asked=asked, wanted=wanted, start_s=start_s, end_s=end_s, transpose=_transpositions(fields, asked)
    )


def _segment(fields: Fields) -> SegmentRequest:
    """Parses the body of `segment`."""
    among = fields.kind("among", lambda: None)
    asked = _stored(fields) if fields.has("document") else sent_media(fields, among)
    start_s, end_s = _part(fields, asked)
    transpose = _transpositions(fields, asked) or ()
    return SegmentRequest(
        asked=asked, among=among or OTHER[asked.kind], start_s=start_s, end_s=end_s, transpose=transpose
    )


def _stored(fields: Fields) -> StoredQuery:
    """Parses a document that is itself the query."""
    kind: Any = fields.choice("kind", get_args(Kind))
    return StoredQuery(document=fields.text("document"), kind=kind)


def _part(fields: Fields, asked: Media | Embedded | StoredQuery) -> tuple[float | None, float | None]:
    """Parses the start and the end of the part of a recording that is read, in seconds."""
    start_s, end_s = fields.number("start_s", None, minimum=0.0), fields.number("end_s", None, minimum=0.0)
    if (start_s is not None or end_s is not None) and not (isinstance(asked, Media) and asked.kind == "recording"):
        raise RequestError("start_s, end_s: only a recording that is sent as a file has parts in seconds")
    return start_s, end_s


def _transpositions(fields: Fields, asked: Media | Embedded | StoredQuery) -> tuple[float, ...] | None:
    """Parses the transpositions of a query."""
    shifts = fields.take("transpose", (list, type(None)), None)
    if shifts is None:
        return None
    if not isinstance(asked, Media) or asked.kind != "recording":
        raise RequestError("transpose: only a recording that is sent as a file is transposed")
    numbers = [shift for shift in shifts if type(shift) in (int, float) and abs(shift) <= MAX_SEMITONES]
    if not 0 < len(numbers) == len(shifts) <= MAX_TRANSPOSITIONS:
        expected = f"1 to {MAX_TRANSPOSITIONS} numbers of semitones from -{MAX_SEMITONES:g} to {MAX_SEMITONES:g}"
        raise RequestError(f"transpose: expected {expected}, got {shown(shifts)}")
    return tuple(map(float, numbers))


def _wanted(fields: Fields, among: Kind) -> Wanted:
    """Parses the fields of `query` and `stream.open` that say what to return. among: the kind of document searched."""
    method: Any = fields.choice("method", get_args(Method), "refine")
    return Wanted(
        among=among,
        method=method,
        top=fields.whole("top", 10, maximum=MAX_TOP),
        path=fields.take("path", bool, False),
    )


def _embedded(fields: Fields) -> Embedded:
    """Parses a query that the client has embedded."""
    embeddings = np.ascontiguousarray(fields.array("embeddings", ("<f4", "<f2"), 2), dtype=np.float32)
    if embeddings.shape[1] != DIMENSION or len(embeddings) == 0:
        raise RequestError(f"embeddings: expected a shape of (n, {DIMENSION}), n > 0, got {embeddings.shape}")
    if len(embeddings) > MAX_SNIPPETS:
        raise RequestError(f"embeddings: expected at most {MAX_SNIPPETS} rows, got {len(embeddings)}")
    with np.errstate(over="ignore", invalid="ignore"):  # hostile numbers are refused, and make no warning
        norms = np.linalg.norm(embeddings, axis=1)
    if not np.allclose(norms, 1, atol=1e-2):
        raise RequestError("embeddings: expected rows of length 1")
    kind: Any = fields.choice("kind", get_args(Kind))
    return Embedded(kind=kind, network=fields.text("network"), embeddings=embeddings)


def _add(fields: Fields) -> Add:
    """Parses the body of `add`."""
    media, id = sent_media(fields), fields.text("document")
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


def _draw(fields: Fields) -> Draw:
    """Parses the body of `draw`."""
    media = sent_media(fields)
    if media.kind != "score":
        raise RequestError("media: expected the pages of a score, got a recording")
    return Draw(media=media, looks=looks(fields))


def _remove(fields: Fields) -> Remove:
    """Parses the body of `remove`."""
    ids = fields.take("documents", list)
    if not 0 < len(ids) <= MAX_IDS or not all(isinstance(id, str) and len(id) <= MAX_TEXT for id in ids):
        raise RequestError(f"documents: expected 1 to {MAX_IDS} ids, each a text, got {shown(ids)}")
    return Remove(ids=tuple(dict.fromkeys(ids)))


def _push(fields: Fields) -> PushStream:
    """Parses the body of `stream.push`."""
    stream = fields.take("stream", int)
    samples = fields.array("samples", ("<f4", "<i2"), 1)
    scaled = samples / np.float32(32768) if samples.dtype == np.int16 else samples
    if not (np.abs(scaled) <= MAX_SAMPLE).all():
        raise RequestError(f"samples: expected numbers in -1..1, or at least not beyond {MAX_SAMPLE:g}")
    return PushStream(
        stream=stream, samples=scaled.astype(np.float32, copy=False), answer=fields.take("answer", bool, True)
    )


_BODIES: dict[str, Callable[[Fields], Body]] = {
    "ping": lambda fields: Ping(),
    "info": lambda fields: Info(list=fields.take("list", bool, False), after=fields.text("after", "")),
    "stats": lambda fields: Stats(),
    "query": _query,
    "segment": _segment,
    **browsing.BODIES,
    "draw": _draw,
    "add": _add,
    "remove": _remove,
    "reload": lambda fields: Reload(),
    "stream.open": lambda fields: OpenStream(
        rate=fields.whole("rate", maximum=RATES[-1]),
        wanted=_wanted(fields, fields.kind("among", lambda: OTHER["recording"])),
        passages=fields.take("passages", bool, False),
    ),
    "stream.push": _push,
    "stream.get": lambda fields: GetStream(stream=fields.take("stream", int)),
    "stream.close": lambda fields: CloseStream(stream=fields.take("stream", int)),
}
