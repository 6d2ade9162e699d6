"""How a query is answered, as shipped: each budget is reached, and then passed by one."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from collection_samples import NETWORK, document, embeddings, packed, sequence
from engine import alignment
from engine.collection import Collection, CollectionWriter
from engine.config import Alignment, FrontEnd, SearchSettings
from engine.embedding.encoder import Encoder
from engine.neighbours import FlatIndex, build
from engine.neighbours.interface import Neighbours
from engine.search import fingerprint, searcher, shard, voting
from engine.search.confidence import Calibration, features
from engine.search.plan import affordable, shortlist
from engine.search.searcher import Searcher
from engine.values import Embeddings, Packed, Snippets
from indexer import build as indexer_build

DOCUMENTS, SNIPPETS = 12, 40


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """Scores s0, s1 and so on."""
    path: Path = tmp_path_factory.mktemp("search") / "c"
    with CollectionWriter(path, NETWORK) as writer:
        for number in range(DOCUMENTS):
            writer.put(document(f"s{number}"), sequence(SNIPPETS, seed=number))
        writer.commit()
    with Collection.open(path) as opened:
        yield opened


def heard(length: int, seed: int = 3) -> Snippets:
    return Snippets(
        kind="recording", embeddings=np.ascontiguousarray(np.resize(embeddings(SNIPPETS, seed), (length, 32)))
    )


# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "documents"),
    [(4166, 3000), (4168, 2999), (12_500, 1000), (123_762, 101), (123_763, 100), (125_001, 100), (10**9, 100)],
)
def test_a_shortlist_is_paid_for_by_12_500_000_pairs_of_snippets(pairs: int, documents: int) -> None:
    assert shortlist(1, pairs) == shortlist(pairs, 1.0) == shortlist(pairs, 0.0) == documents


@pytest.mark.parametrize(
    ("length", "neighbours", "probes"),
    [
        (1, 1024, 512),
        (12, 1024, 512),
        (13, 945, 472),
        (121, 101, 50),
        (122, 100, 50),
        (123, 100, 49),
        (128, 100, 48),
        (129, 100, 48),
        (10_000, 100, 48),
    ],
)
def test_a_query_looks_up_so_much_for_each_of_its_snippets(length: int, neighbours: int, probes: int) -> None:
    given = affordable(length)
    assert (given.neighbours, given.probes) == (neighbours, probes)


@pytest.mark.parametrize(("length", "looked_up"), [(127, 127), (128, 128), (129, 65), (256, 128), (257, 86)])
def test_128_snippets_of_a_query_are_looked_up(length: int, looked_up: int) -> None:
    asked: list[int] = []

    class Asked(FlatIndex):
        def search(self, query: Embeddings, k: int, probes: int = 0) -> Neighbours:
            asked.append(len(query))
            return super().search(query, k, probes)

    rows = packed(embeddings(300))
    fingerprint.offsets(Asked(build(rows, threads=1).raw), embeddings(length, 1), rows.offsets)
    assert asked == [looked_up]


# --- what the searcher does with them ---------------------------------------------------------------------------------


class Counted:
    """A backend that counts the documents it aligns with each query."""

    def __init__(self) -> None:
        self.documents: list[int] = []
        self._plain = alignment.choose("cpu")

    @property
    def backend(self) -> alignment.Backend:
        return replace(self._plain, align=self._align, align_many=self._align_many)

    def _align(self, query: Embeddings, documents: Packed, settings: Alignment) -> Any:
        self.documents.append(len(documents.offsets) - 1)
        return self._plain.align(query, documents, settings)

    def _align_many(self, queries: Any, documents: Packed, settings: Alignment) -> Any:
        self.documents += [len(documents.offsets) - 1] * len(queries)
        return self._plain.align_many(queries, documents, settings)


@pytest.mark.parametrize(("size", "aligned"), [(0, 12), (1, 1), (5, 5), (12, 12), (13, 12)])
def test_as_many_documents_are_aligned_as_were_planned(collection: Collection, size: int, aligned: int) -> None:
    counted = Counted()
    asked = Searcher(collection, SearchSettings(shortlist=size), counted.backend)
    assert len(asked.query(heard(9), "score", top=100, locate=False).matches) == aligned
    assert counted.documents == [aligned]


def test_the_index_is_asked_for_as_many_neighbours_as_were_planned(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int]] = []

    def noted(find: Any) -> Any:
        def nearest(index: Any, query: Embeddings, k: int, *, threads: int, probes: int = 64) -> Neighbours:
            asked.append((k, probes, threads))
            return find(index, query, k, threads=threads, probes=probes)

        return nearest

    monkeypatch.setattr(shard, "nearest", noted(shard.nearest))
    asking = Searcher(collection, SearchSettings(shortlist=5))
    for method, length in (("vote", 9), ("refine", 9), ("fingerprint", 92)):
        asking.query(heard(length), "score", method, locate=False)  # type: ignore[arg-type]
    rows = collection.kinds["score"].snippets  # fewer than the 1024 neighbours of a short query
    assert asked == [(25 + voting.SPARE, 64, 2), (rows, 64, 2), (133, 64, 2)]


def test_every_snippet_gives_25_votes(collection: Collection) -> None:
    matches = Searcher(collection).query(heard(9), "score", "vote", top=100, locate=False).matches
    assert sum(match.votes or 0 for match in matches) == 25 * 9


# --- settings and confidence ------------------------------------------------------------------------------------------


def test_a_search_is_set_as_its_settings_say() -> None:
    usual = Alignment(steps="wide", whole=False, normalise="query", jump_penalty=2.0, bias_weight=0.25, int8=False)
    assert SearchSettings() == SearchSettings(neighbours=25, shortlist=0, alignment=usual, threads=2)


def test_the_shipped_network_sees_and_hears_as_the_settings_say() -> None:
    usual = FrontEnd(
        staff_space_px=7.0,
        strip_rows=160,
        snippet_px=200,
        snippet_hop_px=50,
        excerpt_frames=84,
        excerpt_hop_frames=10,
        gain="excerpt",
        bands="published",
        compression=1.0,
    )
    assert FrontEnd() == Encoder.load().identity.front_end == usual


def test_the_shipped_calibration_is_for_the_shipped_network_and_alignment() -> None:
    calibration = Calibration.load(None, Encoder.load().identity, Alignment())
    assert calibration is not None
    assert set(calibration.scales) == {"score", "recording"}


@pytest.mark.parametrize(
    ("confidence", "inside"),
    [
        (1.0, True),
        (0.8, True),
        (np.nextafter(0.8, 0), None),
        (0.5, None),
        (np.nextafter(0.5, 0), False),
        (0.0, False),
    ],
)
def test_a_piece_is_in_the_collection_from_point_eight_and_in_doubt_from_a_half(
    confidence: float, inside: bool | None
) -> None:
    some = np.array([0])
    ranked = searcher._Ranked(numbers=some, keys=some, confidences=np.array([confidence]))
    assert searcher._in_collection(ranked) is inside


def test_confidence_counts_1400_documents_and_takes_more_for_as_many() -> None:
    costs = np.linspace(0.3, 0.9, 9).astype(np.float32)
    sizes = [features(costs, costs, snippets=9, documents=count)[0, 2] for count in (1, 1399, 1400, 1401, 10**6)]
    assert sizes == pytest.approx([math.log(count) for count in (1, 1399, 1400, 1400, 1400)])


def test_a_confidence_needs_five_others_to_compare_with() -> None:
    costs = np.linspace(0.3, 0.9, 5).astype(np.float32)
    (first, *_) = features(costs, costs[-1:] + 1, snippets=9, documents=5)
    assert first[4] == pytest.approx(math.log(5) * (0.3 - 1.9))  # the fifth of the others
    with pytest.raises(ValueError, match="expected more than 5 costs"):
        features(costs, costs[:0], snippets=9, documents=5)


# --- what an index made anew is measured by ---------------------------------------------------------------------------


@pytest.mark.usefixtures("indexed")
def test_recall_is_of_a_hundred_neighbours_of_256_snippets_in_the_cells_of_long_and_short_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, int]] = []

    def nearest(index: Any, query: Embeddings, k: int, *, threads: int, probes: int) -> Neighbours:
        told.append((len(query), k, probes))
        return index.search(query, k, probes)  # type: ignore[no-any-return]

    monkeypatch.setattr(indexer_build, "nearest", nearest)
    with CollectionWriter(tmp_path, NETWORK) as writer:
        for number in range(4):
            writer.put(document(f"s{number}"), sequence(100, seed=number))
        indexer_build.build(writer)
    assert told == [(256, 100, 66), (256, 100, 512)]
