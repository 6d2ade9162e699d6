import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.lib.pieces import Piece
from bench.repeats import PENALTIES, RepeatResult, alignments, cut, figures, fragment, unfold
from engine.config import PUBLISHED_SDTW, Alignment
from engine.values import RECORDING_PLACE, SnippetSequence
from small_scores import write_kern


def recording(count: int) -> SnippetSequence:
    places = np.empty(count, RECORDING_PLACE)
    places["start_s"] = np.arange(count) / 2
    places["end_s"] = places["start_s"] + 4.2
    embeddings, bias = np.zeros((count, 32), np.float32), np.zeros(count, np.float32)
    return SnippetSequence(kind="recording", embeddings=embeddings, places=places, bias=bias)


def test_a_fragment_has_a_turn_in_its_middle_half() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        places = fragment(recording(400), 20.0, [50.0, 120.0], rng).places
        start_s, end_s = float(places["start_s"][0]), float(places["end_s"][-1])
        assert end_s - start_s == pytest.approx(20.0, abs=0.6)
        assert any(start_s + 4.4 < turn < end_s - 4.4 for turn in (50.0, 120.0))


def test_a_fragment_stays_within_the_recording() -> None:
    rng = np.random.default_rng(0)
    assert len(fragment(recording(20), 80.0, [5.0], rng)) == 20
    assert len(fragment(recording(20), 80.0, [], rng)) == 20
    assert fragment(recording(100), 20.0, [2.0], rng).places["start_s"][0] == 0


def test_a_cut_joins_two_parts_that_lie_apart() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        joined = cut(recording(300), rng)
        assert joined is not None
        starts = joined.places["start_s"].astype(float)
        (turn,) = np.flatnonzero(np.diff(starts) > 1)
        first, second = starts[: turn + 1], starts[turn + 1 :]
        assert 15 <= first[-1] - first[0] <= 16
        assert 15 <= second[-1] - second[0] <= 16
        assert 29.5 <= second[0] - first[0] <= 80.5


def test_a_short_recording_is_not_cut() -> None:
    assert cut(recording(70), np.random.default_rng(0)) is None


def test_without_jumps_the_published_alignment_is_published_sdtw() -> None:
    measured = alignments(Alignment())
    assert replace(measured["published"], jump_penalty=math.inf) == PUBLISHED_SDTW
    assert measured["wide"] == Alignment()


def test_the_gain_is_that_of_the_chosen_penalty_over_none() -> None:
    ranks = [[math.inf, 2.0, 1.0, 4.0], [1.0, 1.0, 1.0, 1.0]]
    results = [[RepeatResult(rank=rank, in_system=0.5) for rank in each] for each in ranks]
    row = figures(results, ["one", "two"], PENALTIES[:4], 2.0)
    assert (row["jump inf"], row["jump 4"], row["jump 2"], row["jump 1"]) == (0.5, 0.75, 1.0, 0.625)
    assert (row["gain"], row["gain 95%"]) == (0.5, [0.0, 1.0])
    assert row["in system 2"] == 0.5


def test_a_piece_whose_kern_does_not_tell_the_order_of_its_sections_is_left_out(tmp_path: Path) -> None:
    write_kern(tmp_path / "rag.krn", seed=0, bars=4)
    piece = Piece(id="rag", title="", composer="", work="", pages=(), notes=tmp_path / "rag.krn")
    assert unfold([piece], tmp_path) == {}
