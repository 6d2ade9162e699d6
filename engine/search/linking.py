"""Which documents of a collection are of the same work: editions of a score, recordings of it, and recordings of both.

Each document is a query among the others. Within a kind two documents are of one work if both find each other, each at
a low cost: their snippets lie in one space, and what is wrong costs much more than what is right. On validation,
editions cost .04 to .11 and other rags .35 and more; performances of one piece on two pianos, or by two pianists, cost
.11 to .29, and other pieces .40 and more. The confidence of a cost is a logistic function between these. A recording
and a score are judged by the confidence of queries.

A document that holds much more than the other, such as a volume or a recital, is not of its work, but `segment` finds
it there. So costs must be low in both directions, and a recording must run through half of a score.

Each document asks once within its kind, and each recording once among scores. Searches in large collections align a
shortlist, so the time grows little faster than the collection.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.alignment import Backend
from engine.collection import AnyCollection
from engine.config import Alignment
from engine.search.confidence import LIKELY
from engine.search.searcher import Query, Searcher
from engine.search.works import key
from engine.values import Document, Kind, Match, Snippets

MIDDLE: dict[Kind, float] = {"score": 0.23, "recording": 0.35}
"""Cost at which two documents of a kind are as likely of one work as not."""
WIDTH: dict[Kind, float] = {"score": 0.03, "recording": 0.02}
"""Width of the logistic function: three of it from the middle, the confidence is .95 or .05."""
NEIGHBOURS = 12
"""Matches of a document that are considered within its kind, and among scores."""
MIN_SNIPPETS = 24
"""Length of the shortest document that is compared within its kind: a shorter one is like others by chance."""
MIN_COVERED = 0.5
"""Smallest share of a score that a recording of it runs through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLink:
    """Two documents that seem to be of one work."""

    ids: tuple[str, str]
    """Ids of both, in alphabetical order."""
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A document of a proposed work."""

    document: Document
    confidence: float
    """Confidence of its surest link to another document of the work."""
    linked: str
    """Id of that document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedWork:
    """Documents that seem to be of one work."""

    name: str
    members: tuple[Member, ...]
    """At least two, scores first."""


class Linker:
    """Compares the documents of one collection."""

    def __init__(self, collection: AnyCollection, searcher: Searcher, backend: Backend, alignment: Alignment) -> None:
        self._collection = collection
        self._searcher = searcher
        self._backend = backend
        self._alignment = alignment

    def links(self, between: Callable[[], None] = lambda: None) -> list[DocumentLink]:
        """Returns the likely links, by their ids. between: is called before each search."""
        found: dict[tuple[str, str], float] = {}
        for kind in ("score", "recording"):
            costs = {pair: cost for id in self._ids(kind) for pair, cost in self._costs(id, kind, between)}
            for one, other in costs:
                if one < other and (other, one) in costs:
                    cost = max(costs[one, other], costs[other, one])
                    found[one, other] = 1 / (1 + math.exp(min(50.0, (cost - MIDDLE[kind]) / WIDTH[kind])))
        for id in self._ids("recording"):
            between()
            for match in self._matches(id, "recording", "score"):
                if (match.confidence or 0.0) >= LIKELY and self._covered(id, match.document.id) >= MIN_COVERED:
                    first, second = sorted((id, match.document.id))
                    found[first, second] = match.confidence or 0.0
        return [DocumentLink(ids=ids, confidence=one) for ids, one in sorted(found.items()) if one >= LIKELY]

    def _ids(self, kind: Kind) -> tuple[str, ...]:
        return self._collection.ids(kind)

    def _costs(self, id: str, kind: Kind, between: Callable[[], None]) -> Iterator[tuple[tuple[str, str], float]]:
        """Yields the cost of a document, as a query, with each of its nearest others of the kind, by both ids."""
        between()
        if self._collection.document(id).snippets < MIN_SNIPPETS:
            return
        for match in self._matches(id, kind, kind):
            if match.document.id != id and match.cost is not None and match.document.snippets >= MIN_SNIPPETS:
                yield (id, match.document.id), match.cost

    def _matches(self, id: str, kind: Kind, among: Kind) -> Sequence[Match]:
        """Returns the best matches of a document that is itself the query."""
        embeddings = self._collection.sequence(id).embeddings
        asked = Query(
            sequence=Snippets(kind=kind, embeddings=embeddings), among=among, top=NEIGHBOURS + 1, locate=False
        )
        return self._searcher.answers([asked])[0].matches

    def _covered(self, recording: str, score: str) -> float:
        """Returns the share of a score from the first to the last snippet that a recording runs through."""
        query, document = self._collection.sequence(recording), self._collection.sequence(score)
        path = self._backend.path(query.embeddings, document.embeddings, document.bias, self._alignment)
        return float(path[:, 1].max() - path[:, 1].min() + 1) / len(document) if len(path) else 0.0


def proposed(links: Iterable[DocumentLink], documents: Sequence[Document]) -> list[ProposedWork]:
    """Returns the works that links make of documents, in the order of the documents.

    The name of a work is the one that most of its documents have; else the title of its first document, with the id
    where another work has this name.
    """
    best: dict[str, tuple[float, str]] = {}
    parents = {document.id: document.id for document in documents}
    for link in links:
        for one, other in itertools.permutations(link.ids):
            best[one] = max(best.get(one, (0.0, "")), (link.confidence, other))
        first, second = (_root(parents, id) for id in link.ids)
        parents[second] = first
    groups: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        if document.id in best:
            groups[_root(parents, document.id)].append(document)
    taken = Counter(key(document.work) for document in documents if document.work and document.id not in best)
    return [
        ProposedWork(
            name=_name(group, taken),
            members=tuple(
                Member(document=one, confidence=best[one.id][0], linked=best[one.id][1])
                for one in sorted(group, key=lambda one: one.kind != "score")
            ),
        )
        for group in groups.values()
    ]


def _root(parents: dict[str, str], id: str) -> str:
    """Returns the document that stands for the group of a document."""
    while parents[id] != id:
        parents[id] = parents[parents[id]]
        id = parents[id]
    return id


def _name(group: Sequence[Document], taken: Counter[str]) -> str:
    """Returns the name of a work, and counts it as taken."""
    named = Counter(document.work for document in group if document.work)
    if named:
        name = named.most_common(1)[0][0]
    else:
        first = min(group, key=lambda one: one.kind != "score")
        name = first.title or first.id
        name = f"{name} ({first.id})" if taken[key(name)] else name
    taken[key(name)] += 1
    return name
