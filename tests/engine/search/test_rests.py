"""Queries that hold more than one piece: what matches is found, and which stretch of the query it is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from collection_samples import NETWORK, embeddings
from engine import alignment
from engine.collection import Collection, CollectionWriter
from engine.config import Alignment, SearchSettings
from engine.search import answers
from engine.search.confidence import Calibration, Scale
from engine.search.searcher import MIN_REST, Searcher
from engine.values import PLACE_DTYPES, Answer, Box, Document, Kind, Packed, SnippetSequence, System

SNIPPETS = 40
PRICE = 0.4
BOX = Box(x0=0, y0=0, x1=1, y1=0.1)
SYSTEMS = tuple(
    System(page=1 + number // 4, number=number + 1, box=BOX, staves=(BOX,), staff_space=0.01, confidence=1)
    for number in range(20)
)
"""Systems of five snippets each."""


def sequence(kind: Kind, rows: NDArray[np.float32]) -> SnippetSequence:
    """The rows as excerpts of 4 s, two a second, or as snippets of a fifth of a system."""
    places, numbers = np.zeros(len(rows), PLACE_DTYPES[kind]), np.arange(len(rows))
    if kind == "recording":
        places["start_s"], places["end_s"] = numbers / 2, numbers / 2 + 4
    else:
        places["system"] = places["end_system"] = numbers // 5 + 1
        places["x"], places["end_x"] = numbers % 5 / 5, numbers % 5 / 5 + 0.2
    return SnippetSequence(kind=kind, embeddings=rows, places=places, bias=np.zeros(len(rows), np.float32))


def played(seed: int, count: int = 20) -> NDArray[np.float32]:
    """Rows that resemble the first snippets of the document that is made with `seed`; each costs it some 0.13."""
    rows = embeddings(SNIPPETS, seed)[:count] + 0.1 * np.random.default_rng(seed).standard_normal((count, 32))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def noise(count: int, seed: int = 500) -> NDArray[np.float32]:
    """Rows that resemble nothing; each costs every document more than PRICE."""
    return embeddings(count, seed)


def calibration(price: float = PRICE) -> Calibration:
    """A calibration that is sure below a cost of 0.35 a row or, with rests, above a gain of 2 more than others."""
    background = Packed(
        embeddings=embeddings(60, 900).astype(np.float16),
        bias=np.zeros(60, np.float32),
        offsets=np.arange(0, 61, 10, dtype=np.int64),
    )
    rested = np.array([-6.6, 0, 0, 6, 0, 0]) if np.isfinite(price) else None
    coefficients = np.array([10.5, -30.0, 0, 0, 0, 0, 0, 0])
    scale = Scale(background=background, coefficients=coefficients, rest_coefficients=rested)
    scales: dict[Kind, Scale] = {"score": scale, "recording": scale}
    return Calibration(network=NETWORK, alignment=Alignment(), scales=scales, rest_price=price)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """Eight scores s0.. (seeds 0..) and eight recordings r0.. (seeds 100..)."""
    path: Path = tmp_path_factory.mktemp("collection")
    kinds: tuple[Kind, ...] = ("score", "recording")
    with CollectionWriter(path, NETWORK) as writer:
        for number in range(8):
            for kind, seed in zip(kinds, (number, 100 + number), strict=True):
                made = Document(id=f"{kind[0]}{number}", kind=kind, systems=SYSTEMS if kind == "score" else ())
                writer.put(made, sequence(kind, embeddings(SNIPPETS, seed)))
        writer.commit()
    with Collection.open(path) as opened:
        yield opened


def ask(collection: Collection, *parts: NDArray[np.float32], price: float = PRICE, shortlist: int = 0) -> Answer:
    searcher = Searcher(collection, SearchSettings(shortlist=shortlist), alignment.choose("cpu"), calibration(price))
    return searcher.query(sequence("recording", np.concatenate(parts)), "score")


@pytest.mark.parametrize("shortlist", [0, 4], ids=["all", "shortlist"])
def test_a_piece_between_noises_is_found_and_its_stretch_of_the_query_told(
    collection: Collection, shortlist: int
) -> None:
    answer = ask(collection, noise(15), played(3), noise(25, 600), shortlist=shortlist)
    best = answer.matches[0]
    assert (best.document.id, answer.in_collection, answer.partial) == ("s3", True, True)
    assert best.confidence is not None
    assert best.confidence > 0.9
    assert best.query_place.start_s == pytest.approx(15 / 2 + 2)
    assert best.query_place.end_s == pytest.approx(34 / 2 + 2)
    assert [system.number for system in best.place.systems][:4] == [1, 2, 3, 4]
    assert all(match.confidence is not None and match.confidence < 0.1 for match in answer.matches[1:])
    assert "rest" in answer.timings_ms


def test_without_a_price_in_the_calibration_nothing_is_left_out(collection: Collection) -> None:
    answer = ask(collection, noise(15), played(3), noise(25, 600), price=np.inf)
    assert (answer.in_collection, answer.partial) == (False, False)
    assert "rest" not in answer.timings_ms


def test_several_pieces_in_one_query_are_all_found_each_in_its_stretch(collection: Collection) -> None:
    answer = ask(collection, played(3), played(5, 24), played(1, 16))
    sure = {match.document.id: match for match in answer.matches if match.confidence and match.confidence > 0.5}
    assert [match.document.id for match in answer.matches[:3]] == list(sure) == ["s5", "s3", "s1"]
    assert sure["s3"].query_place.start_s == 0
    assert sure["s5"].query_place.start_s == pytest.approx(20 / 2 + 2, abs=1)
    assert sure["s1"].query_place.end_s == pytest.approx(59 / 2 + 4)


def test_a_second_piece_is_found_though_the_first_is_sure_already(collection: Collection) -> None:
    rows = played(3, 40), played(5, MIN_REST + 1)
    assert ask(collection, *rows, price=np.inf).in_collection
    answer = ask(collection, *rows)
    assert [match.document.id for match in answer.matches[:2]] == ["s3", "s5"]
    assert all(match.confidence and match.confidence > 0.5 for match in answer.matches[:2])


def test_a_clean_query_is_answered_as_without_rests_and_aligned_once(collection: Collection) -> None:
    clean, usual = ask(collection, played(3)), ask(collection, played(3), price=np.inf)
    assert clean.matches == usual.matches
    assert clean.timings_ms.keys() == usual.timings_ms.keys()
    assert not clean.partial
    assert clean.matches[0].query_place.start_s == 0
    assert clean.matches[0].query_place.end_s == pytest.approx(19 / 2 + 4)


def test_a_query_that_holds_no_piece_is_answered_as_without_rests(collection: Collection) -> None:
    absent, usual = ask(collection, noise(30)), ask(collection, noise(30), price=np.inf)
    assert absent.matches == usual.matches
    assert (absent.in_collection, absent.partial) == (False, False)


def test_a_sure_match_is_not_given_up_for_another(collection: Collection) -> None:
    """Rests judge both pieces, and would be sure of the second alone: then the first answer stays."""
    strict = calibration()
    scale = replace(strict.scales["score"], rest_coefficients=np.array([5.8, 0, 0, -3, 0, 0]))
    strict = replace(strict, scales={"score": scale, "recording": scale})
    rows = np.concatenate([played(3, 40), played(5, MIN_REST + 1)])
    answer = Searcher(collection, backend=alignment.choose("cpu"), calibration=strict).query(
        sequence("recording", rows), "score"
    )
    assert (answer.matches[0].document.id, answer.partial) == ("s3", False)


def test_pages_of_other_pieces_in_a_score_are_left_out_and_its_systems_told(collection: Collection) -> None:
    rows = np.concatenate([noise(10), played(103), noise(20, 600)])
    searcher = Searcher(collection, backend=alignment.choose("cpu"), calibration=calibration())
    answer = searcher.query(sequence("score", rows), "recording", systems=SYSTEMS)
    best = answer.matches[0]
    assert (best.document.id, answer.partial) == ("r3", True)
    assert [system.number for system in best.query_place.systems] == [3, 4, 5, 6]
    assert best.query_place.pages == (1, 2)


def test_an_answer_tells_the_stretch_in_json_and_in_the_table(collection: Collection) -> None:
    told = answers.as_dict(ask(collection, noise(15), played(3), noise(25, 600)), "recording", "score", collection)
    first = told["matches"][0]
    assert (told["partial"], first["query_start_s"], first["query_end_s"]) == (True, 9.5, 19.0)
    assert (first["query_pages"], first["query_systems"]) == ([], [])
    header, row = answers.table(told).splitlines()[:2]
    assert "confidence  of the query  where" in header
    assert "0:10-0:19" in row
    usual = answers.as_dict(ask(collection, played(3)), "recording", "score", collection)
    assert "of the query" not in answers.table(usual)
