"""The values that cross module borders."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.config import FrontEnd

DIMENSION = 32
"""Length of an embedding."""

Kind = Literal["score", "recording"]

OTHER: dict[Kind, Kind] = {"score": "recording", "recording": "score"}
"""What a query of each kind is searched among, unless it is said otherwise."""

Method = Literal["refine", "exhaustive", "vote", "fingerprint", "sdtw", "dtw"]
"""`refine`: documents are aligned, in a large collection those of a shortlist. `exhaustive`: all are. `vote`,
`fingerprint`: rank without alignment. `sdtw`, `dtw`: all are aligned as published, the query with a part or with the
whole of each."""

Embeddings = NDArray[np.float32]
"""float32 (n, 32), unit rows, C-order."""

SCORE_PLACE = np.dtype([("system", "<u4"), ("x", "<f4"), ("end_system", "<u4"), ("end_x", "<f4")])
"""Where a sheet snippet lies: it starts in `system` at `x` and ends in `end_system` at `end_x`.

Systems are numbered from 1 through the document (`System.number`); x is in units of page width.
"""

RECORDING_PLACE = np.dtype([("start_s", "<f4"), ("end_s", "<f4")])
"""Where an excerpt lies in its recording, in seconds."""

PLACE_DTYPES: dict[Kind, np.dtype[Any]] = {"score": SCORE_PLACE, "recording": RECORDING_PLACE}


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkIdentity:
    """Which network embeds, and with what front end: what a collection compares when it is opened."""

    name: str
    hash: str
    """SHA-256 (hex) of the weights file."""
    front_end: FrontEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle on a page; both axes in units of the page's *width*, origin at its top left."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One printed system."""

    page: int
    """From 1."""
    number: int
    """From 1, counted through the document."""
    box: Box
    """Its staves only: left and right end of the staff lines, first line of the top staff to last of the bottom one."""
    staves: tuple[Box, ...]
    """Top to bottom."""
    staff_space: float
    """Distance of two staff lines, in page widths."""
    confidence: float
    """0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippets:
    """Embedded snippets, in order: all that a query needs in order to be searched."""

    kind: Kind
    """What was embedded."""
    embeddings: Embeddings

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnippetSequence(Snippets):
    """The embedded snippets of one document or query, in order, with their places."""

    places: NDArray[Any]
    """(n,) of SCORE_PLACE or RECORDING_PLACE, as `kind` says."""
    bias: NDArray[np.float32]
    """(n,) added to each local cost against this snippet when it is searched: how readily it resembles anything."""

    def part(self, chosen: slice | NDArray[np.int64] | NDArray[np.bool_]) -> "SnippetSequence":
        """The chosen snippets alone."""
        embeddings = np.ascontiguousarray(self.embeddings[chosen])
        return SnippetSequence(
            kind=self.kind, embeddings=embeddings, places=self.places[chosen], bias=self.bias[chosen]
        )


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Packed:
    """The sequences of many documents, one after the other.

    Raises ValueError if the arrays do not fit together.
    """

    embeddings: NDArray[np.float32] | NDArray[np.float16]
    """(snippets of all documents, 32), C-order."""
    bias: NDArray[np.float32]
    """(snippets of all documents,)."""
    offsets: NDArray[np.int64]
    """(documents + 1,): document b holds the snippets offsets[b] to offsets[b + 1]; it may be empty."""

    def __post_init__(self) -> None:
        shape, dtype = self.embeddings.shape, self.embeddings.dtype
        if dtype not in (np.float16, np.float32) or len(shape) != 2 or shape[1] != DIMENSION:
            raise ValueError(f"embeddings must be float16 or float32 (n, {DIMENSION}), got {dtype} {shape}")
        if self.bias.dtype != np.float32 or self.bias.shape != shape[:1]:
            raise ValueError(f"bias must be float32 ({shape[0]},), got {self.bias.dtype} {self.bias.shape}")
        rising = self.offsets.ndim == 1 and len(self.offsets) > 0 and bool(np.all(np.diff(self.offsets) >= 0))
        if self.offsets.dtype != np.int64 or not rising or self.offsets[0] < 0 or self.offsets[-1] > shape[0]:
            raise ValueError(f"offsets must be int64, rise, and stay within 0..{shape[0]}, got {self.offsets}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, documents: NDArray[np.int64]) -> "Packed":
        """The given documents alone, in that order, copied; documents: int64 (k,)."""
        starts, lengths = self.offsets[documents], np.diff(self.offsets)[documents]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
        rows = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Packed(embeddings=self.embeddings[rows], bias=self.bias[rows], offsets=offsets)


class Documents(Protocol):
    """The sequences of many documents, in memory (`Packed`) or on disk (`engine.collection.store.Stored`)."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(documents + 1,), as those of `Packed`."""

    def take(self, documents: NDArray[np.int64]) -> Packed:
        """The given documents alone, in that order, in memory; documents: int64 (k,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a collection knows of one score or recording besides its sequence."""

    id: str
    kind: Kind
    title: str = ""
    composer: str = ""
    work: str = ""
    source: str = ""
    """The file or folder it was made from; an absolute path in a collection."""
    content_hash: str = ""
    """SHA-256 (hex) of the source's bytes, by which a collection knows the same content again; empty: unknown."""
    snippets: int = 0
    pages: int = 0
    """Score: pages read, blank ones included."""
    systems: tuple[System, ...] = ()
    duration_s: float = 0.0
    """Recording: its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePosition:
    """A point of a score."""

    page: int
    system: int
    """Number of the system."""
    x: float
    """In page widths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPosition:
    """A point of a recording."""

    s: float
    """Second."""


