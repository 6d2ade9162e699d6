"""Settings of the server and its limits: table [server] of a settings file."""

from dataclasses import dataclass

from engine.config import MediaLimits, require_positive

MIB = 1 << 20

QUERY_MEDIA = MediaLimits(seconds=1800.0, pages=40, pixels=100_000_000)
ADD_MEDIA = MediaLimits(seconds=2 * 3600.0, pages=1000)
# Reading two hours of sound takes 1.3 GB of memory, so `decode_bytes` must be larger than that.


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on clients. A request beyond a limit gets an error, and some limits also close the connection."""

    frame_bytes: int = 64 * MIB
    """Size of one message."""
    buffered_bytes: int = 512 * MIB
    """Total size of the messages of all connections that are being received or worked on."""
    connections: int = 256
    """Connections, those in their TLS handshake included."""
    spare_s: float = 5.0
    """A connection that is idle for this long is closed if a newcomer needs its place."""
    strangers: int = 64
    """Connections that have not shown their token yet, on a server that needs one."""
    stranger_s: float = 10.0
    """Time to show the token, from the moment that the connection is accepted, the TLS handshake included."""
    stranger_frame_bytes: int = 64 * 1024
    """Size of one message of a connection that has not shown its token yet."""
    stranger_bytes: int = 4 * MIB
    """Total size of the messages of all connections that have not shown their token yet."""
    wrong_token_s: float = 0.5
    """Time by which the reply to a wrong token is delayed; wrong tokens of one connection wait for each other."""
    requests_per_client: int = 32
    """Requests in flight on one connection."""
    streams_per_client: int = 4
    reply_bytes: int = 256 * MIB
    """Total size of the replies of all connections that are not sent yet."""
    client_reply_bytes: int = 64 * MIB
    """Total size of the replies of one connection that are not sent yet, and so the size of one reply."""
    listed: int = 1000
    """Documents in one reply to `info`; the client asks for the next ones."""
    located: int = 100_000
    """Snippets of a query times its `top`: places and paths of so many are found."""
    queue: int = 64
    """Queries in flight, all connections together. Beyond it the reply is `overloaded`, at once."""
    changes: int = 32
    """Additions and removals in flight, all connections together. Beyond it the reply is `overloaded`, at once."""
    evenings: int = 4
    """Long recordings and volumes in flight that are cut into passages, all connections together; one at a time is
    worked on. Beyond it the reply is `overloaded`, at once."""
    live_evenings: int = 32
    """Streams that tell the passages of an evening, all connections together, some megabytes each. Beyond it the reply
    is `overloaded`, at once."""
    deadline_s: float = 30.0
    """Deadline of a query that names none, and the longest deadline that a query may name."""
    write_deadline_s: float = 600.0
    """Deadline of a change or of `segment` that names none, and the longest deadline that they may name."""
    frame_s: float = 30.0
    """Time from the first byte of a frame to its last, and time for a client to receive a reply."""
    idle_s: float = 600.0
    """A connection that is idle for this long is closed."""
    drain_s: float = 30.0
    """Time that requests in flight get to finish when the server stops."""
    decode_s: float = 20.0
    """Time for a worker to read the media of a query."""
    add_decode_s: float = 600.0
    """Time for a worker to read the media of an addition."""
    decode_bytes: int = 2048 * MIB
    """Memory that a worker may use for one file."""
    stream_s: float = 120.0
    """Duration of the latest part of a stream that is searched for; what was heard earlier is dropped."""
    push_s: float = 120.0
    """Duration of the samples that one request may add to a stream."""
    kept_bytes: int = 256 * MIB
    """Size of the pictures or the sound of one addition that a collection keeps that keeps media."""
    query_media: MediaLimits = QUERY_MEDIA
    add_media: MediaLimits = ADD_MEDIA

    def __post_init__(self) -> None:
        """Raises ValueError if a limit is negative, or is 0 where nothing would be possible any more."""
        require_positive(
            self,
            or_zero=(
                *("spare_s", "wrong_token_s", "drain_s", "kept_bytes"),
                *("streams_per_client", "changes", "evenings", "live_evenings"),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """How browsers reach the HTTP address: table [server.web] of a settings file."""

    hosts: tuple[str, ...] = ()
    """Names by which browsers reach the address besides those of this machine, such as that of a proxy."""
    public_url: str = ""
    """URL under which a proxy shows the server; empty: none does. Its name is one of `hosts`, too."""
    viewers: tuple[str, ...] = ()
    """Origins of other web sites, such as https://projectmirador.org, whose pages may read the IIIF manifests, pages
    and sound of a server that needs no token; `*`: of all web sites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Settings of the server."""

    workers: int = 2
    """Processes that decode media."""
    batch: int = 16
    """Maximum number of queries that are embedded and aligned together; 1: one by one."""
    web: WebSettings = WebSettings()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        """Raises ValueError if a number is not above 0."""
        require_positive(self)
