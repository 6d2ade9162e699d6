from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import retrieval
from bench.pieces import Piece
from bench.queries import Query
from bench.retrieval import Result
from engine.collection import Collection, CollectionWriter
from engine.config import FrontEnd, SearchSettings
from engine.values import RECORDING_PLACE, SCORE_PLACE, Box, Document, NetworkIdentity, Sequence, System

NETWORK = NetworkIdentity(name="test", hash="0" * 64, front_end=FrontEnd())
SNIPPETS = 120
BOX = Box(x0=0.1, y0=0.1, x1=0.9, y1=0.2)
SYSTEMS = tuple(
    System(page=1, number=number, box=BOX, staves=(BOX,), staff_space=0.01, confidence=1.0) for number in range(1, 13)
)


def piece(number: int) -> Piece:
    return Piece(id=f"piece{number}", title="", composer="", work="", pages=(), notes=Path("played.mid"))


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    """Four pieces whose two forms have the same embeddings; the score has 12 systems of 10 snippets."""
    rng = np.random.default_rng(0)
    with CollectionWriter(tmp_path / "collection", NETWORK) as writer:
        for number in range(4):
            embeddings = rng.standard_normal((SNIPPETS, 32)).astype(np.float32)
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
            bias = np.zeros(SNIPPETS, np.float32)
            places = np.zeros(SNIPPETS, SCORE_PLACE)
            places["system"] = places["end_system"] = 1 + np.arange(SNIPPETS) // 10
            score = Sequence(embeddings=embeddings, places=places, bias=bias)
            recording = Sequence(embeddings=embeddings, places=np.zeros(SNIPPETS, RECORDING_PLACE), bias=bias)
            name = piece(number).id
            writer.stage(Document(id=name, kind="score", snippets=SNIPPETS, systems=SYSTEMS), score)
            writer.stage(Document(id=f"{name}.played", kind="recording", snippets=SNIPPETS), recording)
        writer.commit()
    with Collection.open(tmp_path / "collection", NETWORK) as opened:
        yield opened


def result(rank: int, form: str = "whole") -> Result:
    nothing = Sequence(
        embeddings=np.empty((0, 32), np.float32),
        places=np.empty(0, SCORE_PLACE),
        bias=np.empty(0, np.float32),
    )
    query = Query(direction="A2S", form=form, piece=f"piece{rank}", truth="right", sequence=nothing)
    answer = (*("wrong" for _ in range(rank - 1)), "right")
    return Result(query=query, method="vote", answer=answer, timings_ms={"vote": 2.0 * rank})


def test_every_piece_is_asked_for_whole_and_in_fragments_both_ways(collection: Collection) -> None:
    asked = list(retrieval.ask(collection, [piece(0), piece(1)], per_piece=2))
    forms = [(query.direction, query.form) for query in asked if query.piece == "piece1"]
    assert forms.count(("A2S", "whole")) == forms.count(("S2A", "whole")) == 1
    assert forms.count(("A2S", "20 s")) == forms.count(("S2A", "1 system")) == forms.count(("S2A", "4 systems")) == 2
    assert len(asked) == 2 * (2 + 2 * (3 + 4))


def test_the_same_queries_are_asked_each_time(collection: Collection) -> None:
    first, second = (list(retrieval.ask(collection, [piece(0)], per_piece=3)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.sequence.embeddings, other.sequence.embeddings)


def test_a_document_that_is_missing_is_not_asked_for(collection: Collection) -> None:
    assert list(retrieval.ask(collection, [piece(9)], per_piece=1)) == []


def test_pieces_with_the_same_embeddings_are_found_by_every_method(collection: Collection) -> None:
    asked = list(retrieval.ask(collection, [piece(number) for number in range(4)], per_piece=1))
    settings = SearchSettings(neighbours=1, threads=1)
    results = retrieval.answer(collection, asked, settings, retrieval.METHODS)
    rows = retrieval.quality_rows(results)
    assert len(rows) == 3 * (1 + 3 + 1 + 4)
    assert {(row["n"], row["R@1"], row["MRR"], row["MR"]) for row in rows} == {(4, 1.0, 1.0, 1.0)}


def test_quality_is_summed_up_by_kind_of_query() -> None:
    whole, fragment = retrieval.quality_rows([result(1), result(4), result(2, form="10 s")])
    assert (whole["query"], whole["n"], whole["R@1"], whole["MRR"]) == ("whole", 2, 0.5, 0.625)
    assert (fragment["query"], fragment["n"], fragment["R@1"], fragment["MRR"]) == ("10 s", 1, 0.0, 0.5)


def test_times_are_means_of_the_stages_that_ran() -> None:
    (row,) = retrieval.timing_rows([result(1), result(4)])
    assert (row["vote"], row["align"], row["locate"]) == (5.0, None, None)
