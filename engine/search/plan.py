"""The plan of a query: how many neighbours are searched, which documents are aligned, and why.

The plan is made once, before the query runs. `refine` aligns all documents as long as this is faster than building a
shortlist. In a larger collection `refine` searches the nearest neighbours of the query's snippets, ranks the documents
by their fingerprints, and aligns the best. The numbers of neighbours and of aligned documents come from fixed budgets,
so a query takes about the same time whatever its length and the size of the collection. Each snippet of a short query
gets more neighbours, because among 2e7 snippets the right ones are rarely among the nearest hundred.
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
"""Smallest and largest number of documents on a shortlist, unless the settings give a number. The fingerprint of a
short query is less reliable, and its budget allows more documents."""

NEIGHBOUR_BUDGET, MIN_NEIGHBOURS, MAX_NEIGHBOURS = 12_288, 100, 1024
"""Budget of a query in neighbours, and the smallest and largest number of neighbours of each query snippet. Each of
twelve snippets gets the largest number, and needs it. In a query of a hundred snippets a few hits each are enough."""
PROBE_BUDGET, MAX_PROBES = 6_144, 512
"""Budget of a query in index cells, and the largest number of cells searched for each query snippet. The smallest
number is 48, since at most MAX_LOOKED_UP snippets of a query are looked up."""


def plan(
    method: Method, length: int, *, documents: int, snippets: int, settings: SearchSettings, backend: Backend
) -> Plan:
    """Returns the plan of a query.

    length: number of snippets of the query.
    documents, snippets: numbers of documents and snippets of the kind searched in the collection.
    """
    aligns_all, reason = _aligns_all(method, length, snippets, settings, backend)
    aligned, neighbours, probes = documents, 0, 0
    if not aligns_all:
        budget = affordable(length)
        neighbours, probes = (settings.neighbours, PROBES) if method == "vote" else (budget.neighbours, budget.probes)
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
    """Returns whether this many document snippets are kept in memory, so that a query can be aligned with all."""
    return snippets <= backend.max_resident


def shortlist(length: int, mean_length: float) -> int:
    """Returns the number of documents on a shortlist.

    length: number of snippets of the query. mean_length: mean number of snippets of a document.
    """
    return int(np.clip(SHORTLIST_CELLS / (length * max(1.0, mean_length)), MIN_SHORTLIST, MAX_SHORTLIST))


def affordable(length: int) -> FingerprintSettings:
    """Returns the neighbours and index cells of each query snippet that the budgets allow a query of this length."""
    looked_up = max(1, min(length, MAX_LOOKED_UP))
    return FingerprintSettings(
        neighbours=min(max(NEIGHBOUR_BUDGET // looked_up, MIN_NEIGHBOURS), MAX_NEIGHBOURS),
        probes=min(PROBE_BUDGET // looked_up, MAX_PROBES),
    )


def _aligns_all(
    method: Method, length: int, snippets: int, settings: SearchSettings, backend: Backend
) -> tuple[bool, str]:
    """Returns whether all documents are aligned, and the reason."""
    if method == "vote":
        return False, "vote ranks by the nearest neighbours of the query's snippets, and aligns nothing"
    if method == "fingerprint":
        return False, "fingerprint ranks by neighbours in line, and aligns nothing"
    if method != "refine":
        return True, f"{method} aligns every document"
    if settings.shortlist:
        return False, f"the settings ask for a shortlist of {settings.shortlist} documents"
    if cell_count(snippets) == 0:
        return True, f"the collection is small: aligning all {snippets} snippets is faster than an exact search"
    if not fits_in_memory(snippets, backend):
        return False, f"the collection has {snippets} snippets, and at most {backend.max_resident} are kept in memory"
    pairs, limit = length * snippets, backend.max_exhaustive_cells
    if pairs <= limit:
        return True, f"aligning {pairs} pairs of snippets (limit: {limit}) is faster than building a shortlist"
    return False, f"aligning {pairs} pairs of snippets (limit: {limit}) is slower than building a shortlist"
