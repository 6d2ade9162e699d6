"""Segmentation: what is played from when to when in an evening's recording, or printed from where to where in a volume.

One chain (`engine.alignment.chains`) goes through the whole query and the documents that are nominated for each part of
it (`engine.search.nomination`). Rows that it leaves out are gaps: applause, talk, music that is not in the collection.
Each link of the chain is judged like a query of its own, by the confidence of alignments with rests: its gain is
compared with those of the other nominated documents and of the background. Then the chain is computed again with the
documents of likely links alone, so that the others take nothing from their neighbours, and with a higher price of
rests, because the documents are no longer chosen for being cheap: endings that the network hardly recognises are lost
less often. What is likely of the second chain is the answer.

Time is linear in the length of the query. Memory is that of the query and of one stage of the chain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Backend
from engine.alignment.chains import Link, Stage, chain
from engine.collection import Collection
from engine.config import Alignment
from engine.errors import QueryError
from engine.search import location, nomination
from engine.search.confidence import IN_COLLECTION, Calibration
from engine.search.plan import fits_in_memory
from engine.search.searcher import Searcher
from engine.search.stillness import without_still
from engine.values import Document, Documents, Kind, Place, SnippetSequence, System

ENTRY_PRICE = 4.0
"""Cost of entering a document: what some 27 right rows save. On validation (the rags on four pianos), 3 told a piece
twice more often, and 6 lost pieces of half a minute."""
REST_PRICE = 0.5
"""Price of a rest where no calibration says one: within one kind, or with other settings of the alignment."""
SURE_REST_PRICE = 0.55
"""Price of a rest among documents of likely links. On validation 0.5 lost more endings, and 0.6 took pauses for
music."""
MAX_PAUSE = 24
"""Longest gap in snippets, some twelve seconds, between two links of one document that are one passage."""


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
        collection: Collection,
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
            documents=self._documents(evening.among),
            alignment=self._rests(evening),
            backend=self._backend,
            calibration=None if evening.sequence.kind == evening.among else self._calibration,
        )
        lengths = dict(zip(ids, np.diff(search.documents.offsets).tolist(), strict=True))
        heard, between = search.evening.sequence, evening.between
        stages = nomination.stages(self._searcher, heard, evening.among, lengths, between)
        likely = {link.document for link, confidence in search.judged(stages) if _is_likely(confidence)}
        judged = search.judged([_among(stage, likely) for stage in stages], stages, SURE_REST_PRICE)
        reach = location.reach(self._collection.network.front_end, heard.kind)
        return tuple(
            self._passage(link, ids[link.document], confidence, evening, reach)
            for link, confidence in judged
            if _is_likely(confidence)
        )

    def _documents(self, among: Kind) -> Documents:
        """Returns the documents of a kind, in memory if they fit."""
        stored = self._collection.stored(among)
        return self._collection.packed(among) if fits_in_memory(int(stored.offsets[-1]), self._backend) else stored

    def _rests(self, evening: Evening) -> Alignment:
        """Returns the settings of the alignment with rests. Within one kind the bias means nothing."""
        if evening.sequence.kind == evening.among:
            return replace(self._alignment, rest_price=REST_PRICE, bias_weight=0.0)
        rests = None if self._calibration is None else self._calibration.rests
        return rests or replace(self._alignment, rest_price=REST_PRICE)

    def _passage(self, link: Link, id: str, confidence: float | None, evening: Evening, reach: float) -> Passage:
        """Returns the passage of a link. reach: see `location.reach`."""
        document, sequence = self._collection.document(id), self._collection.sequence(id)
        place, _ = location.where(link.path, location.Ruler.of(sequence, document.systems), reach)
        stretch = location.stretch(link.path, location.Ruler.of(evening.sequence, evening.systems))
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

    def judged(
        self, stages: Sequence[Stage], nominated: Sequence[Stage] | None = None, rest_price: float | None = None
    ) -> list[tuple[Link, float | None]]:
        """Returns the links of a chain with their confidences; those of one document with a short gap are one link.

        nominated: the stages with the documents that each link is compared with; by default those of the chain.
        rest_price: in place of the alignment's.
        """
        settings = self.alignment if rest_price is None else replace(self.alignment, rest_price=rest_price)
        query, between = self.evening.sequence.embeddings, self.evening.between
        links = _joined(chain(query, stages, self.documents, settings, ENTRY_PRICE, between))
        return [(link, self._confidence(link, nominated or stages)) for link in links]

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
