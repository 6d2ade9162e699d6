"""Frames, byte by byte."""

import random

import msgpack
import numpy as np
import pytest

from server.config import Limits
from server.errors import FrameError, FrameTooLarge
from server.frames import HEADER, MAX_VALUES, Decoder, Message, encode

LIMIT = 1 << 20
PING = {"v": 1, "id": 7, "op": "ping"}
GOLDEN = bytes.fromhex("00000010 83 a176 01 a26964 07 a26f70 a470696e67".replace(" ", ""))


def fed(data: bytes, size: int = LIMIT, limit: int = LIMIT) -> list[Message]:
    decoder = Decoder(limit)
    return [message for start in range(0, len(data), size) for message in decoder.feed(data[start : start + size])]


def test_a_frame_is_its_length_and_a_msgpack_map() -> None:
    assert encode(PING) == GOLDEN
    assert fed(GOLDEN) == [PING]


def test_messages_come_out_whatever_the_pieces() -> None:
    messages: list[Message] = [PING, {"data": bytes(range(256)) * 3, "list": [1, -2, 2.5, None, True, "é"]}, {}, PING]
    stream = b"".join(map(encode, messages))
    for size in (1, 2, 3, 5, 7, 100, len(stream)):
        assert fed(stream, size) == messages


def test_every_split_in_two_gives_the_same_messages() -> None:
    stream = GOLDEN + encode({"id": "x"})
    for cut in range(len(stream) + 1):
        decoder = Decoder(LIMIT)
        assert [*decoder.feed(stream[:cut]), *decoder.feed(stream[cut:])] == [PING, {"id": "x"}]


def test_it_tells_how_much_it_holds() -> None:
    decoder = Decoder(LIMIT)
    held = []
    for i in range(len(GOLDEN)):
        list(decoder.feed(GOLDEN[i : i + 1]))
        held.append(decoder.buffered)
    assert held == [*range(1, len(GOLDEN)), 0]


def test_numpy_scalars_become_plain_numbers() -> None:
    assert fed(encode({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)})) == [{"a": 0.5, "b": 3, "c": True}]


def test_a_frame_too_large_is_refused_by_its_header() -> None:
    with pytest.raises(FrameTooLarge, match="expected a frame of at most 10 bytes, got one of 4294967295"):
        fed(b"\xff\xff\xff\xff", limit=10)
    assert fed(encode({"k": "x"}), limit=5) == [{"k": "x"}]


def test_an_answer_in_http_is_told() -> None:
    with pytest.raises(FrameError, match="the other side speaks HTTP: expected the port of --port, not that of"):
        fed(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_frame_may_have_64_mebibytes_by_default_and_no_byte_more() -> None:
    most = 64 << 20
    assert list(Decoder(Limits().frame_bytes).feed(HEADER.pack(most))) == []
    with pytest.raises(FrameTooLarge, match=f"expected a frame of at most {most} bytes, got one of {most + 1}"):
        list(Decoder(Limits().frame_bytes).feed(HEADER.pack(most + 1)))


@pytest.mark.parametrize("size", [10, MAX_VALUES - 100, MAX_VALUES + 100, 10 * MAX_VALUES])
@pytest.mark.parametrize("rest", [b"\x00", b"\x80", encode({"a": 1})])
def test_bytes_that_follow_the_map_of_a_frame_are_refused(size: int, rest: bytes) -> None:
    """Payloads of more bytes than values are allowed are decoded value by value."""
    payload = encode({"data": bytes(size)})[HEADER.size :]
    assert fed(HEADER.pack(len(payload)) + payload) == [{"data": bytes(size)}]
    with pytest.raises(FrameError, match="expected a msgpack map"):
        fed(HEADER.pack(len(payload + rest)) + payload + rest)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",  # never used in msgpack
        b"\x93\x01\x02",  # a list that breaks off
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({"a": 1}) + b"\x00",
        b"\x81\x90\x01",  # a list for a key
        b"\x81\x81\x01\x01\x01",  # a map for a key
        b"\x81\xa1\xff\x01",  # text that is no UTF-8
        b"\xdf\xff\xff\xff\xff",  # a map of 4 thousand million
        b"\x81\xa1a" + b"\x91" * 100_000,
        b"\x81\xa1a\xdd" + (1 << 20).to_bytes(4, "big") + b"\x90" * (1 << 20),
    ],
    ids=range(12),
)
def test_what_is_no_map_of_reasonable_size_is_refused(payload: bytes) -> None:
    with pytest.raises(FrameError, match="expected a msgpack map"):
        fed(len(payload).to_bytes(4, "big") + payload, limit=1 << 22)


def test_as_many_values_as_allowed_come_through() -> None:
    message = {"list": list(range(MAX_VALUES - 3))}
    assert fed(encode(message)) == [message]


def test_mutated_frames_are_read_or_refused() -> None:
    """100,000 of them; whatever else came up would fail the test."""
    rng = random.Random(0)
    query = {"v": 1, "id": 1, "op": "query", "media": [{"name": "a.flac", "data": b"fLaC" * 8}], "top": 3, "x": 1.5}
    frames = [encode(query), encode(PING), encode({"a": {"b": [None, True, -5, 2**40, "text"]}})]
    refused = 0
    for _ in range(100_000):
        data = bytearray(rng.choice(frames))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[place] = rng.randrange(256)
                case 1:
                    data[place:] = bytes(1 + rng.randrange(3))
                case 2:
                    data[place:place] = rng.randbytes(2)
        try:
            fed(bytes(data), limit=1 << 16)
        except FrameError:
            refused += 1
    assert 20_000 < refused < 100_000
