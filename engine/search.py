"""Search, in the order it runs: shortlist, align, rank, judge, locate."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine import alignment, fingerprint, location, voting
from engine.alignment import Backend
from engine.collection import Collection
from engine.confidence import IN_COLLECTION, Calibration, Probabilities
from engine.config import PUBLISHED_DTW, PUBLISHED_SDTW, Alignment, SearchSettings
from engine.errors import QueryError
from engine.values import PLACE_DTYPES, Answer, Document, Kind, Match, Packed, Sequence, System
from engine.voting import Votes

Method = Literal["refine", "exhaustive", "vote", "fingerprint", "sdtw", "dtw"]
"""`refine`: documents are aligned, in a large collection those of a shortlist. `exhaustive`: all are. `vote`,
`fingerprint`: rank without alignment. `sdtw`, `dtw`: all are aligned as published, the query with a part or with the
whole of each."""

ALIGN_ALL = 1_000_000
"""Up to so many snippets of the kind searched every document is aligned, unless settings name a shortlist ..."""
SHORTLIST = 200
"""... and among more of them so many documents."""

PUBLISHED = {"sdtw": PUBLISHED_SDTW, "dtw": PUBLISHED_DTW}


@dataclass(slots=True)
class _Stopwatch:
    times_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.times_ms[stage] = (time.perf_counter() - started) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """The documents of one kind."""

    documents: tuple[Document, ...]
    """Document b is the b-th of `packed`."""
    packed: Packed
    id_ranks: NDArray[np.int64]
    """(B,) place of each document in the order of ids, which settles ties."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """What was found, best first; all (k,)."""

    numbers: NDArray[np.int64]
    """Which of the candidates."""
    costs: NDArray[np.floating]
    votes: NDArray[np.int64]
    confidences: Probabilities | None = None


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

    def query(
        self,
        sequence: Sequence,
        among: Kind,
        method: Method = "refine",
        top: int = 10,
        *,
        locate: bool = True,
        path: bool = False,
        systems: tuple[System, ...] = (),
    ) -> Answer:
        """The `top` best matches among the documents of a kind, how sure they are, and what each stage took.

        A document that cannot be aligned with the query, such as one too short for the steps, is no match.
        Confidence is told by `refine` and `exhaustive`, if there is a calibration, of documents of the other kind.
        locate: False leaves out where the matches lie, which has to be found for each of them by itself.
        path: True tells the whole path of each match that is located; of a score that asks, `systems` are then needed.
        timings_ms: of `vote`, `fingerprint`, `align`, `judge` and `locate`, those that ran, and `total`.

        Raises QueryError if the query holds no snippets; ValueError if `method` is unknown or `top` less than 1.
        """
        if len(sequence) == 0:
            raise QueryError("the query holds no snippets: expected at least one")
        if method not in get_args(Method) or top < 1:
            raise ValueError(f"expected a method of {get_args(Method)} and a top of at least 1, got {method}, {top}")
        stopwatch = _Stopwatch()
        with stopwatch("total"):
            ranked = self._rank(sequence, among, method, stopwatch)
            documents = self._candidates(among).documents
            matches = {
                number: _match(ranked, i, documents[number]) for i, number in enumerate(ranked.numbers[:top].tolist())
            }
            if locate:
                with stopwatch("locate"):
                    asking, settings = systems if path else None, self._alignment(sequence, among, method)
                    matches = {
                        number: self._locate(match, sequence, number, settings, asking)
                        for number, match in matches.items()
                    }
        return Answer(
            matches=tuple(matches.values()), in_collection=_in_collection(ranked), timings_ms=stopwatch.times_ms
        )

    def _rank(self, sequence: Sequence, among: Kind, method: Method, stopwatch: _Stopwatch) -> _Ranked:
        if method in ("vote", "fingerprint"):
            with stopwatch(method):
                votes, numbers = self._voted(sequence, among, method)
            given = (votes.counts if method == "vote" else votes.similarity)[numbers]
            return _Ranked(numbers=numbers, costs=-given / (given.sum() or 1), votes=votes.counts[numbers])
        count = len(self._candidates(among).documents)
        numbers, counts = np.arange(count), np.zeros(count, dtype=np.int64)
        few = len(self._candidates(among).packed.bias) <= ALIGN_ALL
        if method == "refine" and (self._settings.shortlist or not few):
            with stopwatch("fingerprint"):
                votes, numbers = self._voted(sequence, among, "fingerprint")
            numbers, counts = np.sort(numbers[: self._settings.shortlist or SHORTLIST]), votes.counts
        with stopwatch("align"):
            costs, order = self._align(sequence, among, numbers, self._alignment(sequence, among, method))
        ranked = _Ranked(numbers=numbers[order], costs=costs[order], votes=counts[numbers[order]])
        calibration = self._calibration
        if calibration is None or method in PUBLISHED or _same_kind(sequence, among) or len(order) == 0:
            return ranked
        with stopwatch("judge"):
            confidences = calibration.probabilities(
                sequence.embeddings, among, costs[order], self._backend, documents=count
            )
        return replace(ranked, confidences=confidences)

    def _voted(self, sequence: Sequence, among: Kind, method: Method) -> tuple[Votes, NDArray[np.int64]]:
        """What each document got, and all of them in the order that this makes."""
        index, packed = self._collection.index(among), self._candidates(among).packed
        query, threads = sequence.embeddings, self._settings.threads
        if method == "vote":
            votes = voting.vote(index, query, packed.offsets, self._settings.neighbours, threads=threads)
            return votes, voting.ranking(votes)
        bias = None if _same_kind(sequence, among) else packed.bias
        votes = fingerprint.offsets(index, query, packed.offsets, bias, threads=threads)
        return votes, fingerprint.ranking(votes)

    def _align(
        self, sequence: Sequence, among: Kind, numbers: NDArray[np.int64], settings: Alignment
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The costs of these candidates, whose numbers rise, and the order that ranks those that have one."""
        candidates = self._candidates(among)
        some = len(numbers) < len(candidates.documents)
        packed = candidates.packed.take(numbers) if some else candidates.packed
        costs = self._backend.align(sequence.embeddings, packed, settings).costs
        order = np.lexsort((candidates.id_ranks[numbers], costs))
        return costs, order[np.isfinite(costs[order])]

    def _alignment(self, sequence: Sequence, among: Kind, method: Method) -> Alignment:
        """The settings for this query. The bias tells how a snippet resembles the *other* kind."""
        settings = PUBLISHED.get(method, self._settings.alignment)
        return replace(settings, bias_weight=0.0) if _same_kind(sequence, among) else settings

    def _locate(
        self,
        match: Match,
        sequence: Sequence,
        number: int,
        settings: Alignment,
        asking: tuple[System, ...] | None,
    ) -> Match:
        """The match with its place and, unless `asking` is None, its path; `asking` is the query's systems, if any."""
        packed = self._candidates(match.document.kind).packed
        part = slice(*packed.offsets[number : number + 2])
        path = self._backend.path(sequence.embeddings, packed.embeddings[part], packed.bias[part], settings)
        if len(path) == 0:
            return match
        found = location.Ruler.of(self._collection.sequence(match.document.id).places, match.document.systems)
        reach = location.reach(self._collection.network.front_end, sequence.places)
        match = replace(match, **location.where(path, found, reach))
        if asking is None:
            return match
        return replace(match, path=location.points(path, location.Ruler.of(sequence.places, asking), found))

    def _candidates(self, kind: Kind) -> _Candidates:
        if kind not in self._kinds:
            documents = self._collection.of_kind(kind)
            id_ranks = np.argsort(np.argsort([document.id for document in documents]))
            packed = self._collection.packed(kind)
            self._kinds[kind] = _Candidates(documents=documents, packed=packed, id_ranks=id_ranks)
        return self._kinds[kind]


def _same_kind(sequence: Sequence, among: Kind) -> bool:
    return bool(sequence.places.dtype == PLACE_DTYPES[among])


def _match(ranked: _Ranked, place: int, document: Document) -> Match:
    """The match at a place, from 0, of what was ranked."""
    confidence = None if ranked.confidences is None else float(ranked.confidences[place])
    cost, votes = float(ranked.costs[place]), int(ranked.votes[place])
    return Match(rank=place + 1, document=document, cost=cost, votes=votes, confidence=confidence)


def _in_collection(ranked: _Ranked) -> bool | None:
    """Whether the best match is likely right; of no match at all that is not known."""
    return None if ranked.confidences is None else bool(ranked.confidences[0] >= IN_COLLECTION)
