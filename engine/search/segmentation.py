"""Segmentation: what is played from when to when in an evening's recording, or printed from where to where in a volume.

One chain (`engine.alignment.chains`) goes through the whole query and the documents that are nominated for each part of
it (`engine.search.nomination`). Rows that it leaves out are gaps: applause, talk, music that is not in the collection.
Each link of the chain is judged like a query of its own, by the confidence of alignments with rests: its gain is
compared with those of the other nominated documents and of the background. Then the chain is computed again with the
documents of likely links alone, so that the others take nothing from their neighbours. What is likely of the second
chain is the answer.

Time is linear in the length of the query. Memory is that of the query and of one stage of the chain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Backend, Path
from engine.alignment.chains import Link, Stage, chain
from engine.collection import AnyCollection
from engine.config import Alignment
from engine.errors import QueryError
from engine.search import location, nomination
from engine.search.confidence import IN_COLLECTION, Calibration
from engine.search.searcher import Searcher
from engine.search.stillness import without_still
from engine.values import Document, Documents, Kind, Place, SnippetSequence, System

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
class Evening:
    """A long query: a recording that may hold many pieces, or a volume of pages."""

    sequence: SnippetSequence
    among: Kind
    """Kind of the documents searched."""
    systems: tuple[System, ...] = ()
    """Systems of the query, if it is a score."""
    between: Callable[[], None] = lambda: None
    """Is called between parts of the work, of some hundred milliseconds. It may raise, which ends the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A stretch of an evening in which one document is played or printed."""

    document: Document
    confidence: float | None
    """Probability that the document is the piece; None without a calibration."""
    stretch: Place
    """Stretch of the evening."""
    place: Place
    """Place in the document, see `engine.values.Match.place`."""


class Segmenter:
    """Finds the passages of evenings in one collection. Any number of threads may use it at the same time."""

    def __init__(
        self,
        collection: AnyCollection,
        searcher: Searcher,
        backend: Backend,
        calibration: Calibration | None,
        alignment: Alignment,
    ) -> None:
        """searcher: of the collection. alignment: without rests, and the one that the calibration is made for."""
        self._collection = collection
        self._searcher = searcher
        self._backend = backend
        self._calibration = calibration
        self._alignment = alignment

    def passages(self, evening: Evening) -> tuple[Passage, ...]:
        """Returns the passages of an evening, in order. Raises QueryError if it has no snippets."""
        if len(evening.sequence) == 0:
            raise QueryError("the query has no snippets: expected at least one")
        ids = self._collection.ids(evening.among)
        if not ids:
            return ()
        search = _Search(
            evening=replace(evening, sequence=_heard(evening.sequence)),
            documents=self._searcher.documents(evening.among),
            alignment=self._alignment_of(evening),
            backend=self._backend,
            calibration=None if evening.sequence.kind == evening.among else self._calibration,
        )
        lengths = dict(zip(ids, np.diff(search.documents.offsets).tolist(), strict=True))
        heard, between = search.evening.sequence, evening.between
        stages = nomination.stages(self._searcher, heard, evening.among, lengths, between)
        likely = {link.document for link, confidence in search.judged(stages, stages) if _is_likely(confidence)}
        judged = search.judged([_among(stage, likely) for stage in stages], stages)
        reach = location.reach(self._collection.network.front_end, heard.kind)
        return tuple(
            self._passage(link, ids[link.document], confidence, evening, reach)
            for link, confidence in judged
            if _is_likely(confidence)
        )

    def _alignment_of(self, evening: Evening) -> Alignment:
        """Returns the settings of the chain. Within one kind the bias means nothing."""
        weight = 0.0 if evening.sequence.kind == evening.among else self._alignment.bias_weight
        return replace(self._alignment, rest_price=REST_PRICE, bias_weight=weight)

    def _passage(self, link: Link, id: str, confidence: float | None, evening: Evening, reach: float) -> Passage:
        """Returns the passage of a link. reach: see `location.reach`."""
        document, sequence = self._collection.document(id), self._collection.sequence(id)
        ruler = location.Ruler.of(sequence, document.systems)
        place, _ = location.where(link.path, ruler, reach)
        stretch = location.stretch(link.path, location.Ruler.of(evening.sequence, evening.systems))
        if evening.sequence.kind == "recording":
            stretch = _sounding(stretch, link.path, ruler, evening.sequence)
        return Passage(document=document, confidence=confidence, stretch=stretch, place=place)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """One evening with all that its chains need."""

    evening: Evening
    documents: Documents
    """All documents of the kind searched."""
    alignment: Alignment
    backend: Backend
    calibration: Calibration | None
    """Judges the links; None: they have no confidence."""

    def judged(self, stages: Sequence[Stage], compared: Sequence[Stage]) -> list[tuple[Link, float | None]]:
        """Returns the links of a chain with their confidences; those of one document with a short gap are one link.

        compared: the stages with the documents that each link is compared with.
        """
        query, between = self.evening.sequence.embeddings, self.evening.between
        links = _joined(chain(query, stages, self.documents, self.alignment, ENTRY_PRICE, between))
        return [(link, self._confidence(link, compared)) for link in links]

    def _confidence(self, link: Link, stages: Sequence[Stage]) -> float | None:
        """Returns the confidence of a link: that of its rows as a query of their own."""
        if self.calibration is None or self.calibration.rests is None:
            return None
        self.evening.between()
        first, last = int(link.path[0, 0]), int(link.path[-1, 0])
        compared = _documents_of(stages, first, last)
        rows = self.evening.sequence.embeddings[first : last + 1]
        costs = self.backend.align(rows, self.documents.take(compared), self.calibration.rests).costs
        confidences = self.calibration.rested_probabilities(
            rows, self.evening.among, costs, self.backend, documents=len(self.documents.offsets) - 1
        )
        return float(confidences[np.searchsorted(compared, link.document)])


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


def _heard(sequence: SnippetSequence) -> SnippetSequence:
    """Returns a query without the snippets in which nothing changes."""
    return replace(sequence, embeddings=np.ascontiguousarray(without_still(sequence.embeddings)))


def _is_likely(confidence: float | None) -> bool:
    """Returns whether a link is likely right. Without a calibration, each link is."""
    return confidence is None or confidence >= IN_COLLECTION


def _among(stage: Stage, documents: set[int]) -> Stage:
    """Returns a stage without the documents that are not among the given ones."""
    return replace(stage, documents=stage.documents[np.isin(stage.documents, list(documents))])


def _documents_of(stages: Sequence[Stage], first: int, last: int) -> NDArray[np.int64]:
    """Returns the numbers of the documents of the stages from the first to the last row, rising."""
    ends = np.cumsum([stage.rows for stage in stages])
    begun, ended = np.searchsorted(ends, (first, last), side="right").tolist()
    return np.unique(np.concatenate([stage.documents for stage in stages[begun : ended + 1]]))


def _joined(links: Sequence[Link]) -> list[Link]:
    """Returns the links, those of one document with at most MAX_PAUSE rows between them as one."""
    joined: list[Link] = []
    for link in links:
        last = joined[-1] if joined else None
        if last and last.document == link.document and link.path[0, 0] - last.path[-1, 0] <= MAX_PAUSE:
            joined[-1] = Link(document=link.document, path=np.concatenate([last.path, link.path]))
        else:
            joined.append(link)
    return joined
