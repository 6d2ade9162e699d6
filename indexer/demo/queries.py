"""The demo's queries: every piece by its recording and by its pages, whole and in fragments of about 20 seconds."""

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
LENGTHS: tuple[Length, ...] = ("whole", "20 s")
KINDS: tuple[Kind, ...] = ("recording", "score")
DIRECTIONS: dict[Kind, str] = {"recording": "A2S", "score": "S2A"}

FRAGMENT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoQuery:
    """One document, or a part of it, asked for among those of the other kind."""

    document: Document
    truth: str
    """The id of the document that is to be found."""
    length: Length
    sequence: SnippetSequence
    start_s: float = 0.0
    """The part of a recording, in seconds ..."""
    end_s: float = 0.0
    systems: tuple[System, ...] = ()
    """... or of a score."""

    @property
    def direction(self) -> str:
        return DIRECTIONS[self.document.kind]

    @property
    def among(self) -> Kind:
        return OTHER[self.document.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What became of a query."""

    query: DemoQuery
    method: Method
    rank: float
    """Of the right document; infinite if it is not ranked."""
    seconds: float


def queries(collection: Collection, made: Sequence[Files], encoder: Encoder) -> list[DemoQuery]:
    """Four queries for each piece that is in the collection both ways.

    A whole document is asked for by what the collection holds of it, which is what embedding its file again would
    give. Of a recording, 20 seconds from a random place are cut, decoded and embedded anew. Of a score, as many
    systems are taken from a random place on as hold 20 seconds of music, if all its systems last equally long.
    """
    rng = np.random.default_rng(0)
    found: list[DemoQuery] = []
    held = {document.id for document in collection.documents}
    for files in made:
        ids = score_id(files.piece), recording_id(files.piece)
        if not held.issuperset(ids):
            continue
        score, recording = (collection.document(id) for id in ids)
        start_s = round(float(rng.uniform(0, max(0.0, recording.duration_s - FRAGMENT_S))), 1)
        end_s = min(recording.duration_s, start_s + FRAGMENT_S)
        _, cut = documents.embed(files.recording, "recording", encoder, start_s, end_s)
        found += [
            DemoQuery(
                document=recording,
                truth=score.id,
                length="whole",
                sequence=collection.sequence(recording.id),
                end_s=recording.duration_s,
            ),
            DemoQuery(document=recording, truth=score.id, length="20 s", sequence=cut, start_s=start_s, end_s=end_s),
            DemoQuery(
                document=score,
                truth=recording.id,
                length="whole",
                sequence=collection.sequence(score.id),
                systems=score.systems,
            ),
            run_of_systems(score, collection.sequence(score.id), recording.duration_s, rng, recording.id),
        ]
    return found


def run_of_systems(
    score: Document, sequence: SnippetSequence, duration_s: float, rng: np.random.Generator, truth: str = ""
) -> DemoQuery:
    """As many systems from a random one on as hold about 20 of the `duration_s` seconds that the score takes.

    More of them if so few hold no snippet: only snippets that lie inside them count.
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


def ask(searcher: Searcher, query: DemoQuery, method: Method) -> DemoResult:
    """The query put to all documents of the other kind."""
    started = time.perf_counter()
    answer = searcher.query(query.sequence, query.among, method, sys.maxsize, locate=False)
    seconds = time.perf_counter() - started
    ids = [match.document.id for match in answer.matches]
    return DemoResult(
        query=query, method=method, rank=float(metrics.ranks_of([ids], [query.truth])[0]), seconds=seconds
    )


def rows(answers: Sequence[DemoResult]) -> list[dict[str, Any]]:
    """The table: a row for each direction, length and method; `seconds` is the mean of a search, embedding aside."""
    table = []
    for kind, length, method in itertools.product(KINDS, LENGTHS, METHODS):
        of_row = [
            asked
            for asked in answers
            if (asked.query.document.kind, asked.query.length, asked.method) == (kind, length, method)
        ]
        if of_row:
            quality = metrics.summarise(np.array([asked.rank for asked in of_row])).row()
            row = {"direction": DIRECTIONS[kind], "query": length, "method": method}
            row |= {name: quality[name] for name in FIGURES}
            table.append(row | {"seconds": float(np.mean([asked.seconds for asked in of_row]))} | quality)
    return table
