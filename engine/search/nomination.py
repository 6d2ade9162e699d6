"""Nomination: which documents may be played in each part of a long query.

Windows of the query are searched for like queries of their own, of some twenty seconds of sound, or some three systems.
The best matches of a window are nominated for the stage of the chain that it lies in, and for the stages beside it, for
a piece that a border cuts is recognised on one side of the border only. So the number of documents of a stage depends
neither on the length of the query nor on the size of the collection.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.alignment.chains import Stage
from engine.search.searcher import Query, Searcher
from engine.values import Kind, Snippets

WINDOW, HOP = 40, 20
"""Snippets of a window, and from one window to the next."""
NOMINATED = 6
"""Documents that a window nominates. The right one is first in 97 of 100 windows of the rags on four pianos."""
STAGE = 512
"""Snippets of a stage: some four minutes of sound."""
MAX_SNIPPETS = 100_000
"""Document snippets of a stage, which bound its memory and time. Documents with the fewest nominations are left out."""


def stages(
    searcher: Searcher, query: Snippets, among: Kind, lengths: dict[str, int], between: Callable[[], None]
) -> list[Stage]:
    """Returns the stages of a query with the documents that are nominated for each.

    lengths: number of snippets of each document of the kind `among`, by its id, in the order of the collection.
    between: is called before each window is searched for. It may raise, which ends the work.
    """
    numbers = {id: number for number, id in enumerate(lengths)}
    count = -(-len(query) // STAGE)
    votes: list[dict[int, float]] = [defaultdict(float) for _ in range(count)]
    for first in range(0, max(1, len(query) - WINDOW + HOP), HOP):
        window = query.embeddings[first : first + WINDOW]
        if not window.any():
            continue  # nothing changes in it, so it holds no music
        between()
        asked = Query(sequence=Snippets(kind=query.kind, embeddings=window), among=among, locate=False)
        middle = min((first + WINDOW // 2) // STAGE, count - 1)
        for place, id in enumerate(searcher.ranking(asked).ids[:NOMINATED]):
            for stage in range(max(0, middle - 1), min(count, middle + 2)):
                votes[stage][numbers[id]] += 1 / (1 + place)
    sizes = np.fromiter(lengths.values(), dtype=np.int64, count=len(lengths))
    rows = (min(STAGE, len(query) - first) for first in range(0, len(query), STAGE))
    return [Stage(rows=own, documents=_affordable(given, sizes)) for own, given in zip(rows, votes, strict=True)]


def _affordable(votes: dict[int, float], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the numbers of the documents with most votes whose snippets fit into a stage, rising."""
    by_votes = sorted(votes, key=lambda number: (-votes[number], number))
    totals = itertools.accumulate(int(sizes[number]) for number in by_votes)
    kept = [number for number, total in zip(by_votes, totals, strict=True) if total <= MAX_SNIPPETS]
    return np.array(sorted(kept), dtype=np.int64)
