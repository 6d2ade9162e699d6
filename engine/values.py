"""The values that cross module borders."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.config import FrontEnd

if TYPE_CHECKING:
    from engine.timemap import TimeMap

DIMENSION = 32
"""Length of an embedding."""

Kind = Literal["score", "recording"]

OTHER: dict[Kind, Kind] = {"score": "recording", "recording": "score"}
"""The kind of documents that a query of each kind searches by default."""

Method = Literal["refine", "exhaustive", "vote", "fingerprint", "sdtw", "dtw"]
"""How documents are ranked. `refine`: by alignment; in a large collection, only a shortlist is aligned. `exhaustive`:
by alignment of all documents. `vote`, `fingerprint`: by the nearest neighbours of the query's snippets, without
alignment. `sdtw`, `dtw`: by the published alignment of all documents, with any part of a document or with the whole."""

ExportFormat = Literal["iiif", "annotations", "audacity", "csv", "sonic-visualiser", "jams", "mei"]
"""Formats in which other programs read a score, or a score and its recording."""

Embeddings = NDArray[np.float32]
"""Embeddings of n snippets: float32 (n, 32), rows of length 1, C-order."""

SCORE_PLACE = np.dtype([("system", "<u4"), ("x", "<f4"), ("end_system", "<u4"), ("end_x", "<f4")])
"""Place of a sheet snippet: the snippet starts in `system` at `x` and ends in `end_system` at `end_x`.

Systems are numbered from 1 through the document (`System.number`); x is in units of page width.
"""

RECORDING_PLACE = np.dtype([("start_s", "<f4"), ("end_s", "<f4")])
"""Place of an excerpt in its recording, in seconds."""

PLACE_DTYPES: dict[Kind, np.dtype[Any]] = {"score": SCORE_PLACE, "recording": RECORDING_PLACE}
"""The dtype of a snippet's place, by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkIdentity:
    """Identity of a network and its front end. Opening a collection compares the collection's with the one in use."""

    name: str
    """Name of the network, for people."""
    hash: str
    """SHA-256 (hex) of the weights file."""
    front_end: FrontEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle on a page that stands upright. Both axes are in units of the page's *width*; the origin is the page's
    top left corner."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One printed system of a score."""

    page: int
    """Number of the page, from 1."""
    number: int
    """Number of the system, from 1, counted through the document."""
    box: Box
    """Box round the staff lines, from the top staff's first line to the bottom staff's last line."""
    staves: tuple[Box, ...]
    """Boxes of the staves, top to bottom."""
    staff_space: float
    """Distance of two staff lines, in page widths."""
    confidence: float
    """Confidence of the detection, 0..1."""
    turn: int = 0
    """Degrees by which the page of the file is turned clockwise so that the system is upright: 0, 90, 180 or 270. Boxes
    and `staff_space` are those of the page turned in this way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippets:
    """Embedded snippets in order. A search needs no more of a query."""

    kind: Kind
    """Kind of the source that was embedded."""
    embeddings: Embeddings
    """Embeddings of the snippets, float32 (n, 32)."""

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnippetSequence(Snippets):
    """The embedded snippets of one document or query, in order, with their places and biases."""

    places: NDArray[Any]
    """Places of the snippets, (n,), dtype SCORE_PLACE or RECORDING_PLACE according to `kind`."""
    bias: NDArray[np.float32]
    """Bias of each snippet, float32 (n,): how much the snippet resembles any other. A search adds the bias to each
    local cost against this snippet."""

    def part(self, chosen: slice | NDArray[np.int64] | NDArray[np.bool_]) -> "SnippetSequence":
        """Returns a sequence with only the chosen snippets."""
        embeddings = np.ascontiguousarray(self.embeddings[chosen])
        return SnippetSequence(
            kind=self.kind, embeddings=embeddings, places=self.places[chosen], bias=self.bias[chosen]
        )


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Packed:
    """The sequences of many documents, one after the other, in memory.

    Raises ValueError if the arrays do not fit together.
    """

    embeddings: NDArray[np.float32] | NDArray[np.float16]
    """Embeddings of the snippets of all documents, (snippets, 32), C-order."""
    bias: NDArray[np.float32]
    """Biases of the snippets of all documents, float32 (snippets,)."""
    offsets: NDArray[np.int64]
    """Borders of the documents, int64 (documents + 1,): document b has the snippets offsets[b] to offsets[b + 1] - 1.
    A document may be empty."""

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
        """Returns the number of documents."""
        return len(self.offsets) - 1

    def take(self, documents: NDArray[np.int64]) -> "Packed":
        """Returns a copy of the chosen documents, in the order of `documents`: int64 (k,)."""
        starts, lengths = self.offsets[documents], np.diff(self.offsets)[documents]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
        rows = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Packed(embeddings=self.embeddings[rows], bias=self.bias[rows], offsets=offsets)


class Documents(Protocol):
    """The sequences of many documents, in memory (`Packed`) or on disk (`engine.collection.store.Stored`)."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Returns the borders of the documents, int64 (documents + 1,), see `Packed.offsets`."""

    def take(self, documents: NDArray[np.int64]) -> Packed:
        """Returns the chosen documents in memory, in the order of `documents`: int64 (k,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The facts about one score or recording that a collection stores beside its sequence."""

    id: str
    kind: Kind
    title: str = ""
    composer: str = ""
    work: str = ""
    source: str = ""
    """Path of the file or folder that the document was made from; absolute, except for an upload's bare file name."""
    content_hash: str = ""
    """SHA-256 (hex) of the source's bytes, by which a collection recognises the same content; empty if unknown."""
    snippets: int = 0
    """Number of snippets."""
    pages: int = 0
    """Score: number of pages up to the last that was read, blank pages and pages that were passed over included."""
    systems: tuple[System, ...] = ()
    """Score: the systems, in order."""
    duration_s: float = 0.0
    """Recording: length in seconds."""
    media: str = ""
    """SHA-256 (hex) over the checksums of the pictures and the sound that the collection keeps of the document; empty
    if it keeps none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePosition:
    """A point in a score."""

    page: int
    """Number of the page, from 1."""
    system: int
    """Number of the system, from 1, counted through the document."""
    x: float
    """Distance from the left edge of the page, in page widths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPosition:
    """A point in a recording."""

    s: float
    """Seconds from the start of the recording."""


