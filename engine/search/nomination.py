"""Nomination: which documents may be played in each part of a long query.

Windows of the query are searched for like queries of their own, of some twenty seconds of sound, or some three systems.
The best matches of a window are nominated for the stage of the chain that it lies in, and for the stages beside it, for
a piece that a border cuts is recognised on one side of the border only. So the number of documents of a stage depends
neither on the length of the query nor on the size of the collection.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from engine.alignment.chains import Stage
from engine.search.passages import Numbers, Searched
from engine.search.searcher import Query
from engine.values import Embeddings, Snippets

WINDOW, HOP = 40, 20
"""Snippets of a window, and from one window to the next."""
NOMINATED = 6
"""Documents that a window nominates. The right one is first in 97 of 100 windows of the rags on four pianos."""
STAGE = 512
"""Snippets of a stage: some four minutes of sound."""
MAX_SNIPPETS = 100_000
"""Document snippets of a stage, which bound its memory and time. Documents that do not fit beside those with more
nominations are left out; a longer document is never played in a long query."""


def stages(searched: Searched, query: Embeddings, between: Callable[[], None]) -> list[Stage]:
    """Returns the stages of a query, float32 (n, 32), with the documents that are nominated for each.

    between: is called before each window is searched for. It may raise, which ends the work.
    """
    count = -(-len(query) // STAGE)
    nominated: list[list[tuple[str, ...]]] = [[] for _ in range(count)]
    for first in range(0, max(1, len(query) - WINDOW + HOP), HOP):
        window = query[first : first + WINDOW]
        if not window.any():
            continue  # nothing changes in it, so it holds no music
        between()
        middle, ids = min((first + WINDOW // 2) // STAGE, count - 1), best(searched, window)
        for stage in range(max(0, middle - 1), min(count, middle + 2)):
            nominated[stage].append(ids)
    rows = (min(STAGE, len(query) - first) for first in range(0, len(query), STAGE))
    return [Stage(rows=own, documents=affordable(given, searched)) for own, given in zip(rows, nominated, strict=True)]


def best(searched: Searched, window: Embeddings) -> tuple[str, ...]:
    """Returns the ids of the documents that a window nominates, the best first."""
    sequence = Snippets(kind=searched.kind, embeddings=window)
    ranking = searched.searcher.ranking(Query(sequence=sequence, among=searched.among, locate=False))
    return ranking.ids[:NOMINATED]


def affordable(nominated: Iterable[tuple[str, ...]], searched: Searched) -> Numbers:
    """Returns the numbers of the nominated documents whose snippets fit into a stage, those with most votes first in.

    The numbers rise.

    nominated: by each window, the best first.
    """
    votes: dict[int, float] = defaultdict(float)
    for ids in nominated:
        for place, id in enumerate(ids):
            votes[searched.numbers[id]] += 1 / (1 + place)
    by_votes = sorted(votes, key=lambda number: (-votes[number], number))
    kept: list[int] = []
    room = MAX_SNIPPETS
    for number in by_votes:
        if (size := int(searched.sizes[number])) <= room:
            kept.append(number)
            room -= size
    return np.array(sorted(kept), dtype=np.int64)
