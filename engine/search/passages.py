"""Passages: what the links of a chain become, and how likely each link is right.

A link is judged like a query of its own, by the confidence of alignments with rests: its gain is compared with those of
other documents and of the background.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Backend, Path
from engine.alignment.chains import Link
from engine.config import Alignment
from engine.search import location
from engine.search.confidence import LIKELY, Calibration
from engine.search.searcher import Searcher
from engine.values import Document, Documents, Embeddings, Kind, Place, SnippetSequence, System

Numbers = NDArray[np.int64]
"""Numbers of documents."""

ENTRY_PRICE = 4.0
"""Cost of entering a document: what some 20 right rows save. On validation (the rags on four pianos), 3 told a piece
twice more often, and 6 lost pieces of half a minute."""
REST_PRICE = 0.55
"""Price of a rest in a chain. With 0.5, which the confidence is fitted to, more endings and more pieces in noise and
rooms were lost on validation; with 0.58 borders were worse."""
MAX_PAUSE = 24
"""Longest gap in snippets, some twelve seconds, between two links of one document that are one passage."""
PACE_ROWS = 20
"""Rows at an end of a link from which the pace there is measured."""
MAX_OUTER_ROWS = 6.0
"""Most rows by which a passage reaches beyond its link, where the link has the first or the last snippet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A stretch of an evening in which one document is played or printed."""

    document: Document
    confidence: float | None
    """Probability that the document is the piece; None without a calibration."""
    stretch: Place
    """Stretch of the evening."""
    followed: Place
    """The part of `stretch` from the first to the last snippet of the path; no two passages share a second of these."""
    place: Place
    """Place in the document, see `engine.values.Match.place`."""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """The documents of one kind that an evening is searched for, and all that judges and places its links."""

    searcher: Searcher
    kind: Kind
    """Kind of the evening."""
    among: Kind
    """Kind of the documents."""
    ids: tuple[str, ...]
    documents: Documents
    """All documents of the kind searched, in the order of `ids`."""
    alignment: Alignment
    """Settings of the chain."""
    backend: Backend
    calibration: Calibration | None
    """Judges the links; None: they have no confidence."""

    @classmethod
    def of(
        cls,
        searcher: Searcher,
        backend: Backend,
        calibration: Calibration | None,
        alignment: Alignment,
        kinds: tuple[Kind, Kind],
    ) -> "Searched":
        """Returns the documents of a kind in the collection of a searcher.

        alignment: without rests, and the one that the calibration is made for.
        kinds: kind of the evening, and of the documents. Within one kind the bias means nothing, and there is no
            calibration.
        """
        kind, among = kinds
        weight = 0.0 if kind == among else alignment.bias_weight
        return cls(
            searcher=searcher,
            kind=kind,
            among=among,
            ids=searcher.ids(among),
            documents=searcher.documents(among),
            alignment=replace(alignment, rest_price=REST_PRICE, bias_weight=weight),
            backend=backend,
            calibration=None if kind == among else calibration,
        )

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Returns the number of each document, by its id."""
        return {id: number for number, id in enumerate(self.ids)}

    @functools.cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Returns the number of snippets of each document, (documents,)."""
        return np.diff(self.documents.offsets)

    def confidence(self, rows: Embeddings, compared: Numbers, document: int) -> float | None:
        """Returns the confidence that rows are of a document: that of these rows as a query of their own.

        compared: numbers of the documents that it is compared with, itself included, rising.
        """
        if self.calibration is None or self.calibration.rests is None:
            return None
        costs = self.backend.align(rows, self.documents.take(compared), self.calibration.rests).costs
        confidences = self.calibration.rested_probabilities(
            rows, self.among, costs, self.backend, documents=len(self.documents.offsets) - 1
        )
        return float(confidences[np.searchsorted(compared, document)])

    def passage(
        self, link: Link, confidence: float | None, evening: SnippetSequence, systems: tuple[System, ...] = ()
    ) -> Passage:
        """Returns the passage of a link. systems: of the evening, if it is a volume."""
        document, sequence = self.searcher.read(self.among, link.document)
        ruler = location.Ruler.of(sequence, document.systems)
        place, _ = location.where(link.path, ruler, location.reach(self.searcher.front_end, self.kind))
        followed = location.stretch(link.path, location.Ruler.of(evening, systems))
        stretch = _sounding(followed, link.path, ruler, evening) if evening.kind == "recording" else followed
        return Passage(document=document, confidence=confidence, stretch=stretch, followed=followed, place=place)


def _sounding(stretch: Place, path: Path, ruler: location.Ruler, evening: SnippetSequence) -> Place:
    """Returns the stretch of a recording in which a document sounds, which is longer than its path.

    A path runs from middle to middle of snippets. Where it begins with the first snippet of the document, half of that
    snippet was played before, and where it ends with the last one, half of it follows.

    ruler: of the document.
    """
    if stretch.start_s is None or stretch.end_s is None or len(evening) < 2:
        return stretch
    places = evening.places
    hop_s = float(places["start_s"][-1] - places["start_s"][0]) / (len(evening) - 1)
    before, after = _outer_rows(path, ruler, ruler.starts[0]), _outer_rows(path[::-1], ruler, ruler.ends[-1])
    return Place(
        start_s=max(float(places["start_s"][0]), stretch.start_s - before * hop_s),
        end_s=min(float(places["end_s"][-1]), stretch.end_s + after * hop_s),
    )


def _outer_rows(cells: Path, ruler: location.Ruler, end: float) -> float:
    """Returns the rows from the first cell to an end of the document, at the pace of the first cells.

    The result is 0 if these are more than MAX_OUTER_ROWS, for then the document was not played to this end.

    cells: from an end of a link inwards. end: of the document, on its ruler.
    """
    some = cells[:PACE_ROWS]
    passed, moved = abs(int(some[-1, 0] - some[0, 0])), abs(np.subtract(*ruler.middles[some[[0, -1], 1]]))
    rows = abs(end - ruler.middles[cells[0, 1]]) * passed / moved if moved > 0 else np.inf
    return float(rows) if rows <= MAX_OUTER_ROWS else 0.0


def apart(passages: Sequence[Passage], after_s: float = -np.inf) -> list[Passage]:
    """Returns the passages of a recording, cut so that no two overlap, and those of a volume as they are.

    Each passage is widened by itself (`_sounding`), so two pieces without a pause reach into each other. The border is
    the middle of what both claim, or the nearest moment at which neither is followed. On nine pairs of demo recordings
    the middle is 0.4 s from the true border on average.

    passages: in order. after_s: end of an earlier passage that stays as it is, in seconds; it lies before what is
        followed of these.
    """
    if any(one.stretch.start_s is None or one.stretch.end_s is None for one in passages):
        return list(passages)
    starts = [max(one.stretch.start_s or 0.0, after_s) for one in passages]
    ends = [one.stretch.end_s or 0.0 for one in passages]
    for left, right in itertools.pairwise(range(len(passages))):
        if ends[left] > starts[right]:
            least_s, most_s = passages[left].followed.end_s or 0.0, passages[right].followed.start_s or 0.0
            ends[left] = starts[right] = max(least_s, min((ends[left] + starts[right]) / 2, most_s))
    places = (Place(start_s=start_s, end_s=end_s) for start_s, end_s in zip(starts, ends, strict=True))
    return [replace(passage, stretch=place) for passage, place in zip(passages, places, strict=True)]


def is_likely(confidence: float | None) -> bool:
    """Returns whether a link is likely right. Without a calibration, each link is."""
    return confidence is None or confidence >= LIKELY


def joined(links: Sequence[Link]) -> list[Link]:
    """Returns the links, those of one document with at most MAX_PAUSE rows between them as one."""
    found: list[Link] = []
    for link in links:
        last = found[-1] if found else None
        if last and last.document == link.document and link.path[0, 0] - last.path[-1, 0] <= MAX_PAUSE:
            found[-1] = Link(document=link.document, path=np.concatenate([last.path, link.path]))
        else:
            found.append(link)
    return found
