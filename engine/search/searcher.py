"""The searcher, which answers queries from one collection: it plans, shortlists, aligns, ranks, judges and locates."""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from engine import alignment, timemap
from engine.alignment import Backend
from engine.collection import Collection
from engine.config import PUBLISHED_DTW, PUBLISHED_SDTW, Alignment, SearchSettings
from engine.errors import QueryError
from engine.neighbours import PROBES, cell_count
from engine.search import fingerprint, location, voting
from engine.search.confidence import IN_COLLECTION, Calibration, Probabilities
from engine.search.fingerprint import FingerprintSettings
from engine.search.plan import fits_in_memory, plan
from engine.search.stillness import without_still
from engine.stopwatch import Stopwatch
from engine.values import Answer, Document, Documents, Kind, Match, Method, Plan, Snippets, SnippetSequence, System

logger = logging.getLogger(__name__)

PUBLISHED = {"sdtw": PUBLISHED_SDTW, "dtw": PUBLISHED_DTW}
"""Methods that align as published, with their settings in place of the searcher's."""

MIN_REST = 12
"""Length in snippets of the shortest stretch, some 10 s or two systems, for which a query that has a sure match is
aligned again with rests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """All documents of one kind, which a search ranks."""

    ids: tuple[str, ...]
    """Ids of the documents, in the order of the collection."""
    sequences: Documents
    """Sequences of the documents; they stay on disk."""
    id_ranks: NDArray[np.int64]
    """Rank of each document's id in alphabetical order, (B,); it decides ties."""

    @property
    def snippets(self) -> int:
        """Returns the number of snippets of all documents."""
        return int(self.sequences.offsets[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """The ranked documents, best first."""

    numbers: NDArray[np.int64]
    """Number of each document among the candidates, (k,)."""
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
        return frozenset(self.numbers[confidences >= IN_COLLECTION].tolist())


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

    costs: NDArray[np.float32]
    """Cost of each document, (documents,)."""
    took_ms: float
    """Time of the alignment of the whole batch of queries, in ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """A query with its plan."""

    query: Query
    plan: Plan


class Searcher:
    """Answers queries from one collection. Any number of threads may use one searcher at the same time.

    backend: the implementation that aligns; None chooses the fastest that works on this machine.
    calibration: gives the confidence; None: matches have no confidence.
    """

    def __init__(
        self,
        collection: Collection,
        settings: SearchSettings | None = None,
        backend: Backend | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._collection = collection
        self._settings = settings or SearchSettings()
        self._backend = backend or alignment.choose(threads=self._settings.threads)
        self._calibration = calibration
        self._kinds: dict[Kind, _Candidates] = {}

    def load(self) -> None:
        """Loads the snippets and indexes that queries need, so that the first query does not wait for them."""
        for kind in get_args(Kind):
            snippets = self._candidates(kind).snippets
            if fits_in_memory(snippets, self._backend):
                self._collection.packed(kind)
            if cell_count(snippets) > 0:
                self._collection.index(kind)

    def fell_back(self) -> tuple[str, ...]:
        """Returns which parts the CPU does because a GPU has failed: `alignment`, `neighbours`."""
        indexes = any(index.fell_back for index in self._collection.indexes())
        parts = {"alignment": self._backend.fell_back(), "neighbours": indexes}
        return tuple(part for part, failed in parts.items() if failed)

    def plan(self, query: Query) -> Plan:
        """Returns the plan of a query, without searching."""
        candidates = self._candidates(query.among)
        return plan(
            query.method,
            len(query.sequence),
            documents=len(candidates.ids),
            snippets=candidates.snippets,
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

        Raises QueryError if a query has no snippets; ValueError if a method is unknown, a `top` is less than 1, or a
        query needs places or systems and has none.
        """
        queries = list(queries)
        planned = [self._planned(query) for query in queries]
        for item in planned:
            _log(item.plan)
        # The steps after the alignment are mostly Python, so threads would wait for each other.
        return [self._answer(item, aligned) for item, aligned in zip(planned, self._aligned(planned), strict=True)]

    def ranking(self, query: Query) -> Ranking:
        """Returns the ids of all documents ranked for a query, without reading documents. Errors: see `answers`.

        Nothing is logged: an evening asks hundreds of times.
        """
        planned = self._planned(query)
        (aligned,) = self._aligned([planned])
        stopwatch = Stopwatch({} if aligned is None else {"align": aligned.took_ms})
        ranked, ids = self._rank(planned, aligned, stopwatch), self._candidates(query.among).ids
        ranked_ids = tuple(ids[number] for number in ranked.numbers.tolist())
        return Ranking(ids=ranked_ids, keys=ranked.keys, timings_ms=stopwatch.times_ms)

    def _planned(self, query: Query) -> _Planned:
        """Returns the query without what holds no music, with its plan. Errors: see `answers`."""
        _check(query)
        if query.method not in PUBLISHED:
            heard = replace(query.sequence, embeddings=without_still(query.sequence.embeddings))
            query = replace(query, sequence=heard)
        return _Planned(query=query, plan=self.plan(query))

    def _aligned(self, planned: list[_Planned]) -> list[_Aligned | None]:
        """Returns, for each query, the costs of all documents, or None if the query's plan does not align them all."""
        aligned: list[_Aligned | None] = [None] * len(planned)
        batches: dict[tuple[Kind, Alignment], list[int]] = {}
        for i, item in enumerate(planned):
            if item.plan.neighbours == 0:
                batches.setdefault((item.query.among, self._alignment(item.query)), []).append(i)
        for (among, settings), members in batches.items():
            packed = self._collection.packed(among)
            started = time.perf_counter()
            embeddings = [planned[i].query.sequence.embeddings for i in members]
            results = self._backend.align_many(embeddings, packed, settings)
            took_ms = (time.perf_counter() - started) * 1000
            for i, result in zip(members, results, strict=True):
                aligned[i] = _Aligned(costs=result.costs, took_ms=took_ms)
        return aligned

    def _answer(self, planned: _Planned, aligned: _Aligned | None) -> Answer:
        """Returns the answer to one query. aligned: costs of all documents, if the plan aligns them all."""
        query, stopwatch = planned.query, Stopwatch()
        with stopwatch("total"):
            ranked = self._rank(planned, aligned, stopwatch)
            ids = self._candidates(query.among).ids
            best = ranked.numbers[: query.top].tolist()
            matches = tuple(_match(ranked, i, self._collection.document(ids[number])) for i, number in enumerate(best))
            if query.locate:
                settings = ranked.alignment or self._alignment(query)
                with stopwatch("locate"):
                    matches = tuple(
                        self._located(match, query, settings) if query.is_wanted() else match for match in matches
                    )
        times_ms = stopwatch.times_ms
        if aligned is not None:
            times_ms = {"align": aligned.took_ms} | times_ms | {"total": times_ms["total"] + aligned.took_ms}
        return Answer(
            matches=matches,
            plan=planned.plan,
            in_collection=_in_collection(ranked),
            partial=ranked.alignment is not None,
            timings_ms=times_ms,
        )

    def _rank(self, planned: _Planned, aligned: _Aligned | None, stopwatch: Stopwatch) -> _Ranked:
        """Returns the ranked documents of a query, with their confidences. aligned: see `_answer`."""
        query, plan = planned.query, planned.plan
        candidates = self._candidates(query.among)
        numbers, votes = np.arange(plan.documents), None
        if aligned is not None:
            costs, documents = aligned.costs, self._collection.packed(query.among)
        else:
            with stopwatch("vote" if plan.method == "vote" else "fingerprint"):
                votes, keys, numbers = self._voted(query, plan)
            if plan.aligned == 0:
                return _Ranked(numbers=numbers, keys=keys[numbers], votes=votes[numbers])
            numbers = np.sort(numbers[: plan.aligned])
            with stopwatch("read"):
                documents = candidates.sequences.take(numbers)
            with stopwatch("align"):
                costs = self._backend.align(query.sequence.embeddings, documents, self._alignment(query)).costs
        ranked = _by_cost(numbers, costs, votes, candidates)
        if self._calibration is None or query.method in PUBLISHED or _same_kind(query) or len(ranked.numbers) == 0:
            return ranked
        embeddings = query.sequence.embeddings
        with stopwatch("judge"):
            confidences = self._calibration.probabilities(
                embeddings, query.among, ranked.keys, self._backend, documents=plan.documents
            )
        ranked = replace(ranked, confidences=confidences)
        rests = self._calibration.rests
        if rests is None or not self._holds_more(query, ranked, rests):
            return ranked
        with stopwatch("rest"):
            rested = _by_cost(numbers, self._backend.align(embeddings, documents, rests).costs, votes, candidates)
            confidences = self._calibration.rested_probabilities(
                embeddings, query.among, rested.keys, self._backend, documents=plan.documents
            )
        rested = replace(rested, confidences=confidences, alignment=rests)
        return rested if rested.sure > ranked.sure else ranked

    def _holds_more(self, query: Query, ranked: _Ranked, rests: Alignment) -> bool:
        """Returns whether the query may hold more than the best match, so that it is worth aligning with rests.

        It may if the best match is not sure, or if its alignment with rests leaves out a stretch of MIN_REST snippets.
        """
        if not ranked.sure:
            return True
        document = self._collection.sequence(self._candidates(query.among).ids[int(ranked.numbers[0])])
        path = self._backend.path(query.sequence.embeddings, document.embeddings, document.bias, rests)
        edges = np.concatenate([[-1], path[:, 0], [len(query.sequence)]])
        return bool(np.diff(edges).max() > MIN_REST)

    def _voted(self, query: Query, plan: Plan) -> tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.int64]]:
        """Returns the votes of each document, the values that rank the documents, and the documents, best first."""
        index, offsets = self._collection.index(query.among), self._candidates(query.among).sequences.offsets
        embeddings, threads = query.sequence.embeddings, self._settings.threads
        if plan.method == "vote":
            votes = voting.vote(index, embeddings, offsets, plan.neighbours, threads=threads)
            return votes.counts, -votes.counts.astype(np.float64), voting.ranking(votes)
        probes = plan.probes or PROBES  # a flat index has no cells and ignores this number
        settings = FingerprintSettings(neighbours=plan.neighbours, probes=probes)
        votes = fingerprint.offsets(index, embeddings, offsets, settings, threads=threads)
        return votes.counts, -votes.similarity, fingerprint.ranking(votes)

    def _alignment(self, query: Query) -> Alignment:
        """Returns the alignment settings of a query.

        Within one kind the bias is ignored, because it measures how much a snippet resembles the *other* kind.
        """
        settings = PUBLISHED.get(query.method, self._settings.alignment)
        return replace(settings, bias_weight=0.0) if _same_kind(query) else settings

    def _located(self, match: Match, query: Query, settings: Alignment) -> Match:
        """Returns the match with its places and, if the query asks for it, its path."""
        sequence = query.sequence
        document = self._collection.sequence(match.document.id)
        path = self._backend.path(sequence.embeddings, document.embeddings, document.bias, settings)
        if len(path) == 0:
            return match
        ruler = location.Ruler.of(document, match.document.systems)
        reach = location.reach(self._collection.network.front_end, sequence.kind)
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

    def _candidates(self, kind: Kind) -> _Candidates:
        """Returns the documents of one kind, listed once and kept."""
        if kind not in self._kinds:
            ids = self._collection.ids(kind)
            id_ranks = np.argsort(np.argsort(np.array(ids, dtype=object)))
            self._kinds[kind] = _Candidates(ids=ids, sequences=self._collection.stored(kind), id_ranks=id_ranks)
        return self._kinds[kind]


def _by_cost(
    numbers: NDArray[np.int64],
    costs: NDArray[np.float32],
    votes: NDArray[np.int64] | None,
    candidates: _Candidates,
) -> _Ranked:
    """Returns the documents that have an alignment, ranked by cost and then by id.

    numbers, costs: (k,), of the documents that were aligned. votes: of all candidates.
    """
    order = np.lexsort((candidates.id_ranks[numbers], costs))
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
    """Returns whether the best match is likely right; None if there is no confidence, or no match."""
    return None if ranked.confidences is None else bool(ranked.confidences[0] >= IN_COLLECTION)
