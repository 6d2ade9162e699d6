"""The searcher, which answers queries from one collection: it plans, shortlists, ranks, judges and locates.

What grows with the collection, neighbours and alignment, is the work of its shards (`engine.search.shard`).
"""

import copy
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from engine import alignment, timemap
from engine.alignment import Backend
from engine.collection import AnyCollection
from engine.config import PUBLISHED_DTW, PUBLISHED_SDTW, Alignment, FrontEnd, SearchSettings
from engine.errors import QueryError, ShardLostError
from engine.neighbours import PROBES, cell_count
from engine.search import fingerprint, location, voting
from engine.search.confidence import LIKELY, Calibration, Probabilities, verdict
from engine.search.fingerprint import FingerprintSettings
from engine.search.plan import fits_in_memory, plan
from engine.search.shard import Aligner, Listing, Shard, ShardDocuments, ShardIndex
from engine.search.shards import shard_of
from engine.search.stillness import without_still
from engine.stopwatch import Stopwatch
from engine.values import (
    Answer,
    Document,
    Documents,
    Kind,
    Match,
    Method,
    Plan,
    Snippets,
    SnippetSequence,
    System,
    UnseenShard,
)

logger = logging.getLogger(__name__)

PUBLISHED = {"sdtw": PUBLISHED_SDTW, "dtw": PUBLISHED_DTW}
"""Methods that align as published, with their settings in place of the searcher's."""

MIN_REST = 12
"""Length in snippets of the shortest stretch, some 10 s or two systems, for which a query that has a sure match is
aligned again with rests."""


