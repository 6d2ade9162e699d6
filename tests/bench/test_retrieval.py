from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import retrieval
from bench.lib import queries
from bench.lib.queries import LabelledQuery
from bench.lib.sounds import REAL, TIMGM6MB
from bench.retrieval import RetrievalResult
from engine.collection import Collection
from engine.config import FrontEnd, SearchSettings
from engine.values import SCORE_PLACE, SnippetSequence
from paired_collection import piece


def result(rank: int, form: str = "whole") -> RetrievalResult:
    nothing = SnippetSequence(
        kind="score",
        embeddings=np.empty((0, 32), np.float32),
        places=np.empty(0, SCORE_PLACE),
        bias=np.empty(0, np.float32),
    )
    query = LabelledQuery(direction="A2S", form=form, piece=f"piece{rank}", truth="right", sequence=nothing)
    answer = (*("wrong" for _ in range(rank - 1)), "right")
    return RetrievalResult(query=query, method="vote", answer=answer, timings_ms={"vote": 2.0 * rank})


def test_every_piece_is_asked_for_whole_and_in_fragments_both_ways(collection: Collection) -> None:
    asked = list(retrieval.ask(collection, [piece(0), piece(1)], per_piece=2))
    forms = [(query.direction, query.form) for query in asked if query.piece == "piece1"]
    assert forms.count(("A2S", "whole")) == forms.count(("S2A", "whole")) == 1
    assert forms.count(("A2S", "20 s")) == forms.count(("S2A", "1 system")) == forms.count(("S2A", "4 systems")) == 2
    assert len(asked) == 2 * (2 + 2 * (4 + 4))


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
    assert len(rows) == 3 * (1 + 4 + 1 + 4)
    assert {(row["n"], row["R@1"], row["MRR"], row["MR"]) for row in rows} == {(4, 1.0, 1.0, 1.0)}


def test_another_recording_of_the_same_score_is_no_wrong_answer(collection: Collection) -> None:
    """Two pieces of one score whose recordings are those of pieces 0 and 1."""
    same = [replace(piece(0), notes=Path(f"{name}.mid")) for name in ("played", "other")]
    (query,) = [one for one in queries.whole(collection, same[:1]) if one.direction == "S2A"]
    assert query.also_right == frozenset()
    first, second = [one for one in queries.whole(collection, same) if one.direction == "S2A"]
    assert (first.truth, first.also_right) == ("piece0.played", {"piece0.other"})
    assert (second.truth, second.also_right) == ("piece0.other", {"piece0.played"})
    one = replace(query, truth="piece1.played", also_right=frozenset({"piece0.played"}))
    (answered,) = retrieval.answer(collection, [one], SearchSettings(threads=1), ["exhaustive"])
    assert len(answered.answer) == 3
    assert "piece0.played" not in answered.answer


def test_a_set_of_real_recordings_has_no_other_sound(tmp_path: Path) -> None:
    assert retrieval.sounds_of("real", None, tmp_path) == [REAL]
    with pytest.raises(ValueError, match="real"):
        retrieval.sounds_of("real", ["TimGM6mb"], tmp_path)


def test_each_sound_is_measured_once(tmp_path: Path) -> None:
    named = retrieval.sounds_of("dev", ["TimGM6mb", "TimGM6mb+mp3", "TimGM6mb"], tmp_path)
    assert [sound.name for sound in named] == ["TimGM6mb", "TimGM6mb+mp3"]
    assert retrieval.sounds_of("dev", None, tmp_path) == [TIMGM6MB]


def test_quality_is_summed_up_by_kind_of_query() -> None:
    whole, fragment = retrieval.quality_rows([result(1), result(4), result(2, form="10 s")])
    assert (whole["query"], whole["n"], whole["R@1"], whole["MRR"]) == ("whole", 2, 0.5, 0.625)
    assert (fragment["query"], fragment["n"], fragment["R@1"], fragment["MRR"]) == ("10 s", 1, 0.0, 0.5)


def test_times_are_means_of_the_stages_that_ran() -> None:
    (row,) = retrieval.timing_rows([result(1), result(4)])
    assert (row["vote"], row["align"], row["locate"]) == (5.0, None, None)


def test_the_shortest_fragments_are_drawn_apart(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise they would move all later fragments."""
    drawn: list[tuple[bool, int]] = []

    def draw(query: LabelledQuery, size: float, _: FrontEnd, rng: np.random.Generator) -> LabelledQuery:
        drawn.append((query.direction == "A2S" and size == 5, id(rng)))
        return query

    monkeypatch.setattr(queries, "fragment", draw)
    list(retrieval.ask(collection, [piece(0), piece(1)], per_piece=2))
    shortest, others = ({rng for short, rng in drawn if short is wanted} for wanted in (True, False))
    assert len(shortest) == len(others) == 1
    assert shortest != others
