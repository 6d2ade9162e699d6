"""Frames: 4 bytes of length, big-endian, then that many bytes of a msgpack map. Knows no sockets."""

import struct
from collections.abc import Iterator
from typing import Any

import msgpack

from server.errors import FrameError, FrameTooLarge

HEADER = struct.Struct(">I")
MAX_VALUES = 1 << 16
MAX_DEPTH = 16

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """The frame of a message, whose values are those of msgpack or NumPy scalars.

    Raises FrameTooLarge if its length cannot be written in four bytes.
    """
    payload: bytes = msgpack.packb(message, default=_plain)
    if len(payload) >> 32:
        raise FrameTooLarge(f"a message of {len(payload)} bytes does not fit into a frame")
    return HEADER.pack(len(payload)) + payload


class Decoder:
    """Takes the bytes of a connection, in pieces of any size, and gives its messages."""

    def __init__(self, limit: int, *, max_values: int = MAX_VALUES) -> None:
        """limit: bytes that a message may have. max_values: numbers, texts, lists and so on that it may be made of.

        What a message carries in bulk is in strings of bytes. One of nothing but empty lists would otherwise take
        sixty times its size in memory.
        """
        self._limit = limit
        self._max_values = max_values
        self._buffer = bytearray()
        self._length: int | None = None

    @property
    def buffered(self) -> int:
        """Bytes held of the frame which has begun, header included; 0 between frames."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with these bytes. Iterate it to its end before feeding more.

        Raises FrameTooLarge as soon as a header tells so, FrameError for bytes that are no map; nothing can be fed
        after that.
        """
        self._buffer += data
        while True:
            if self._length is None:
                if len(self._buffer) < HEADER.size:
                    return
                (length,) = HEADER.unpack_from(self._buffer)
                if length > self._limit:
                    raise FrameTooLarge(f"expected a frame of at most {self._limit} bytes, got one of {length}")
                self._length = length
            end = HEADER.size + self._length
            if len(self._buffer) < end:
                return
            payload = bytes(memoryview(self._buffer)[HEADER.size : end])
            del self._buffer[:end]
            self._length = None
            yield _decoded(payload, self._max_values)


def _decoded(payload: bytes, max_values: int) -> Message:
    try:
        # So few bytes cannot be too many values, and msgpack's own way is seven times as fast.
        small = len(payload) <= max_values
        message = msgpack.unpackb(payload) if small else _Reader(payload, max_values).whole()
    except (ValueError, TypeError, RecursionError, IndexError, msgpack.UnpackException) as exc:
        raise FrameError(f"expected a msgpack map, got bytes that are none: {exc!r}") from exc
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise FrameError(f"expected a msgpack map with text for keys, got {type(message).__name__}")
    return message


class _Reader:
    """Builds the value of a payload, part by part, as long as there are not too many."""

    def __init__(self, payload: bytes, max_values: int) -> None:
        self._payload = payload
        self._unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(payload)))
        self._unpacker.feed(payload)
        self._left = max_values

    def whole(self) -> Any:
        value = self._value(depth=0)
        if self._unpacker.tell() != len(self._payload):
            raise ValueError(f"{len(self._payload) - self._unpacker.tell()} bytes follow after it")
        return value

    def _value(self, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise ValueError(f"too many values, or nested more than {MAX_DEPTH} deep")
        first = self._payload[self._unpacker.tell()]
        if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
            return [self._value(depth + 1) for _ in range(self._unpacker.read_array_header())]
        if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
            pairs = range(self._unpacker.read_map_header())
            return {self._value(MAX_DEPTH): self._value(depth + 1) for _ in pairs}
        return self._unpacker.unpack()


def _plain(value: Any) -> Any:
    """NumPy scalars."""
    return value.item()