LOCATED_TOGETHER = 16
"""Number of matches whose snippets are read at a time to locate them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """The ranked documents, best first."""

    numbers: NDArray[np.int64]
    """Position of each document in the order of addition, (k,)."""
    keys: NDArray[np.floating]
    """Value that ranks each document, (k,), lower is better."""
    costs: NDArray[np.float32] | None = None
    """Cost of each document, (k,); None without alignment."""
    votes: NDArray[np.int64] | None = None
    """Votes of each document, (k,); None if the search used no neighbours."""
    confidences: Probabilities | None = None
    """Confidence of each document, (k,); None without a calibration."""
    alignment: Alignment | None = None
    """Settings of the alignment that ranks the documents; None: those of the query's method."""

    @property
    def sure(self) -> frozenset[int]:
        """Returns the numbers of the documents that are likely in the query."""
        confidences = np.zeros(len(self.numbers)) if self.confidences is None else self.confidences
        return frozenset(self.numbers[confidences >= LIKELY].tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query with its options."""

    sequence: Snippets
    """Snippets of the query; a SnippetSequence if `path` is set."""
    among: Kind
    """Kind of the documents searched."""
    method: Method = "refine"
    top: int = 10
    """Largest number of matches in the answer."""
    locate: bool = True
    """Whether the matches have places. To find a place, each match is aligned again by itself."""
    path: bool = False
    """Whether the located matches have their alignment paths. Needs a `sequence` with places and, if the query is a
    score, its `systems`."""
    systems: tuple[System, ...] = ()
    """Systems of the query, if the query is a score: needed if `path` is set, and for the stretch of the query that
    matches."""
    is_wanted: Callable[[], bool] = lambda: True
    """Whether somebody still waits for the answer; asked before each match is located. Once it is False, the remaining
    matches get no places, because locating many matches of a long query takes most of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The ids of all ranked documents, with the values that rank them."""

    ids: tuple[str, ...]
    """Ids of the documents, best first."""
    keys: NDArray[np.floating]
    """Value that ranks each document, (ids,), lower is better: the cost, the negative number of votes, or the negative
    weight of the hits in line."""
    timings_ms: dict[str, float]
    """Time of each stage in ms, by the stage's name, without `locate` and `total`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aligned:
    """The costs of one query with all documents of the kind searched."""

    align: Aligner
    """Aligns with the same documents by other settings."""
    costs: NDArray[np.float32]
    """Cost of each document, (documents,)."""
    took_ms: float
    """Time of the alignment of the whole batch of queries, in ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """A query with its plan."""

    query: Query
    plan: Plan
    shard: Shard
    """The documents that are searched."""

    @property
    def listing(self) -> Listing:
        """Returns what is known of all documents of the kind that is searched."""
        return self.shard.listing(self.query.among)


class Searcher:
    """Answers queries from one collection. Any number of threads may use one searcher at the same time.

    backend: the implementation that aligns; None chooses the fastest that works on this machine.
    calibration: gives the confidence; None: matches have no confidence.
    """

    def __init__(
        self,
        collection: AnyCollection | Shard,
        settings: SearchSettings | None = None,
        backend: Backend | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._settings = settings or SearchSettings()
        self._backend = backend or alignment.choose(threads=self._settings.threads)
        self._calibration = calibration
        self._shard = shard_of(collection, self._backend, self._settings.threads)

    def load(self) -> None:
        """Loads the snippets and indexes that queries need, so that the first query does not wait for them."""
        for kind in get_args(Kind):
            snippets = self._shard.listing(kind).snippets
            self._shard.load(kind, packed=fits_in_memory(snippets, self._backend), index=cell_count(snippets) > 0)

    @property
    def unseen(self) -> tuple[UnseenShard, ...]:
        """Returns the shards that do not answer, whatever the query."""
        return self._shard.unseen

    @property
    def front_end(self) -> FrontEnd:
        """Returns the front end of the network that embedded the documents."""
        return self._shard.front_end

    def without(self, lost: frozenset[str]) -> "Searcher":
        """Returns a searcher of the other shards. Raises ShardLostError if no shard is left."""
        fewer = copy.copy(self)
        fewer._shard = self._shard.without(lost)
        return fewer

    def ids(self, kind: Kind) -> tuple[str, ...]:
        """Returns the ids of the documents of a kind, in the order of addition."""
        return self._shard.listing(kind).ids

    def read(self, kind: Kind, number: int) -> tuple[Document, SnippetSequence]:
        """Returns a document of a kind with its snippets. number: in the order of addition. Raises ShardLostError."""
        (document,), (sequence,) = self._shard.documents(kind, [number]), self._shard.sequences(kind, [number])
        return document, sequence

    def documents(self, kind: Kind) -> Documents:
        """Returns the documents of a kind, numbered in the order of addition."""
        return ShardDocuments(self._shard, kind)

    def fell_back(self) -> tuple[str, ...]:
        """Returns which parts the CPU does because a GPU has failed: `alignment`, `neighbours`."""
        return tuple(sorted(self._shard.fell_back()))

    def plan(self, query: Query) -> Plan:
        """Returns the plan of a query, without searching."""
        return self._plan(query, self._shard.listing(query.among))

    def _plan(self, query: Query, listing: Listing) -> Plan:
        return plan(
            query.method,
            len(query.sequence),
            documents=len(listing),
            snippets=listing.snippets,
            settings=self._settings,
            backend=self._backend,
        )

    def query(
        self,
        sequence: Snippets,
        among: Kind,
        method: Method = "refine",
        top: int = 10,
        *,
        locate: bool = True,
        path: bool = False,
        systems: tuple[System, ...] = (),
    ) -> Answer:
        """Returns the answer to one query. The arguments are those of `Query`, the errors those of `answers`."""
        query = Query(sequence=sequence, among=among, method=method, top=top, locate=locate, path=path, systems=systems)
        return self.answers([query])[0]

    def answers(self, queries: Iterable[Query]) -> list[Answer]:
        """Returns the answer to each query: the best matches, their confidences, and the time of each stage.

        A document that cannot be aligned with the query, such as a document too short for the steps, is no match.
        `refine` and `exhaustive` give confidences, if there is a calibration and the query searches the other kind.
        Queries that are aligned with all documents are aligned in one batch, which is faster than one by one.
        The stages are `vote`, `fingerprint`, `read`, `align`, `judge` and `locate`, as far as they ran, and `total`.

        If a shard of the collection does not answer, the answers are those of a collection without its documents, and
        name it (`Answer.unseen`).

        Raises QueryError if a query has no snippets; ShardLostError if no shard answers; ValueError if a method is
        unknown, a `top` is less than 1, or a query needs places or systems and has none.
        """
        queries, shard = list(queries), self._shard
        while True:
            try:
                return self._answers(queries, shard.visit())
            except ShardLostError as exc:
                logger.warning("%s; the other shards answer", exc)
                shard = shard.without(exc.shards)

    def _answers(self, queries: list[Query], shard: Shard) -> list[Answer]:
        """Returns the answer to each query. Raises ShardLostError if a shard does not answer."""
        planned = [self._planned(query, shard) for query in queries]
        for item in planned:
            _log(item.plan)
        # The steps after the alignment are mostly Python, so threads would wait for each other.
        return [self._answer(item, aligned) for item, aligned in zip(planned, self._aligned(planned), strict=True)]

    def ranking(self, query: Query) -> Ranking:
        """Returns the ids of all documents ranked for a query, without reading documents. Errors: see `answers`.

        Nothing is logged: an evening asks hundreds of times. Raises ShardLostError if any shard does not answer,
        because all windows of an evening have to be ranked among the same documents.
        """
        planned = self._planned(query, self._shard.visit())
        (aligned,) = self._aligned([planned])
        stopwatch = Stopwatch({} if aligned is None else {"align": aligned.took_ms})
        ranked, ids = self._rank(planned, aligned, stopwatch), planned.listing.ids
        ranked_ids = tuple(ids[number] for number in ranked.numbers.tolist())
        return Ranking(ids=ranked_ids, keys=ranked.keys, timings_ms=stopwatch.times_ms)

    def _planned(self, query: Query, shard: Shard) -> _Planned:
        """Returns the query without what holds no music, with its plan. Errors: see `answers`."""
        _check(query)
        if query.method not in PUBLISHED:
            heard = replace(query.sequence, embeddings=without_still(query.sequence.embeddings))
            query = replace(query, sequence=heard)
        return _Planned(query=query, plan=self._plan(query, shard.listing(query.among)), shard=shard)

    def _aligned(self, planned: list[_Planned]) -> list[_Aligned | None]:
        """Returns, for each query, the costs of all documents, or None if the query's plan does not align them all."""
        aligned: list[_Aligned | None] = [None] * len(planned)
        batches: dict[tuple[Kind, Alignment], list[int]] = {}
        for i, item in enumerate(planned):
            if item.plan.neighbours == 0:
                batches.setdefault((item.query.among, self._alignment(item.query).ranking), []).append(i)
        for (among, settings), members in batches.items():
            align = planned[members[0]].shard.aligner(among, None)
            started = time.perf_counter()
            found = align([planned[i].query.sequence.embeddings for i in members], settings)
            took_ms = (time.perf_counter() - started) * 1000
            for i, costs in zip(members, found, strict=True):
                aligned[i] = _Aligned(align=align, costs=costs, took_ms=took_ms)
        return aligned

    def _answer(self, planned: _Planned, aligned: _Aligned | None) -> Answer:
        """Returns the answer to one query. aligned: costs of all documents, if the plan aligns them all."""
        query, stopwatch = planned.query, Stopwatch()
        with stopwatch("total"):
            ranked = self._rank(planned, aligned, stopwatch)
            best = ranked.numbers[: query.top].tolist()
            documents = planned.shard.documents(query.among, best)
            matches = tuple(_match(ranked, i, document) for i, document in enumerate(documents))
            if query.locate:
                settings = ranked.alignment or self._alignment(query)
                with stopwatch("locate"):
                    matches = tuple(self._all_located(matches, best, planned, settings))
        times_ms = stopwatch.times_ms | planned.shard.times_ms
        if aligned is not None:
            times_ms = {"align": aligned.took_ms} | times_ms | {"total": times_ms["total"] + aligned.took_ms}
        return Answer(
            matches=matches,
            plan=planned.plan,
            in_collection=_in_collection(ranked),
            partial=ranked.alignment is not None,
            timings_ms=times_ms,
            unseen=planned.shard.unseen,
        )

    def _rank(self, planned: _Planned, aligned: _Aligned | None, stopwatch: Stopwatch) -> _Ranked:
        """Returns the ranked documents of a query, with their confidences. aligned: see `_answer`."""
        query, plan = planned.query, planned.plan
        numbers, votes = np.arange(plan.documents), None
        if aligned is not None:
            costs, align = aligned.costs, aligned.align
        else:
            with stopwatch("vote" if plan.method == "vote" else "fingerprint"):
                votes, keys, numbers = self._voted(planned)
            if plan.aligned == 0:
                return _Ranked(numbers=numbers, keys=keys[numbers], votes=votes[numbers])
            numbers = np.sort(numbers[: plan.aligned])
            with stopwatch("read"):
                align = planned.shard.aligner(query.among, numbers)
            with stopwatch("align"):
                (costs,) = align([query.sequence.embeddings], self._alignment(query).ranking)
        ranked = _by_cost(numbers, costs, votes, planned.listing)
        if self._calibration is None or query.method in PUBLISHED or _same_kind(query) or len(ranked.numbers) == 0:
            return ranked
        embeddings = query.sequence.embeddings
        with stopwatch("judge"):
            confidences = self._calibration.probabilities(
                embeddings, query.among, ranked.keys, self._backend, documents=plan.documents
            )
        ranked = replace(ranked, confidences=confidences)
        rests = self._calibration.rests
        if rests is None or not self._holds_more(planned, ranked, rests):
            return ranked
        with stopwatch("rest"):
            (costs,) = align([embeddings], rests)
            rested = _by_cost(numbers, costs, votes, planned.listing)
            confidences = self._calibration.rested_probabilities(
                embeddings, query.among, rested.keys, self._backend, documents=plan.documents
            )
        rested = replace(rested, confidences=confidences, alignment=rests)
        return rested if rested.sure > ranked.sure else ranked

    def _holds_more(self, planned: _Planned, ranked: _Ranked, rests: Alignment) -> bool:
        """Returns whether the query may hold more than the best match, so that it is worth aligning with rests.

        It may if the best match is not sure, or if its alignment with rests leaves out a stretch of MIN_REST snippets.
        """
        if not ranked.sure:
            return True
        query = planned.query
        (document,) = planned.shard.sequences(query.among, [int(ranked.numbers[0])])
        path = self._backend.path(query.sequence.embeddings, document.embeddings, document.bias, rests)
        edges = np.concatenate([[-1], path[:, 0], [len(query.sequence)]])
        return bool(np.diff(edges).max() > MIN_REST)

    def _voted(self, planned: _Planned) -> tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.int64]]:
        """Returns the votes of each document, the values that rank the documents, and the documents, best first."""
        query, plan, offsets = planned.query, planned.plan, planned.listing.offsets
        embeddings, index = query.sequence.embeddings, ShardIndex(planned.shard, query.among)
        if plan.method == "vote":
            votes = voting.vote(index, embeddings, offsets, plan.neighbours)
            return votes.counts, -votes.counts.astype(np.float64), voting.ranking(votes)
        probes = plan.probes or PROBES  # a flat index has no cells and ignores this number
        settings = FingerprintSettings(neighbours=plan.neighbours, probes=probes)
        votes = fingerprint.offsets(index, embeddings, offsets, settings)
        return votes.counts, -votes.similarity, fingerprint.ranking(votes)

    def _alignment(self, query: Query) -> Alignment:
        """Returns the alignment settings of a query.

        Within one kind the bias is ignored, because it measures how much a snippet resembles the *other* kind.
        """
        settings = PUBLISHED.get(query.method, self._settings.alignment)
        return replace(settings, bias_weight=0.0) if _same_kind(query) else settings

    def _all_located(
        self, matches: tuple[Match, ...], best: list[int], planned: _Planned, settings: Alignment
    ) -> Iterator[Match]:
        """Yields the matches with their places, as long as somebody waits. best: positions of their documents."""
        for first in range(0, len(best), LOCATED_TOGETHER):
            part = slice(first, first + LOCATED_TOGETHER)
            wanted = planned.query.is_wanted()
            found = planned.shard.sequences(planned.query.among, best[part]) if wanted else []
            for match, document in itertools.zip_longest(matches[part], found):
                yield (
                    self._located(match, document, planned, settings) if planned.query.is_wanted() and found else match
                )

    def _located(self, match: Match, document: SnippetSequence, planned: _Planned, settings: Alignment) -> Match:
        """Returns the match with its places and, if the query asks for it, its path."""
        query = planned.query
        sequence = query.sequence
        path = self._backend.path(sequence.embeddings, document.embeddings, document.bias, settings)
        if len(path) == 0:
            return match
        ruler = location.Ruler.of(document, match.document.systems)
        reach = location.reach(planned.shard.front_end, sequence.kind)
        place, parts = location.where(path, ruler, reach)
        match = replace(match, place=place, parts=parts)
        if not isinstance(sequence, SnippetSequence) or not (
            query.path or query.systems or sequence.kind == "recording"
        ):
            return match
        asked = location.Ruler.of(sequence, query.systems)
        match = replace(match, query_place=location.stretch(path, asked))
        if not query.path:
            return match
        mapped = None if _same_kind(query) else timemap.time_map(path, asked, ruler)
        return replace(match, path=location.points(path, asked, ruler), time_map=mapped)


