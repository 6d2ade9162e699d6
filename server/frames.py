"""Frames: 4 bytes of length, big-endian, then that many bytes of a msgpack map. This module knows no sockets."""

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
    """Encodes a message as a frame. Its values are msgpack's types or NumPy scalars.

    Raises FrameTooLarge if the length does not fit into four bytes.
    """
    payload: bytes = msgpack.packb(message, default=_plain)
    if len(payload) >> 32:
        raise FrameTooLarge(f"a message of {len(payload)} bytes does not fit into a frame")
    return HEADER.pack(len(payload)) + payload


class Decoder:
    """Decodes the bytes of a connection, in pieces of any size, into messages."""

    def __init__(self, limit: int, *, max_values: int = MAX_VALUES) -> None:
        """Sets the limits on a message.

        limit: its size in bytes; it may be changed between messages.
        max_values: numbers, texts, lists and other msgpack values in it. Bulk data is one value, a string of bytes.
            Without this limit a message of empty lists would take sixty times its size in memory.
        """
        self.limit = limit
        self._max_values = max_values
        self._buffer = bytearray()
        self._length: int | None = None

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished frame that are held, header included; 0 between frames."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yields the messages that these bytes complete. Iterate to the end before feeding more.

        Raises FrameTooLarge as soon as a header announces too long a frame, and FrameError for bytes that are no
        map. The decoder cannot be used after that.
        """
        self._buffer += data
        while True:
            if self._length is None:
                if len(self._buffer) < HEADER.size:
                    return
                (length,) = HEADER.unpack_from(self._buffer)
                if self._buffer.startswith(b"HTTP"):
                    raise FrameError("the other side speaks HTTP: expected the port of --port, not that of --http-port")
                if length > self.limit:
                    raise FrameTooLarge(f"expected a frame of at most {self.limit} bytes, got one of {length}")
                self._length = length
            end = HEADER.size + self._length
            if len(self._buffer) < end:
                return
            payload = bytes(memoryview(self._buffer)[HEADER.size : end])
            del self._buffer[:end]
            self._length = None
            yield _decoded(payload, self._max_values)


def _decoded(payload: bytes, max_values: int) -> Message:
    """Decodes the payload of a frame. Raises FrameError."""
    try:
        # A value takes at least one byte, so a short payload needs no counting; msgpack alone is seven times as fast.
        small = len(payload) <= max_values
        message = msgpack.unpackb(payload) if small else _Reader(payload, max_values).whole()
    except (ValueError, TypeError, RecursionError, IndexError, msgpack.UnpackException) as exc:
        # Only the type: the text of a UnicodeDecodeError holds the whole frame, and so would a logged cause.
        raise FrameError(f"expected a msgpack map, got bytes that are none ({type(exc).__name__})") from None
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise FrameError(f"expected a msgpack map with text for keys, got {type(message).__name__}")
    return message


class _Reader:
    """Decodes a payload value by value, and stops when there are more values than allowed."""

    def __init__(self, payload: bytes, max_values: int) -> None:
        self._payload = payload
        self._unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(payload)))
        self._unpacker.feed(payload)
        self._left = max_values

    def whole(self) -> Any:
        """Decodes the payload, which must be one value. Raises FrameError or what msgpack raises."""
        value = self._value(depth=0)
        if self._unpacker.tell() != len(self._payload):
            raise FrameError(f"expected a msgpack map, got one and {len(self._payload) - self._unpacker.tell()} bytes")
        return value

    def _value(self, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise FrameError(f"expected a msgpack map, got too many values, or nested more than {MAX_DEPTH} deep")
        first = self._payload[self._unpacker.tell()]
        if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
            return [self._value(depth + 1) for _ in range(self._unpacker.read_array_header())]
        if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
            pairs = range(self._unpacker.read_map_header())
            return {self._value(MAX_DEPTH): self._value(depth + 1) for _ in pairs}
        return self._unpacker.unpack()


def _plain(value: Any) -> Any:
    """Converts a NumPy scalar into a plain number."""
    return value.item()
