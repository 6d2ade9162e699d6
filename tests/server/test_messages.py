"""Requests are taken as the protocol says, and refused by naming the field."""

from typing import Any

import numpy as np
import pytest

from server import messages
from server.errors import BY_CODE, Overloaded, RequestError, VersionError, from_code
from server.frames import Decoder, encode
from server.messages import (
    Add,
    CloseStream,
    Embedded,
    GetStream,
    Info,
    OpenStream,
    Ping,
    PushStream,
    QueryRequest,
    Reload,
    Remove,
    Stats,
    Wanted,
)
from server.sent import File, Media

HEAD = {"v": 1, "id": 5}
AUDIO = [{"name": "Take 1.FLAC", "data": b"abc"}]
PAGES = [{"name": "p1.png", "data": b"1"}, {"name": "p2.PNG", "data": b"2"}]
ROWS = np.eye(3, 32, dtype=np.float32)
GOLDEN_QUERY = bytes.fromhex(
    "86 a176 01 a26964 05 a26f70 a57175657279"
    "a56d65646961 91 82 a46e616d65 a6 612e666c6163 a464617461 c403 616263"
    "a3746f70 03 aa646561646c696e655f73 cb4000000000000000"
)


def body(op: str, **fields: Any) -> messages.Body:
    return messages.parse(HEAD | {"op": op} | fields).body


def test_a_request_is_read_from_these_very_bytes() -> None:
    (message,) = Decoder(1000).feed(len(GOLDEN_QUERY).to_bytes(4, "big") + GOLDEN_QUERY)
    request = messages.parse(message)
    assert (request.id, request.op, request.token, request.deadline_s) == (5, "query", "", 2.0)
    media = Media(kind="recording", files=(File(name="a.flac", data=b"abc"),))
    wanted = Wanted(among="score", method="refine", top=3, path=False)
    assert request.body == QueryRequest(asked=media, wanted=wanted, start_s=None, end_s=None)


def test_replies_are_these_very_bytes() -> None:
    ok = messages.reply(5, "ping", 7, {})
    golden = "85 a176 01 a26964 05 a26f70 a470696e67 aa67656e65726174696f6e 07 a26f6b 80"
    assert encode(ok)[4:] == bytes.fromhex(golden)
    error = messages.error_reply(None, 7, Overloaded("busy"))
    assert error == {"v": 1, "id": None, "generation": 7, "error": {"code": "overloaded", "message": "busy"}}


def test_every_op_has_its_request() -> None:
    samples = messages.array(np.array([16384, -32768], np.int16))
    assert body("ping") == Ping()
    assert body("stats") == Stats()
    assert body("info", list=True, after="s1") == Info(list=True, after="s1")
    assert body("reload") == Reload()
    assert body("remove", documents=["a", "b", "a"]) == Remove(ids=("a", "b"))
    add = body("add", document="x", media=PAGES, title="T", replace=True)
    assert isinstance(add, Add)
    assert (add.id, add.title, add.composer, add.replace, add.media.kind) == ("x", "T", "", True, "score")
    assert body("stream.open", rate=44100, top=2) == OpenStream(
        rate=44100, wanted=Wanted(among="score", method="refine", top=2, path=False)
    )
    push = body("stream.push", stream=1, samples=samples)
    assert isinstance(push, PushStream)
    assert (push.stream, push.samples.tolist(), push.answer) == (1, [0.5, -1.0], True)
    assert body("stream.get", stream=1) == GetStream(stream=1)
    assert body("stream.close", stream=1) == CloseStream(stream=1)


def test_a_query_may_be_pages_or_embeddings() -> None:
    pages = body("query", media=PAGES, path=True, among="score", method="dtw")
    assert isinstance(pages, QueryRequest)
    assert pages.wanted == Wanted(among="score", method="dtw", top=10, path=True)
    embedded = body("query", embeddings=messages.array(ROWS.astype(np.float16)), kind="score", network="ab")
    assert isinstance(embedded, QueryRequest)
    assert isinstance(embedded.asked, Embedded)
    assert embedded.wanted.among == "recording"
    np.testing.assert_array_equal(embedded.asked.embeddings, ROWS)