def _by_cost(
    numbers: NDArray[np.int64],
    costs: NDArray[np.float32],
    votes: NDArray[np.int64] | None,
    listing: Listing,
) -> _Ranked:
    """Returns the documents that have an alignment, ranked by cost and then by id.

    numbers, costs: (k,), of the documents that were aligned. votes: of all documents of the listing.
    """
    order = np.lexsort((listing.id_ranks[numbers], costs))
    order = order[np.isfinite(costs[order])]
    numbers, costs = numbers[order], costs[order]
    return _Ranked(numbers=numbers, keys=costs, costs=costs, votes=None if votes is None else votes[numbers])


def _check(query: Query) -> None:
    """Raises QueryError or ValueError if the query cannot be answered, see `Searcher.answers`."""
    if len(query.sequence) == 0:
        raise QueryError("the query has no snippets: expected at least one")
    if query.path and not isinstance(query.sequence, SnippetSequence):
        raise ValueError("expected a query whose snippets have places, because it asks for paths; got embeddings alone")
    if query.method not in get_args(Method) or query.top < 1:
        expected = f"a method of {get_args(Method)} and a top of at least 1"
        raise ValueError(f"expected {expected}, got {query.method}, {query.top}")


def _log(plan: Plan) -> None:
    """Logs the plan of a query."""
    logger.info(
        "%s aligns %d of %d documents on %s and searches %d neighbours in %d cells for each query snippet: %s",
        *(plan.method, plan.aligned, plan.documents, plan.backend, plan.neighbours, plan.probes, plan.reason),
    )


def _same_kind(query: Query) -> bool:
    """Returns whether the query searches documents of its own kind."""
    return query.sequence.kind == query.among


def _match(ranked: _Ranked, place: int, document: Document) -> Match:
    """Returns the match at a place of the ranking, from 0."""
    confidence = None if ranked.confidences is None else float(ranked.confidences[place])
    cost = None if ranked.costs is None else float(ranked.costs[place])
    votes = None if ranked.votes is None else int(ranked.votes[place])
    return Match(rank=place + 1, document=document, cost=cost, votes=votes, confidence=confidence)


def _in_collection(ranked: _Ranked) -> bool | None:
    """Returns the verdict on the best match; None also if there is no confidence, or no match."""
    return None if ranked.confidences is None else verdict(float(ranked.confidences[0]))
