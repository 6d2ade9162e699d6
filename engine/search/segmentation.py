"""Segmentation: what is played from when to when in an evening's recording, or printed from where to where in a volume.

One chain (`engine.alignment.chains`) goes through the whole query and the documents that are nominated for each part of
it (`engine.search.nomination`). Rows that it leaves out are gaps: applause, talk, music that is not in the collection.
Each link of the chain is judged (`engine.search.passages`). Then the chain is computed again with the documents of
likely links alone, so that the others take nothing from their neighbours. What is likely of the second chain is the
answer.

Time is linear in the length of the query. Memory is that of the query and of one stage of the chain.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.alignment import Backend
from engine.alignment.chains import Link, Stage, chain
from engine.config import Alignment
from engine.errors import QueryError, ShardLostError
from engine.search import nomination
from engine.search.confidence import Calibration
from engine.search.endings import Tones
from engine.search.passages import ENTRY_PRICE, Passage, Searched, apart, is_likely, joined
from engine.search.searcher import Searcher
from engine.search.stillness import without_still
from engine.values import Kind, SnippetSequence, System, UnseenShard

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evening:
    """A long query: a recording that may hold many pieces, or a volume of pages."""

    sequence: SnippetSequence
    among: Kind
    """Kind of the documents searched."""
    systems: tuple[System, ...] = ()
    """Systems of the query, if it is a score."""
    tones: Tones | None = None
    """How tonal a recording is. Without it, passages end where the chain says, see `engine.search.endings`."""
    between: Callable[[], None] = lambda: None
    """Is called between parts of the work, of some hundred milliseconds. It may raise, which ends the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The passages of an evening, and what was not searched for them."""

    passages: tuple[Passage, ...]
    """The passages, in order."""
    unseen: tuple[UnseenShard, ...] = ()
    """The shards that did not answer: the passages are those of a collection without their documents."""


class Segmenter:
    """Finds the passages of evenings in one collection. Any number of threads may use it at the same time."""

    def __init__(
        self,
        searcher: Searcher,
        backend: Backend,
        calibration: Calibration | None,
        alignment: Alignment,
    ) -> None:
        """alignment: without rests, and the one that the calibration is made for."""
        self._searcher = searcher
        self._backend = backend
        self._calibration = calibration
        self._alignment = alignment
        self._searched: dict[tuple[Kind, Kind], Searched] = {}

    def searched(self, kind: Kind, among: Kind) -> Searched:
        """Returns what evenings of a kind are searched for, always the same. among: kind of the documents."""
        if (kind, among) not in self._searched:
            self._searched[kind, among] = self._searched_by(self._searcher, kind, among)
        return self._searched[kind, among]

    def _searched_by(self, searcher: Searcher, kind: Kind, among: Kind) -> Searched:
        """Returns what evenings of a kind are searched for by this searcher."""
        return Searched.of(searcher, self._backend, self._calibration, self._alignment, kinds=(kind, among))

    def passages(self, evening: Evening) -> tuple[Passage, ...]:
        """Returns the passages of an evening, in order. Errors: see `found`."""
        return self.found(evening).passages

    def found(self, evening: Evening) -> Found:
        """Returns the passages of an evening, in order, and the shards that did not answer.

        If a shard no longer answers, the evening is searched again without its documents, from its first window on.
        Raises QueryError if the evening has no snippets; ShardLostError if no shard answers.
        """
        if len(evening.sequence) == 0:
            raise QueryError("the query has no snippets: expected at least one")
        searched = self.searched(evening.sequence.kind, evening.among)
        while True:
            try:
                return Found(passages=self._passages(evening, searched), unseen=searched.searcher.unseen)
            except ShardLostError as exc:
                logger.warning("%s; the evening is searched again in the other shards", exc)
                searched = self._searched_by(searched.searcher.without(exc.shards), searched.kind, searched.among)

    def _passages(self, evening: Evening, searched: Searched) -> tuple[Passage, ...]:
        """Returns the passages of an evening, in order. Raises ShardLostError if a shard does not answer."""
        if not searched.ids:
            return ()
        search = _Search(evening=replace(evening, sequence=_heard(evening.sequence)), searched=searched)
        stages = nomination.stages(searched, search.evening.sequence.embeddings, evening.between)
        likely = {link.document for link, confidence in search.judged(stages, stages) if is_likely(confidence)}
        judged = search.judged([_among(stage, likely) for stage in stages], stages)
        found = [(link, confidence) for link, confidence in judged if is_likely(confidence)]
        passages = apart([searched.passage(*one, evening.sequence, evening.systems) for one in found])
        if evening.tones is None:
            return tuple(passages)
        return evening.tones.prolonged(passages, [link for link, _ in found], searched)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """One evening with all that its chains need."""

    evening: Evening
    searched: Searched

    def judged(self, stages: Sequence[Stage], compared: Sequence[Stage]) -> list[tuple[Link, float | None]]:
        """Returns the links of a chain with their confidences; those of one document with a short gap are one link.

        compared: the stages with the documents that each link is compared with.
        """
        searched, query, between = self.searched, self.evening.sequence.embeddings, self.evening.between
        links = joined(chain(query, stages, searched.documents, searched.alignment, ENTRY_PRICE, between))
        return [(link, self._confidence(link, compared)) for link in links]

    def _confidence(self, link: Link, stages: Sequence[Stage]) -> float | None:
        """Returns the confidence of a link."""
        self.evening.between()
        first, last = int(link.path[0, 0]), int(link.path[-1, 0])
        rows = self.evening.sequence.embeddings[first : last + 1]
        return self.searched.confidence(rows, _documents_of(stages, first, last), link.document)


def _heard(sequence: SnippetSequence) -> SnippetSequence:
    """Returns a query without the snippets in which nothing changes."""
    return replace(sequence, embeddings=np.ascontiguousarray(without_still(sequence.embeddings)))


def _among(stage: Stage, documents: set[int]) -> Stage:
    """Returns a stage without the documents that are not among the given ones."""
    return replace(stage, documents=stage.documents[np.isin(stage.documents, list(documents))])


def _documents_of(stages: Sequence[Stage], first: int, last: int) -> NDArray[np.int64]:
    """Returns the numbers of the documents of the stages from the first to the last row, rising."""
    ends = np.cumsum([stage.rows for stage in stages])
    begun, ended = np.searchsorted(ends, (first, last), side="right").tolist()
    return np.unique(np.concatenate([stage.documents for stage in stages[begun : ended + 1]]))
