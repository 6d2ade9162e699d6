"""Search, in the order it runs: plan, shortlist, align, rank, judge, locate."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from engine import alignment
from engine.alignment import Backend
from engine.collection import Collection
from engine.config import PUBLISHED_DTW, PUBLISHED_SDTW, Alignment, SearchSettings
from engine.errors import QueryError
from engine.neighbours import PROBES, cell_count
from engine.search import fingerprint, location, voting
from engine.search.confidence import IN_COLLECTION, Calibration, Probabilities
from engine.search.fingerprint import FingerprintSettings
from engine.search.plan import fits_in_memory, plan
from engine.stopwatch import Stopwatch
from engine.values import Answer, Document, Documents, Kind, Match, Method, Plan, Snippets, SnippetSequence, System

logger = logging.getLogger(__name__)

PUBLISHED = {"sdtw": PUBLISHED_SDTW, "dtw": PUBLISHED_DTW}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """The documents of one kind."""

    ids: tuple[str, ...]
    sequences: Documents
    """Left on disk."""
    id_ranks: NDArray[np.int64]
    """(B,) place of each document in the order of ids, which settles ties."""

    @property
    def snippets(self) -> int:
        return int(self.sequences.offsets[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """What was found, best first; all (k,)."""

    numbers: NDArray[np.int64]
    """Which of the candidates."""
    keys: NDArray[np.floating]
    """What they are ranked by, lower is better."""
    costs: NDArray[np.float32] | None = None
    votes: NDArray[np.int64] | None = None
    confidences: Probabilities | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked."""

    sequence: Snippets
    """A path needs a SnippetSequence."""
    among: Kind
    """The kind of documents searched."""
    method: Method = "refine"
    top: int = 10
    """Matches that are told."""
    locate: bool = True
    """False leaves out where the matches lie, which has to be found for each of them by itself."""
    path: bool = False
    """Tells the whole path of each match that is located: `sequence` then has places, and a score its `systems`."""
    systems: tuple[System, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """All that was ranked, best first."""

    ids: tuple[str, ...]
    keys: NDArray[np.floating]
    """(ids,) what they are ranked by, lower is better: costs, minus the votes, or minus the weight of hits in line."""
    timings_ms: dict[str, float]
    """As those of an answer, without `locate` and `total`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aligned:
    """Costs of all documents of the kind searched, and what it took to get them, with all queries in the same go."""

    costs: NDArray[np.float32]
    took_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    query: Query
    plan: Plan


class Searcher:
    """Answers queries from one collection; any number of threads may ask it at once.

    backend: what aligns; chosen here unless given.
    calibration: what judges the matches; None leaves them without confidence.
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
        """Reads or maps into memory what queries will need, which otherwise the first of them waits for."""
        for kind in get_args(Kind):
            snippets = self._candidates(kind).snippets
            if fits_in_memory(snippets, self._backend):
                self._collection.packed(kind)
            if cell_count(snippets) > 0:
                self._collection.index(kind)

    def plan(self, query: Query) -> Plan:
        """How the query would be answered, and why; nothing is searched."""
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
        """The answer to one query; its arguments are those of `Query`, its errors those of `answers`."""
        asked = Query(sequence=sequence, among=among, method=method, top=top, locate=locate, path=path, systems=systems)
        return self.answers([asked])[0]

    def answers(self, queries: Iterable[Query]) -> list[Answer]:
        """For each query the best matches among the documents of its kind, how sure they are, and what each stage took.

        A document that cannot be aligned with the query, such as one too short for the steps, is no match.
        Confidence is told by `refine` and `exhaustive`, if there is a calibration, of documents of the other kind.
        Queries that are aligned with all documents are so together, which is faster than one by one.
        timings_ms: of `vote`, `fingerprint`, `read`, `align`, `judge` and `locate`, those that ran, and `total`.

        Raises QueryError if a query holds no snippets; ValueError if a method is unknown or a `top` less than 1.
        """
        queries = list(queries)
        planned = [self._planned(query) for query in queries]
        # What is left after the alignment is mostly Python: threads would wait for each other.
        return [self._answer(one, aligned) for one, aligned in zip(planned, self._aligned(planned), strict=True)]

    def ranking(self, query: Query) -> Ranking:
        """The ids of all that is ranked for a query; no document is read. Its errors are those of `answers`."""
        one = self._planned(query)
        (aligned,) = self._aligned([one])
        stopwatch = Stopwatch({} if aligned is None else {"align": aligned.took_ms})
        ranked, ids = self._rank(one, aligned, stopwatch), self._candidates(query.among).ids
        found = tuple(ids[number] for number in ranked.numbers.tolist())
        return Ranking(ids=found, keys=ranked.keys, timings_ms=stopwatch.times_ms)

    def _planned(self, query: Query) -> _Planned:
        _check(query)
        made = self.plan(query)
        logger.info(
            "%s aligns %d of %d documents on %s and looks up %d neighbours in %d cells for each query snippet: %s",
            *(made.method, made.aligned, made.documents, made.backend, made.neighbours, made.probes, made.reason),
        )
        return _Planned(query=query, plan=made)

    def _aligned(self, planned: list[_Planned]) -> list[_Aligned | None]:
        """The costs of all documents, for each query whose plan is to align them all."""
        found: list[_Aligned | None] = [None] * len(planned)
        together: dict[tuple[Kind, Alignment], list[int]] = {}
        for i, one in enumerate(planned):
            if one.plan.neighbours == 0:
                together.setdefault((one.query.among, self._alignment(one.query)), []).append(i)
        for (among, settings), members in together.items():
            packed = self._collection.packed(among)
            started = time.perf_counter()
            embeddings = [planned[i].query.sequence.embeddings for i in members]
            results = self._backend.align_many(embeddings, packed, settings)
            took_ms = (time.perf_counter() - started) * 1000
            for i, result in zip(members, results, strict=True):
                found[i] = _Aligned(costs=result.costs, took_ms=took_ms)
        return found

    def _answer(self, planned: _Planned, aligned: _Aligned | None) -> Answer:
        query, stopwatch = planned.query, Stopwatch()
        with stopwatch("total"):
            ranked = self._rank(planned, aligned, stopwatch)
            ids = self._candidates(query.among).ids
            best = ranked.numbers[: query.top].tolist()
            matches = tuple(_match(ranked, i, self._collection.document(ids[number])) for i, number in enumerate(best))
            if query.locate:
                with stopwatch("locate"):
                    matches = tuple(self._located(match, query) for match in matches)
        times_ms = stopwatch.times_ms
        if aligned is not None:
            times_ms = {"align": aligned.took_ms} | times_ms | {"total": times_ms["total"] + aligned.took_ms}
        return Answer(matches=matches, plan=planned.plan, in_collection=_in_collection(ranked), timings_ms=times_ms)

    def _rank(self, planned: _Planned, aligned: _Aligned | None, stopwatch: Stopwatch) -> _Ranked:
        query, made = planned.query, planned.plan
        candidates = self._candidates(query.among)
        numbers, votes, costs = np.arange(made.documents), None, None
        if aligned is not None:
            costs = aligned.costs
        else:
            with stopwatch("vote" if made.method == "vote" else "fingerprint"):
                votes, keys, numbers = self._voted(query, made)
            if made.aligned == 0:
                return _Ranked(numbers=numbers, keys=keys[numbers], votes=votes[numbers])
            numbers = np.sort(numbers[: made.aligned])
            with stopwatch("read"):
                some = candidates.sequences.take(numbers)
            with stopwatch("align"):
                costs = self._backend.align(query.sequence.embeddings, some, self._alignment(query)).costs
        order = np.lexsort((candidates.id_ranks[numbers], costs))
        order = order[np.isfinite(costs[order])]
        numbers, costs = numbers[order], costs[order]
        ranked = _Ranked(numbers=numbers, keys=costs, costs=costs, votes=None if votes is None else votes[numbers])
        if self._calibration is None or query.method in PUBLISHED or _same_kind(query) or len(order) == 0:
            return ranked
        with stopwatch("judge"):
            confidences = self._calibration.probabilities(
                query.sequence.embeddings, query.among, costs, self._backend, documents=made.documents
            )
        return replace(ranked, confidences=confidences)

    def _voted(self, query: Query, made: Plan) -> tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.int64]]:
        """The votes of each document, what the documents are ranked by, and all of them in that order."""
        index, offsets = self._collection.index(query.among), self._candidates(query.among).sequences.offsets
        embeddings, threads = query.sequence.embeddings, self._settings.threads
        if made.method == "vote":
            votes = voting.vote(index, embeddings, offsets, made.neighbours, threads=threads)
            return votes.counts, -votes.counts.astype(np.float64), voting.ranking(votes)
        probes = made.probes or PROBES  # a flat index has no cells to choose
        settings = FingerprintSettings(neighbours=made.neighbours, probes=probes)
        votes = fingerprint.offsets(index, embeddings, offsets, settings, threads=threads)
        return votes.counts, -votes.similarity, fingerprint.ranking(votes)

    def _alignment(self, query: Query) -> Alignment:
        """The settings for this query. The bias tells how a snippet resembles the *other* kind."""
        settings = PUBLISHED.get(query.method, self._settings.alignment)
        return replace(settings, bias_weight=0.0) if _same_kind(query) else settings

    def _located(self, match: Match, query: Query) -> Match:
        """The match with its place and, if it is asked for, its path."""
        sequence, settings = query.sequence, self._alignment(query)
        document = self._collection.sequence(match.document.id)
        path = self._backend.path(sequence.embeddings, document.embeddings, document.bias, settings)
        if len(path) == 0:
            return match
        found = location.Ruler.of(document, match.document.systems)
        reach = location.reach(self._collection.network.front_end, sequence.kind)
        place, parts = location.where(path, found, reach)
        match = replace(match, place=place, parts=parts)
        if not (query.path and isinstance(sequence, SnippetSequence)):
            return match
        return replace(match, path=location.points(path, location.Ruler.of(sequence, query.systems), found))

    def _candidates(self, kind: Kind) -> _Candidates:
        if kind not in self._kinds:
            ids = self._collection.ids(kind)
            id_ranks = np.argsort(np.argsort(np.array(ids, dtype=object)))
            self._kinds[kind] = _Candidates(ids=ids, sequences=self._collection.stored(kind), id_ranks=id_ranks)
        return self._kinds[kind]


def _check(query: Query) -> None:
    if len(query.sequence) == 0:
        raise QueryError("the query holds no snippets: expected at least one")
    if query.path and not isinstance(query.sequence, SnippetSequence):
        raise ValueError(
            "expected a query whose snippets have places, since its path is asked for; got embeddings alone"
        )
    if query.method not in get_args(Method) or query.top < 1:
        expected = f"a method of {get_args(Method)} and a top of at least 1"
        raise ValueError(f"expected {expected}, got {query.method}, {query.top}")


def _same_kind(query: Query) -> bool:
    return query.sequence.kind == query.among


def _match(ranked: _Ranked, place: int, document: Document) -> Match:
    """The match at a place, from 0, of what was ranked."""
    confidence = None if ranked.confidences is None else float(ranked.confidences[place])
    cost = None if ranked.costs is None else float(ranked.costs[place])
    votes = None if ranked.votes is None else int(ranked.votes[place])
    return Match(rank=place + 1, document=document, cost=cost, votes=votes, confidence=confidence)


def _in_collection(ranked: _Ranked) -> bool | None:
    """Whether the best match is likely right; of no match at all that is not known."""
    return None if ranked.confidences is None else bool(ranked.confidences[0] >= IN_COLLECTION)
