"""The demo's queries: each piece by its recording and by its pages, whole and in fragments of about 20 seconds."""

import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engine import metrics
from engine.collection import Collection
from engine.embedding import documents
from engine.embedding.documents import Encoder
from engine.search.searcher import Searcher
from engine.values import OTHER, Document, Kind, Method, SnippetSequence, System
from indexer.demo.files import Files, recording_id, score_id

Length = Literal["whole", "20 s"]

METHODS: tuple[Method, ...] = ("vote", "refine")
FIGURES = ("n", "R@1", "R@10", "MRR", "MR")
"""Figures of `metrics.summarise` that come first in a row of the table."""
LENGTHS: tuple[Length, ...] = ("whole", "20 s")
KINDS: tuple[Kind, ...] = ("recording", "score")
DIRECTIONS: dict[Kind, str] = {"recording": "A2S", "score": "S2A"}

FRAGMENT_S = 20.0
"""Length of a fragment, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoQuery:
    """A document or a part of one, to be searched among the documents of the other kind."""

    document: Document
    truth: str
    """Id of the right document."""
    length: Length
    sequence: SnippetSequence
    start_s: float = 0.0
    """Start of the part, if the document is a recording."""
    end_s: float = 0.0
    """End of the part, if the document is a recording."""
    systems: tuple[System, ...] = ()
    """Systems of the part, if the document is a score."""

    @property
    def direction(self) -> str:
        """`A2S` for a recording, `S2A` for a score."""
        return DIRECTIONS[self.document.kind]

    @property
    def among(self) -> Kind:
        """The kind of the documents that are searched."""
        return OTHER[self.document.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The outcome of one search for a query."""

    query: DemoQuery
    method: Method
    rank: float
    """Rank of the right document; infinite if it is not ranked."""
    seconds: float
    """Time of the search, without embedding."""


def queries(collection: Collection, made: Sequence[Files], encoder: Encoder) -> list[DemoQuery]:
    """Four queries for each piece whose score and recording are both in the collection.

    The query of a whole document is the sequence in the collection, which equals that of embedding the file again. The
    fragment of a recording is 20 seconds from a random place, decoded and embedded again. The fragment of a score is a
    run of systems from a random place that lasts 20 seconds, if all systems last equally long.
    """
    rng = np.random.default_rng(0)
    known = {document.id for document in collection.documents}
    both = [files for files in made if {score_id(files.piece), recording_id(files.piece)} <= known]
    return [query for files in both for query in _queries_of(collection, files, encoder, rng)]


def _queries_of(
    collection: Collection, files: Files, encoder: Encoder, rng: np.random.Generator
) -> tuple[DemoQuery, ...]:
    """The four queries of one piece: recording and score, whole and as a fragment."""
    score, recording = (collection.document(id) for id in (score_id(files.piece), recording_id(files.piece)))
    sequence = collection.sequence(score.id)
    start_s = round(float(rng.uniform(0, max(0.0, recording.duration_s - FRAGMENT_S))), 1)
    end_s = min(recording.duration_s, start_s + FRAGMENT_S)
    _, cut = documents.embed(files.recording, "recording", encoder, start_s, end_s)
    return (
        DemoQuery(
            document=recording,
            truth=score.id,
            length="whole",
            sequence=collection.sequence(recording.id),
            end_s=recording.duration_s,
        ),
        DemoQuery(document=recording, truth=score.id, length="20 s", sequence=cut, start_s=start_s, end_s=end_s),
        DemoQuery(document=score, truth=recording.id, length="whole", sequence=sequence, systems=score.systems),
        run_of_systems(score, sequence, recording.duration_s, rng, recording.id),
    )


def run_of_systems(
    score: Document, sequence: SnippetSequence, duration_s: float, rng: np.random.Generator, truth: str = ""
) -> DemoQuery:
    """The query of a run of systems, from a random system on, that lasts about 20 of the score's `duration_s` seconds.

    Only snippets that lie inside the run belong to the query. The run grows until it contains a snippet.
    """
    total = len(score.systems)
    count = min(total, max(1, round(total * FRAGMENT_S / duration_s)))
    first = int(rng.integers(total - count + 1))
    while True:
        systems = score.systems[first : first + count]
        inside = sequence.places["system"] >= systems[0].number
        inside &= sequence.places["end_system"] <= systems[-1].number
        if inside.any() or len(systems) == total:
            break
        first, count = max(0, first - 1), count + 1
    return DemoQuery(document=score, truth=truth, length="20 s", sequence=sequence.part(inside), systems=systems)


def search(searcher: Searcher, query: DemoQuery, method: Method) -> DemoResult:
    """The result of searching the query among all documents of the other kind."""
    started = time.perf_counter()
    answer = searcher.query(query.sequence, query.among, method, sys.maxsize, locate=False)
    seconds = time.perf_counter() - started
    ids = [match.document.id for match in answer.matches]
    return DemoResult(
        query=query, method=method, rank=float(metrics.ranks_of([ids], [query.truth])[0]), seconds=seconds
    )


def rows(results: Sequence[DemoResult]) -> list[dict[str, Any]]:
    """The table: a row for each direction, length and method; `seconds` is the mean time of a search."""
    table = []
    for kind, length, method in itertools.product(KINDS, LENGTHS, METHODS):
        group = [
            result
            for result in results
            if (result.query.document.kind, result.query.length, result.method) == (kind, length, method)
        ]
        if group:
            quality = metrics.summarise(np.array([result.rank for result in group])).row()
            row = {"direction": DIRECTIONS[kind], "query": length, "method": method}
            row |= {name: quality[name] for name in FIGURES}
            table.append(row | {"seconds": float(np.mean([result.seconds for result in group]))} | quality)
    return table
