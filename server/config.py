"""What the server takes at most, and what else can be set: table [server] of a settings file."""

from dataclasses import dataclass

from engine.config import MediaLimits

MIB = 1 << 20

QUERY_MEDIA = MediaLimits(seconds=1800.0, pages=40, pixels=100_000_000)
ADD_MEDIA = MediaLimits(seconds=2 * 3600.0, pages=1000)
# Two hours of sound take 1.3 GB while they are read, which `decode_bytes` has to hold.


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Whatever goes beyond one of these is answered by a typed error, or the connection is closed after one."""

    frame_bytes: int = 64 * MIB
    """Of one message."""
    buffered_bytes: int = 512 * MIB
    """Of all messages that are coming in or being worked on, of all connections."""
    connections: int = 256
    requests_per_client: int = 32
    """In flight on one connection."""
    streams_per_client: int = 4
    queue: int = 64
    """Queries in flight, of all connections; beyond them the answer is `overloaded`, at once."""
    changes: int = 32
    """The same of additions and removals."""
    deadline_s: float = 30.0
    """For a query that names no deadline, and the longest one a query may name."""
    write_deadline_s: float = 600.0
    """The same for what changes the collection."""
    frame_s: float = 30.0
    """From the first byte of a frame to its last one, and for a client to take a reply."""
    idle_s: float = 600.0
    """A connection on which nothing happens for so long is closed."""
    drain_s: float = 30.0
    """For requests in flight when the server is stopped."""
    decode_s: float = 20.0
    """For a worker to read the media of a query."""
    add_decode_s: float = 300.0
    """For a worker to read the media of an addition."""
    decode_bytes: int = 2048 * MIB
    """Memory that a worker may take for one file."""
    stream_s: float = 120.0
    """Of a stream so much is asked for, the latest."""
    push_s: float = 120.0
    """Of a stream so much is taken at a time."""
    query_media: MediaLimits = QUERY_MEDIA
    add_media: MediaLimits = ADD_MEDIA


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How the server works."""

    workers: int = 2
    """Processes that decode media."""
    batch: int = 16
    """Queries embedded and aligned together at most; 1: one by one."""
    limits: Limits = Limits()