def test_a_query_may_say_by_what_to_transpose() -> None:
    asked = body("query", media=AUDIO, transpose=[0, -1.5])
    assert isinstance(asked, QueryRequest)
    assert asked.transpose == (0.0, -1.5)
    left_open = body("query", media=AUDIO, transpose=None)
    assert isinstance(left_open, QueryRequest)
    assert left_open.transpose is None


def test_arrays_are_sent_as_little_endian_bytes() -> None:
    assert messages.array(np.array([[1, 2]], ">u2")) == {"dtype": "<u2", "shape": [1, 2], "data": b"\1\0\2\0"}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"v": 2, "id": 1, "op": "ping"}, "expected protocol version 1, got 2"),
        ({"id": 1, "op": "ping"}, "v: expected a number, got nothing"),
        ({"v": True, "id": 1, "op": "ping"}, "v: expected a number, got True"),
        ({"v": 1, "op": "ping"}, "id: expected a number or a text, got nothing"),
        ({"v": 1, "id": [1], "op": "ping"}, r"id: expected a number or a text, got a list of 1"),
        (HEAD | {"op": "dance"}, "op: expected one of ping, info, .*, got 'dance'"),
        (HEAD | {"op": "ping", "top": 3}, "top: no such field here"),
        (HEAD | {"op": "ping", "deadline_s": -1}, "deadline_s: expected a finite number of at least 0, got -1"),
        (HEAD | {"op": "ping", "deadline_s": float("nan")}, "deadline_s: expected a finite number"),
        (HEAD | {"op": "query"}, "media: expected a list, got nothing"),
        (HEAD | {"op": "query", "media": []}, "media: expected at least one file, got none"),
        (HEAD | {"op": "query", "media": [3]}, "media.0.name: expected a text, got nothing"),
        (
            HEAD | {"op": "query", "media": [{"name": "a.wav", "data": "text"}]},
            "media.0.data: expected bytes, got 'text'",
        ),
        (
            HEAD | {"op": "query", "media": [{"name": "a.doc", "data": b""}]},
            "kind: expected score or recording, because the name 'a.doc' does not",
        ),
        (HEAD | {"op": "query", "media": AUDIO * 2}, "media: expected one file, or several images"),
        (HEAD | {"op": "query", "media": AUDIO, "kind": "song"}, "kind: expected score or recording, got 'song'"),
        (HEAD | {"op": "query", "media": AUDIO, "top": 0}, "top: expected a number from 1 to 1000, got 0"),
        (HEAD | {"op": "query", "media": AUDIO, "top": 2.5}, "top: expected a number, got 2.5"),
        (HEAD | {"op": "query", "media": AUDIO, "method": "guess"}, "method: expected one of refine"),
        (HEAD | {"op": "query", "media": PAGES, "start_s": 1.0}, "start_s, end_s: only a recording"),
        (HEAD | {"op": "query", "media": PAGES, "transpose": [1]}, "transpose: only a recording"),
        (HEAD | {"op": "query", "media": AUDIO, "transpose": 1}, "transpose: expected a list or nil, got 1"),
        (HEAD | {"op": "query", "media": AUDIO, "transpose": []}, "transpose: expected 1 to 8 numbers"),
        (HEAD | {"op": "query", "media": AUDIO, "transpose": [1] * 9}, "transpose: expected 1 to 8 numbers"),
        (HEAD | {"op": "query", "media": AUDIO, "transpose": [0, 12.5]}, "numbers of semitones from -12 to 12"),
        (HEAD | {"op": "query", "media": AUDIO, "transpose": [float("nan")]}, "transpose: expected 1 to 8 numbers"),
        (HEAD | {"op": "query", "media": AUDIO, "transpose": ["1"]}, "transpose: expected 1 to 8 numbers"),
        (HEAD | {"op": "query", "media": AUDIO, "transpose": [True]}, "transpose: expected 1 to 8 numbers"),
        (HEAD | {"op": "add", "media": AUDIO}, "document: expected a text, got nothing"),
        (HEAD | {"op": "add", "media": AUDIO, "document": "x" * 2000}, "document: expected a text of at most 1000"),
        (HEAD | {"op": "remove", "documents": []}, "documents: expected 1 to 10000 ids"),
        (HEAD | {"op": "draw", "media": AUDIO, "page": 1}, "media: expected the pages of a score"),
        (HEAD | {"op": "draw", "media": PAGES}, "page: expected a number, got nothing"),
        (HEAD | {"op": "draw", "media": PAGES, "page": 1, "turn": 45}, "turn: expected 0, 90, 180 or 270, got 45"),
        (
            HEAD | {"op": "export", "document": "a", "base": "https://a", "format": "midi"},
            "format: expected one of iiif",
        ),
        (HEAD | {"op": "export", "document": "a", "format": "mei", "base": "a.example"}, "base: expected the URL"),
        (HEAD | {"op": "stream.open", "rate": 0}, "rate: expected a number from 1 to 768000, got 0"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(message: dict[str, Any], told: str) -> None:
    with pytest.raises((RequestError, VersionError), match=told):
        messages.parse(message)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dtype": "<f8"}, "embeddings.dtype: expected one of <f4, <f2, got '<f8'"),
        ({"shape": [3]}, r"embeddings.shape: expected 2 sizes, got a list of 1"),
        ({"shape": [3, -32]}, "embeddings.shape: expected 2 sizes"),
        ({"shape": [1 << 40, 1 << 40]}, "embeddings.data: expected 1208925819614629174706176 x 4 bytes, got 384 bytes"),
        ({"shape": [6, 16]}, r"embeddings: expected a shape of \(n, 32\), n > 0, got \(6, 16\)"),
        ({"data": (2 * ROWS).tobytes()}, "embeddings: expected rows of length 1"),
        ({"data": np.full((3, 32), 1e38, np.float32).tobytes()}, "embeddings: expected rows of length 1"),
        ({"data": np.full((3, 32), np.nan, np.float32).tobytes()}, "embeddings: expected rows of length 1"),
        ({"more": 1}, "embeddings.more: no such field"),
    ],
)
def test_what_is_wrong_with_embeddings_is_told(change: dict[str, Any], told: str) -> None:
    array = messages.array(ROWS) | change
    with pytest.raises(RequestError, match=told):
        body("query", embeddings=array, kind="recording", network="ab")


def test_samples_that_are_no_numbers_are_refused() -> None:
    for value in (np.inf, np.nan, 1e38, -1e38):
        with pytest.raises(RequestError, match=r"samples: expected numbers in -1\.\.1"):
            body("stream.push", stream=1, samples=messages.array(np.array([value], np.float32)))


def test_a_path_of_score_embeddings_is_refused_for_their_places_are_unknown() -> None:
    with pytest.raises(RequestError, match="path: where the snippets of a score lie"):
        body("query", embeddings=messages.array(ROWS), kind="score", network="ab", path=True)


@pytest.mark.parametrize(
    ("name", "suffix"), [("a.FLAC", ".flac"), ("a", ""), ("../../x.p/ng", ""), ("a.p\nng", ""), ("a.tar.gz", ".gz")]
)
def test_only_a_plain_suffix_is_taken_from_a_name(name: str, suffix: str) -> None:
    assert File(name=name, data=b"").suffix == suffix


def test_errors_are_told_apart_by_their_codes() -> None:
    for code, error in BY_CODE.items():
        assert type(from_code(code, "why")) is error
    assert str(from_code("new_one", "why")) == "new_one: why"
