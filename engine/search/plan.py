"""How is a query answered? Decided once, before it runs: what is looked up, which documents are aligned, and why.

`refine` aligns all documents as long as that takes less time than choosing some. In a larger collection it looks up the
nearest neighbours of the query's snippets, ranks documents by their fingerprints, and aligns the best of them. What is
looked up and aligned depends on the query's length alone, so that a query takes about the same time whatever its length
and however large the collection. Short queries get more of both: among 2e7 snippets the right ones are seldom among the
nearest hundred.
"""

import numpy as np

from engine.alignment import Backend
from engine.config import SearchSettings
from engine.neighbours import PROBES, cell_count
from engine.search.fingerprint import MAX_LOOKED_UP, FingerprintSettings
from engine.values import Method, Plan

SHORTLIST_CELLS = 12_500_000
"""Budget of a shortlist, in pairs of query and document snippets: 30 to 40 ms on one core."""
MIN_SHORTLIST, MAX_SHORTLIST = 100, 3000
"""Documents on a shortlist, unless the settings say how many. A short query finds its piece less surely by its
fingerprint, and its budget allows more documents."""

HITS, MIN_NEIGHBOURS, MAX_NEIGHBOURS = 12_288, 100, 1024
"""Budget of a query in neighbours, and how many each of its snippets gets at least and at most. Twelve snippets get the
most each, and need them; of a hundred snippets a few hits are enough."""
LOOKS, MAX_PROBES = 6_144, 512
"""The same for cells of the index. At least 48 are left for each, since so few snippets of a query are looked up."""


def plan(
    method: Method, length: int, *, documents: int, snippets: int, settings: SearchSettings, backend: Backend
) -> Plan:
    """How a query is answered.

    length: snippets of the query.
    documents, snippets: how many the collection holds of the kind searched.
    """
    aligns_all, reason = _aligns_all(method, length, snippets, settings, backend)
    aligned, neighbours, probes = documents, 0, 0
    if not aligns_all:
        given = affordable(length)
        neighbours, probes = (settings.neighbours, PROBES) if method == "vote" else (given.neighbours, given.probes)
        aligned = 0
        if method == "refine":
            aligned = min(documents, settings.shortlist or shortlist(length, snippets / max(1, documents)))
    return Plan(
        method=method,
        backend=backend.name,
        documents=documents,
        aligned=aligned,
        neighbours=neighbours,
        probes=probes if cell_count(snippets) else 0,
        reason=reason,
    )


def fits_in_memory(snippets: int, backend: Backend) -> bool:
    """Whether so many document snippets are kept in memory, for queries that are aligned with all of them."""
    return snippets <= backend.max_resident


def shortlist(length: int, usual: float) -> int:
    """How many documents a shortlist has, for a query of `length` snippets and documents of `usual` ones on average."""
    return int(np.clip(SHORTLIST_CELLS / (length * max(1.0, usual)), MIN_SHORTLIST, MAX_SHORTLIST))


def affordable(length: int) -> FingerprintSettings:
    """The neighbours and cells that the snippets of a query of this length get, so that all queries take as long."""
    looked_up = max(1, min(length, MAX_LOOKED_UP))
    return FingerprintSettings(
        neighbours=min(max(HITS // looked_up, MIN_NEIGHBOURS), MAX_NEIGHBOURS),
        probes=min(LOOKS // looked_up, MAX_PROBES),
    )


def _aligns_all(
    method: Method, length: int, snippets: int, settings: SearchSettings, backend: Backend
) -> tuple[bool, str]:
    """Whether all documents are aligned, and why, or why not."""
    if method == "vote":
        return False, "vote ranks by the nearest neighbours of the query's snippets, and aligns nothing"
    if method == "fingerprint":
        return False, "fingerprint ranks by neighbours in line, and aligns nothing"
    if method != "refine":
        return True, f"{method} aligns every document"
    if settings.shortlist:
        return False, f"the settings ask for a shortlist of {settings.shortlist} documents"
    if cell_count(snippets) == 0:
        return True, f"to align so few as {snippets} snippets takes less time than to find their nearest ones exactly"
    if not fits_in_memory(snippets, backend):
        return False, f"{snippets} snippets are more than the {backend.max_resident} that are kept in memory"
    pairs, limit = length * snippets, backend.max_exhaustive_cells
    if pairs <= limit:
        return True, f"to align {pairs} pairs of snippets, at most {limit}, takes less time than to make a shortlist"
    return False, f"to align {pairs} pairs of snippets, more than {limit}, takes more time than to make a shortlist"
