"""Search, in the order it runs: vote, shortlist, align, rank, locate."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine import alignment, location, voting
from engine.alignment import Backend
from engine.collection import Collection
from engine.config import Alignment, SearchSettings
from engine.errors import QueryError
from engine.values import PLACE_DTYPES, Answer, Document, Kind, Match, Packed, Sequence, System

Method = Literal["refine", "vote", "exhaustive"]
"""`refine`: the documents with most votes are aligned. `vote`: votes alone rank. `exhaustive`: all are aligned."""


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


class Searcher:
    """Answers queries from one collection; any number of threads may ask it at once.

    backend: what aligns; chosen here unless given.
    """

    def __init__(
        self, collection: Collection, settings: SearchSettings | None = None, backend: Backend | None = None
    ) -> None:
        self._collection = collection
        self._settings = settings or SearchSettings()
        self._backend = backend or alignment.choose(threads=self._settings.threads)
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
        """The `top` best matches among the documents of a kind, and what each stage took.

        A document that cannot be aligned with the query, such as one too short for the steps, is no match.
        locate: False leaves out where the matches lie, which has to be found for each of them by itself.
        path: True tells the whole path of each match that is located; of a score that asks, `systems` are then needed.
        timings_ms: of `vote`, `align` and `locate`, those that ran, and `total`.

        Raises QueryError if the query holds no snippets; ValueError if `method` is unknown or `top` less than 1.
        """
        if len(sequence) == 0:
            raise QueryError("the query holds no snippets: expected at least one")
        if method not in get_args(Method) or top < 1:
            raise ValueError(f"expected a method of {get_args(Method)} and a top of at least 1, got {method}, {top}")
        stopwatch = _Stopwatch()
        with stopwatch("total"):
            documents = self._candidates(among).documents
            ranked = self._rank(sequence, among, method, stopwatch)
            matches = {
                number: Match(
                    rank=i + 1, document=documents[number], cost=float(ranked.costs[i]), votes=int(ranked.votes[i])
                )
                for i, number in enumerate(ranked.numbers[:top].tolist())
            }
            if locate:
                with stopwatch("locate"):
                    asking = systems if path else None
                    matches = {
                        number: self._locate(match, sequence, number, asking) for number, match in matches.items()
                    }
        return Answer(matches=tuple(matches.values()), timings_ms=stopwatch.times_ms)

    def _rank(self, sequence: Sequence, among: Kind, method: Method, stopwatch: _Stopwatch) -> _Ranked:
        count = len(self._candidates(among).documents)
        numbers, votes = np.arange(count), np.zeros(count, dtype=np.int64)
        if method != "exhaustive":
            with stopwatch("vote"):
                given = self._vote(sequence, among)
                votes = given.counts
                if method == "vote":
                    numbers = voting.ranking(given)
                else:
                    numbers = np.sort(voting.shortlist(given, self._settings.shortlist))
        if method == "vote":
            return _Ranked(numbers=numbers, costs=-votes[numbers] / max(1, votes.sum()), votes=votes[numbers])
        with stopwatch("align"):
            costs, order = self._align(sequence, among, numbers)
        return _Ranked(numbers=numbers[order], costs=costs[order], votes=votes[numbers[order]])

    def _align(
        self, sequence: Sequence, among: Kind, numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The costs of these candidates, whose numbers rise, and the order that ranks those that have one."""
        candidates = self._candidates(among)
        some = len(numbers) < len(candidates.documents)
        packed = candidates.packed.take(numbers) if some else candidates.packed
        costs = self._backend.align(sequence.embeddings, packed, self._alignment(sequence, among)).costs
        order = np.lexsort((candidates.id_ranks[numbers], costs))
        return costs, order[np.isfinite(costs[order])]

    def _vote(self, sequence: Sequence, among: Kind) -> voting.Votes:
        index, offsets = self._collection.index(among), self._candidates(among).packed.offsets
        neighbours, threads = self._settings.neighbours, self._settings.threads
        return voting.vote(index, sequence.embeddings, offsets, neighbours, threads=threads)

    def _alignment(self, sequence: Sequence, among: Kind) -> Alignment:
        """The settings for this query. The bias tells how a snippet resembles the *other* kind."""
        same_kind = sequence.places.dtype == PLACE_DTYPES[among]
        settings = self._settings.alignment
        return replace(settings, use_bias=settings.use_bias and not same_kind)

    def _locate(self, match: Match, sequence: Sequence, number: int, asking: tuple[System, ...] | None) -> Match:
        """The match with its place and, unless `asking` is None, its path; `asking` is the query's systems, if any."""
        packed = self._candidates(match.document.kind).packed
        part = slice(*packed.offsets[number : number + 2])
        settings = self._alignment(sequence, match.document.kind)
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
