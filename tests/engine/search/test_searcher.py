"""Queries made from documents find these again, and where they were taken from."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collection_samples import NETWORK, embeddings
from engine import alignment
from engine.collection import Collection, CollectionWriter
from engine.config import Alignment, SearchSettings
from engine.errors import QueryError
from engine.neighbours import cells
from engine.search import plan
from engine.search.searcher import Query, Searcher
from engine.values import (
    PLACE_DTYPES,
    Box,
    Document,
    Kind,
    Method,
    Packed,
    RecordingPosition,
    ScorePosition,
    Snippets,
    SnippetSequence,
    System,
)

SNIPPETS = 40
SNIPPETS_PER_SYSTEM = 5
FEW = SearchSettings(neighbours=3)
"""So small a collection has no 25 neighbours worth a vote."""
PARTIAL: tuple[Method, ...] = ("refine", "vote", "exhaustive", "fingerprint", "sdtw")
"""What finds a part of a document; `dtw` compares the whole of both."""
METHODS: tuple[Method, ...] = (*PARTIAL, "dtw")


def places(kind: Kind, n: int = SNIPPETS) -> np.ndarray:
    """Scores: five snippets a system, each a third wide; recordings: one a half second, 4.2 s long."""
    made = np.zeros(n, dtype=PLACE_DTYPES[kind])
    numbers = np.arange(n)
    if kind == "recording":
        made["start_s"] = numbers / 2
        made["end_s"] = numbers / 2 + 4.2
        return made
    for start, end, shift in (("system", "x", 0.0), ("end_system", "end_x", 1 / 3)):
        turn, share = np.divmod(numbers % SNIPPETS_PER_SYSTEM / SNIPPETS_PER_SYSTEM + shift, 1)
        made[start] = np.minimum(numbers // SNIPPETS_PER_SYSTEM + turn + 1, n // SNIPPETS_PER_SYSTEM)
        made[end] = share
    return made


def document(id: str, kind: Kind) -> Document:
    box = Box(x0=0, y0=0, x1=1, y1=0.1)
    systems = tuple(
        System(page=1 + number // 4, number=number + 1, box=box, staves=(box,), staff_space=0.01, confidence=1)
        for number in range(SNIPPETS // SNIPPETS_PER_SYSTEM if kind == "score" else 0)
    )
    return Document(id=id, kind=kind, content_hash=id, pages=2, systems=systems, duration_s=SNIPPETS / 2)


def sequence(kind: Kind, seed: int, bias: float = 0.0) -> SnippetSequence:
    return SnippetSequence(
        kind=kind,
        embeddings=embeddings(SNIPPETS, seed),
        places=places(kind),
        bias=np.full(SNIPPETS, bias, dtype=np.float32),
    )


def noisy(seed: int, snippets: list[int] | range, kind: Kind) -> SnippetSequence:
    """A query of this kind that resembles some snippets of the document made with `seed`."""
    rows = embeddings(SNIPPETS, seed)[snippets] + 0.1 * np.random.default_rng(9).standard_normal((len(snippets), 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return SnippetSequence(
        kind=kind,
        embeddings=rows.astype(np.float32),
        places=places(kind, len(rows)),
        bias=np.zeros(len(rows), dtype=np.float32),
    )


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """Twelve scores s00.. (seeds 0..), added last first, and twelve recordings r00.. (seeds 100..)."""
    path: Path = tmp_path_factory.mktemp("collection")
    with CollectionWriter(path, NETWORK) as writer:
        for number in reversed(range(12)):
            writer.put(document(f"s{number:02}", "score"), sequence("score", number))
            writer.put(document(f"r{number:02}", "recording"), sequence("recording", 100 + number))
        writer.commit()
    with Collection.open(path) as opened:
        yield opened


@pytest.mark.parametrize("method", PARTIAL)
def test_a_noisy_fragment_of_a_score_finds_its_systems(collection: Collection, method: Method) -> None:
    answer = Searcher(collection, FEW).query(noisy(3, range(13, 24), "recording"), "score", method)
    best = answer.matches[0]
    assert best.document.id == "s03"
    assert [system.number for system in best.place.systems] == [2, 3, 4, 5, 6]  # 4.2 excerpts more at each end
    assert best.place.pages == (1, 2)
    assert best.place.start_x == pytest.approx(1 + 3 / 5 + 1 / 6 - 4.2 / 5)
    assert best.place.end_x == pytest.approx(3 / 5 + 1 / 6 + 4.2 / 5 - 1)
    assert best.place.start_s is None


@pytest.mark.parametrize("method", PARTIAL)
def test_a_noisy_fragment_of_a_recording_finds_its_seconds(collection: Collection, method: Method) -> None:
    answer = Searcher(collection, FEW).query(noisy(107, range(10, 20), "score"), "recording", method)
    best = answer.matches[0]
    assert best.document.id == "r07"
    assert best.place.start_s == pytest.approx(5 + 2.1 - 1)  # two snippets more at each end
    assert best.place.end_s == pytest.approx(19 / 2 + 2.1 + 1)
    assert best.place.systems == ()


def test_refine_equals_exhaustive_when_the_shortlist_covers_everything(collection: Collection) -> None:
    query = noisy(3, range(13, 24), "recording")
    searcher = Searcher(collection, SearchSettings(shortlist=12))
    refined, exhaustive = searcher.query(query, "score", "refine", 12), searcher.query(query, "score", "exhaustive", 12)
    assert [replace(match, votes=None) for match in refined.matches] == list(exhaustive.matches)


def test_refine_answers_only_from_the_shortlist(collection: Collection) -> None:
    query = noisy(3, range(9), "recording")
    answer = Searcher(collection, SearchSettings(shortlist=3)).query(query, "score", top=12)
    assert len(answer.matches) == 3
    assert (answer.matches[0].document.id, answer.matches[0].votes) == ("s03", 9)


def test_the_plan_is_followed_told_and_logged_once_a_query(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cells, "EXACT_ROWS", 0)
    monkeypatch.setattr(plan, "MIN_SHORTLIST", 3)
    monkeypatch.setattr(plan, "SHORTLIST_CELLS", 0)
    query, pairs = noisy(3, range(9), "recording"), 9 * 12 * SNIPPETS
    for limit, matches, neighbours in ((pairs, 12, 0), (pairs - 1, 3, 1024)):
        caplog.clear()
        searcher = Searcher(collection, backend=replace(alignment.choose("cpu"), max_exhaustive_cells=limit))
        with caplog.at_level(logging.INFO, logger="engine.search.searcher"):
            answer = searcher.query(query, "score", top=12)
        assert answer.plan == searcher.plan(Query(sequence=query, among="score"))
        assert (answer.plan.aligned, answer.plan.documents, answer.plan.neighbours) == (matches, 12, neighbours)
        assert len(answer.matches) == matches
        assert [record.message.partition(":")[2].strip() for record in caplog.records] == [answer.plan.reason]


@pytest.mark.parametrize("method", ["vote", "fingerprint"])
def test_what_is_not_aligned_has_votes_and_no_cost(collection: Collection, method: Method) -> None:
    answer = Searcher(collection, SearchSettings(neighbours=1)).query(noisy(3, range(8), "recording"), "score", method)
    assert (answer.matches[0].cost, answer.matches[0].votes) == (None, 8)
    assert answer.plan is not None
    assert answer.plan.aligned == 0


def test_what_is_aligned_without_looking_up_neighbours_has_a_cost_and_no_votes(collection: Collection) -> None:
    (best,) = Searcher(collection).query(noisy(3, range(8), "recording"), "score", top=1).matches
    assert best.votes is None
    assert best.cost is not None


@pytest.mark.parametrize("method", METHODS)
def test_a_ranking_is_by_rising_keys(collection: Collection, method: Method) -> None:
    ranking = Searcher(collection).ranking(
        Query(sequence=noisy(3, range(8), "recording"), among="score", method=method)
    )
    assert ranking.ids[0] == "s03" or method == "dtw"
    assert np.all(np.diff(ranking.keys) >= 0)


def test_matches_are_ranked_from_1_by_rising_cost_and_no_more_than_asked_for(collection: Collection) -> None:
    matches = Searcher(collection).query(noisy(3, range(8), "recording"), "score", top=4).matches
    assert [match.rank for match in matches] == [1, 2, 3, 4]
    assert [match.cost for match in matches] == sorted(match.cost for match in matches)


def test_equal_costs_are_ranked_by_id(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        for id in ("b", "c", "a"):
            writer.put(document(id, "score"), sequence("score", 5))
        writer.commit()
    with Collection.open(tmp_path) as opened:
        for method in ("refine", "exhaustive", "sdtw", "dtw"):
            matches = Searcher(opened).query(noisy(5, range(8), "recording"), "score", method).matches
            assert [match.document.id for match in matches] == ["a", "b", "c"]


def test_the_bias_counts_against_the_other_kind_only(tmp_path: Path) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("plain", "score"), sequence("score", 5))
        writer.put(document("biased", "score"), sequence("score", 5, bias=0.5))
        writer.commit()
    with Collection.open(tmp_path) as opened:
        heard = Searcher(opened).query(noisy(5, range(8), "recording"), "score").matches
        seen = Searcher(opened).query(noisy(5, range(8), "score"), "score").matches
    assert [match.document.id for match in heard] == ["plain", "biased"]
    assert heard[1].cost - heard[0].cost == pytest.approx(0.5 * Alignment().bias_weight, abs=1e-5)
    assert seen[0].cost == seen[1].cost


def test_each_stage_that_ran_is_timed(collection: Collection) -> None:
    searcher, query = Searcher(collection, SearchSettings(shortlist=200)), noisy(3, range(8), "recording")
    stages = {method: list(searcher.query(query, "score", method).timings_ms) for method in METHODS}
    assert stages == {
        "refine": ["fingerprint", "read", "align", "locate", "total"],
        "vote": ["vote", "locate", "total"],
        "fingerprint": ["fingerprint", "locate", "total"],
        "exhaustive": ["align", "locate", "total"],
        "sdtw": ["align", "locate", "total"],
        "dtw": ["align", "locate", "total"],
    }


def test_matches_need_not_be_located(collection: Collection) -> None:
    answer = Searcher(collection).query(noisy(3, range(8), "recording"), "score", locate=False)
    assert answer.matches[0].place.systems == ()
    assert "locate" not in answer.timings_ms


@pytest.mark.parametrize("method", METHODS)
def test_a_collection_without_documents_of_the_kind_gives_an_empty_answer(tmp_path: Path, method: Method) -> None:
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.commit()
    with Collection.open(tmp_path) as opened:
        assert Searcher(opened).query(noisy(3, range(8), "recording"), "score", method).matches == ()


def test_a_query_without_snippets_is_refused(collection: Collection) -> None:
    with pytest.raises(QueryError, match="the query has no snippets"):
        Searcher(collection).query(noisy(3, [], "recording"), "score")


def test_an_unknown_method_is_refused(collection: Collection) -> None:
    with pytest.raises(ValueError, match="expected a method of"):
        Searcher(collection).query(noisy(3, range(8), "recording"), "score", "guess")  # type: ignore[arg-type]


def test_a_document_that_the_steps_cannot_reach_is_no_match(collection: Collection) -> None:
    settings = SearchSettings(alignment=Alignment(jump_penalty=np.inf))
    query = noisy(3, list(range(SNIPPETS)) * 3, "recording")
    assert Searcher(collection, settings).query(query, "score").matches == ()


def test_jumps_cost_less_where_documents_are_ranked_than_where_the_place_is_found(collection: Collection) -> None:
    """The last two rows lie elsewhere: worth a cheap jump, but not a dear one."""
    query = noisy(3, [*range(10, 20), 33, 34], "recording")
    (best,) = Searcher(collection, FEW).query(query, "score", top=1, path=True).matches
    sequence = collection.sequence("s03")
    document = Packed(embeddings=sequence.embeddings, bias=sequence.bias, offsets=np.array([0, SNIPPETS]))
    backend = alignment.choose("definition")
    cheap = backend.align(query.embeddings, document, Alignment().ranking).costs[0]
    dear = backend.align(query.embeddings, document, Alignment()).costs[0]
    assert best.cost == pytest.approx(cheap, abs=1e-5)
    assert cheap < dear - 0.03
    assert best.path[-1].document.system == 5


def test_the_path_of_a_match_is_told_if_asked_for(collection: Collection) -> None:
    searcher, query = Searcher(collection, FEW), noisy(3, range(13, 24), "recording")
    (best,) = searcher.query(query, "score", top=1, path=True).matches
    assert [point.query for point in best.path] == [RecordingPosition(s=pytest.approx(i / 2 + 2.1)) for i in range(11)]
    assert [point.document.system for point in best.path] == [3, 3, 4, 4, 4, 4, 4, 5, 5, 5, 5]
    assert searcher.query(query, "score", top=1).matches[0].path == ()


def test_the_path_of_a_score_that_asks_needs_its_systems(collection: Collection) -> None:
    searcher, query = Searcher(collection, FEW), noisy(107, range(10, 20), "score")
    (best,) = searcher.query(query, "recording", top=1, path=True, systems=document("asked", "score").systems).matches
    assert best.path[0].query == ScorePosition(page=1, system=1, x=pytest.approx(1 / 6))
    with pytest.raises(ValueError, match="expected the systems of the score"):
        searcher.query(query, "recording", top=1, path=True)


def test_queries_answered_together_are_answered_as_one_by_one(collection: Collection) -> None:
    searcher = Searcher(collection, SearchSettings(neighbours=3, threads=2))
    heard, seen = noisy(3, range(8), "recording"), noisy(105, range(5, 20), "score")
    queries = [
        Query(sequence=heard, among="score"),
        Query(sequence=heard, among="recording", top=2),
        Query(sequence=seen, among="recording", path=True, systems=document("asked", "score").systems),
        Query(sequence=heard, among="score", method="sdtw", locate=False),
        Query(sequence=seen, among="recording", method="vote"),
    ]
    for together, query in zip(searcher.answers(queries), queries, strict=True):
        (alone,) = searcher.answers([query])
        assert together.matches == alone.matches
        assert together.timings_ms.keys() == alone.timings_ms.keys()
    assert searcher.answers([]) == []


def test_the_path_of_embeddings_alone_is_refused(collection: Collection) -> None:
    bare = Snippets(kind="recording", embeddings=noisy(3, range(8), "recording").embeddings)
    assert Searcher(collection).query(bare, "score").matches[0].document.id == "s03"
    with pytest.raises(ValueError, match="expected a query whose snippets have places"):
        Searcher(collection).query(bare, "score", path=True)


@pytest.mark.parametrize("method", ["refine", "fingerprint", "sdtw"])
def test_noise_resembles_no_document_and_the_music_in_the_query_is_found(tmp_path: Path, method: Method) -> None:
    still = np.repeat(embeddings(1, 77), SNIPPETS, axis=0)
    with CollectionWriter(tmp_path, NETWORK) as writer:
        writer.put(document("still", "score"), replace(sequence("score", 0), embeddings=still))
        for number in range(1, 6):
            writer.put(document(f"s{number}", "score"), sequence("score", number))
        writer.commit()
    query = noisy(3, range(5, 30), "recording")
    rows = np.concatenate([still, query.embeddings])
    mixed = SnippetSequence(
        kind="recording", embeddings=rows, places=places("recording", len(rows)), bias=np.zeros(len(rows), np.float32)
    )
    with Collection.open(tmp_path) as opened:
        first = Searcher(opened, FEW).query(mixed, "score", method, locate=False).matches[0]
        assert first.document.id == ("still" if method == "sdtw" else "s3")  # published methods hear all of a query
        alone = Searcher(opened, FEW).query(Snippets(kind="recording", embeddings=still), "score", locate=False)
        assert all(match.cost is not None and match.cost > 0.9 for match in alone.matches)