Position = ScorePosition | RecordingPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPoint:
    """What of the query goes with what of the document."""

    query: Position
    document: Position
    jump: bool
    """Whether the path came here by a jump from the point before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A stretch of a document: systems of a score, or seconds of a recording. Empty if it is not known."""

    pages: tuple[int, ...] = ()
    systems: tuple[System, ...] = ()
    """In the query's order; a system that a jump leads back to stands here again."""
    start_x: float | None = None
    """Score: where the stretch starts in the first of `systems`, in page widths."""
    end_x: float | None = None
    """Score: where the stretch ends in the last of `systems`."""
    start_s: float | None = None
    """Recording: the second at which the stretch starts."""
    end_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of the document that the match runs through without a jump."""

    share: float
    """Of the path's points."""
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One ranked answer."""

    rank: int
    document: Document
    cost: float | None
    """Cost of the alignment a query snippet, lower is better; comparable within one query only. None if the document
    was not aligned: `vote` and `fingerprint` rank without."""
    votes: int | None
    """Hits counted for the document: pairs of a query snippet and one of its nearest neighbours. `vote` counts all of
    them, a fingerprint those in line, at most one for each query snippet. None if no neighbours were looked up."""
    confidence: float | None = None
    """Probability that this document is the piece (`engine.search.confidence`); None without a calibration."""
    place: Place = Place()
    """Where the match lies. In a recording: the passage in which the query starts."""
    parts: tuple[Part, ...] = ()
    """All stretches that the match runs through, in the query's order: more than one where it jumps. Strays count."""
    path: tuple[PathPoint, ...] = ()
    """Point by point, if it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one query is answered, and why (`engine.search.plan`)."""

    method: Method
    backend: str
    """Name of the backend that aligns."""
    documents: int
    """Documents of the kind searched."""
    aligned: int
    """How many of them are aligned: all, a shortlist, or none, which ranks by votes."""
    neighbours: int
    """Nearest snippets looked up for each query snippet; 0: none are looked up."""
    probes: int
    """Cells of the index searched for each query snippet; 0: there are no cells, or nothing is looked up."""
    reason: str
    """A sentence on why it is done this way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The matches of one query, best first, and the time each stage took."""

    matches: tuple[Match, ...]
    plan: Plan | None = None
    """How the query was answered; None if nothing was searched."""
    in_collection: bool | None = None
    """Whether the piece is likely among the documents searched; None if that cannot be told."""
    timings_ms: dict[str, float] = field(default_factory=dict)