Position = ScorePosition | RecordingPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPoint:
    """A point of an alignment path: a position in the query and the matching position in the document."""

    query: Position
    document: Position
    jump: bool
    """Whether the path jumps from the previous point to this point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A stretch of a document: systems of a score, or seconds of a recording. An unknown place is empty."""

    pages: tuple[int, ...] = ()
    """Score: numbers of the pages of `systems`, each once."""
    systems: tuple[System, ...] = ()
    """Score: the systems in the query's order. A system to which a jump returns occurs again."""
    start_x: float | None = None
    """Score: where the stretch starts in the first of `systems`, in page widths."""
    end_x: float | None = None
    """Score: where the stretch ends in the last of `systems`."""
    start_s: float | None = None
    """Recording: the second at which the stretch starts."""
    end_s: float | None = None
    """Recording: the second at which the stretch ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of the document that the alignment path covers without a jump."""

    share: float
    """Share of the path's points that lie in this part, 0..1."""
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One document of an answer, with its rank."""

    rank: int
    """Rank of the document, from 1."""
    document: Document
    cost: float | None
    """Cost of the alignment per query snippet; lower is better. Costs compare within one query only. None if the
    document was not aligned: `vote` and `fingerprint` rank without alignment."""
    votes: int | None
    """Number of hits of the document. A hit is a pair of a query snippet and one of its nearest neighbours. `vote`
    counts all hits. A fingerprint counts hits in line, at most one for each query snippet. None if the search used no
    neighbours."""
    confidence: float | None = None
    """Probability that this document is the piece (`engine.search.confidence`); None without a calibration."""
    place: Place = Place()
    """Place of the match. In a recording: the passage in which the query starts."""
    parts: tuple[Part, ...] = ()
    """All stretches that the path covers, in the query's order, strays included; more than one if the path jumps."""
    query_place: Place = Place()
    """Stretch of the query that the match explains: all of it, unless the answer is `Answer.partial`."""
    path: tuple[PathPoint, ...] = ()
    """Points of the alignment path; empty unless the query asks for the path."""
    time_map: "TimeMap | None" = None
    """Where in the score the recording is at each second; None unless the query asks for the path, and one of query and
    document is a score and the other a recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps by which a query is answered, and the reason (`engine.search.plan`)."""

    method: Method
    backend: str
    """Name of the backend that aligns."""
    documents: int
    """Number of documents of the kind searched."""
    aligned: int
    """Number of documents that are aligned: all documents, a shortlist, or 0, where votes rank the documents."""
    neighbours: int
    """Number of nearest neighbours of each query snippet that the search uses; 0: none."""
    probes: int
    """Number of index cells searched for each query snippet; 0: the index has no cells, or is not used."""
    reason: str
    """A sentence that says why the query is answered this way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenShard:
    """A shard of the collection that did not answer."""

    name: str
    documents: dict[Kind, int]
    """How many documents it has, by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The matches of one query, with the plan and the time of each stage."""

    matches: tuple[Match, ...]
    """The matches, best first."""
    plan: Plan | None = None
    """The steps by which the query was answered; None if nothing was searched."""
    in_collection: bool | None = None
    """Whether the piece is among the documents searched; None if that is in doubt, or if there is no confidence."""
    partial: bool = False
    """Whether the matches are of parts of the query, because it holds more than one piece: the rest was left out of
    their alignments, and costs include its price."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Time of each stage in ms, by the stage's name."""
    transposed: float = 0.0
    """Semitones by which the query was transposed; 0: it was searched for as it is."""
    unseen: tuple[UnseenShard, ...] = ()
    """Shards that did not answer: the matches are those of a collection without their documents."""
