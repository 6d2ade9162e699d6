"""How queries are answered at the default settings, at each limit and one beyond."""

from dataclasses import replace

import pytest

from engine import alignment
from engine.alignment import GPU_MAX_EXHAUSTIVE_CELLS, GPU_MAX_RESIDENT
from engine.config import SearchSettings
from engine.search.plan import affordable, fits_in_memory, plan
from engine.values import Method, Plan

CPU = alignment.choose("cpu")
GPU = replace(CPU, name="gpu", max_resident=GPU_MAX_RESIDENT, max_exhaustive_cells=GPU_MAX_EXHAUSTIVE_CELLS)
TEN_SECONDS, FIFTY_SECONDS = 12, 92
"""Snippets of a query."""


def planned(
    length: int,
    snippets: int,
    *,
    documents: int = 10_000,
    method: Method = "refine",
    settings: SearchSettings = SearchSettings(),  # noqa: B008  # frozen
    backend: alignment.Backend = CPU,
) -> Plan:
    return plan(method, length, documents=documents, snippets=snippets, settings=settings, backend=backend)


@pytest.mark.parametrize(
    ("length", "most"),
    [(1000, 250_000), (FIFTY_SECONDS, 434_782), (TEN_SECONDS, 3_333_333), (10, 4_000_000), (1, 4_000_000)],
)
def test_all_documents_are_aligned_up_to_a_limit_and_a_shortlist_beyond(length: int, most: int) -> None:
    last, beyond = planned(length, most), planned(length, most + 1)
    assert (last.aligned, last.neighbours, last.probes) == (10_000, 0, 0)
    assert beyond.aligned < 10_000
    assert beyond.neighbours >= 100
    assert beyond.probes >= 32


@pytest.mark.parametrize(
    ("length", "snippets", "why"),
    [
        (1000, 250_000, "aligning all 250000 snippets is faster"),
        (1000, 250_001, "aligning 250001000 pairs of snippets (limit: 40000000) is slower"),
        (TEN_SECONDS, 3_000_000, "aligning 36000000 pairs of snippets (limit: 40000000) is faster"),
        (1, 4_000_001, "4000001 snippets, and at most 4000000 are kept in memory"),
    ],
)
def test_the_reason_names_the_limit(length: int, snippets: int, why: str) -> None:
    assert why in planned(length, snippets).reason


@pytest.mark.parametrize(
    ("length", "aligned", "neighbours", "probes"),
    [(1, 3000, 1024, 512), (TEN_SECONDS, 2970, 1024, 512), (FIFTY_SECONDS, 387, 133, 66), (5000, 100, 100, 48)],
)
def test_short_queries_look_up_and_align_more(length: int, aligned: int, neighbours: int, probes: int) -> None:
    found = planned(length, 20_000_000, documents=57_026)
    assert (found.aligned, found.neighbours, found.probes) == (aligned, neighbours, probes)
    assert (found.neighbours, found.probes) == (affordable(length).neighbours, affordable(length).probes)


def test_a_shortlist_has_no_more_documents_than_there_are() -> None:
    assert planned(TEN_SECONDS, 20_000_000, documents=7).aligned == 7


def test_settings_say_how_long_a_shortlist_is_however_small_the_collection() -> None:
    found = planned(TEN_SECONDS, 1000, settings=SearchSettings(shortlist=5), documents=20)
    assert (found.aligned, found.neighbours, found.probes) == (5, 1024, 0)  # so few have no cells
    assert found.reason == "the settings ask for a shortlist of 5 documents"


def test_methods_that_vote_align_nothing() -> None:
    votes, hits = (planned(FIFTY_SECONDS, 20_000_000, method=method) for method in ("vote", "fingerprint"))
    assert (votes.aligned, votes.neighbours, votes.probes) == (0, 25, 64)
    assert (hits.aligned, hits.neighbours, hits.probes) == (0, 133, 66)


@pytest.mark.parametrize("method", ["exhaustive", "sdtw", "dtw"])
def test_the_other_methods_align_everything(method: Method) -> None:
    found = planned(5000, 20_000_000, method=method)
    assert (found.aligned, found.neighbours, found.reason) == (10_000, 0, f"{method} aligns every document")


def test_a_gpu_aligns_more_and_keeps_more_in_memory() -> None:
    assert planned(100, 50_000_000, backend=GPU).aligned == 10_000
    assert planned(100, 50_000_001, backend=GPU).aligned < 10_000
    assert planned(101, 50_000_000, backend=GPU).aligned < 10_000
    assert [fits_in_memory(snippets, GPU) for snippets in (50_000_000, 50_000_001)] == [True, False]
    assert planned(1, 1, backend=GPU).backend == "gpu"
    assert [fits_in_memory(snippets, CPU) for snippets in (4_000_000, 4_000_001)] == [True, False]


def test_an_empty_collection_has_a_plan() -> None:
    assert planned(TEN_SECONDS, 0, documents=0).aligned == 0
