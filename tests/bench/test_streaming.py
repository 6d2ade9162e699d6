from pathlib import Path

import numpy as np
import pytest

from bench import streaming
from bench.streaming import STARTS, BestMatch, Heard, PlayedExcerpt
from paired_collection import piece


def judged(*said: tuple[str, float]) -> Heard:
    """What becomes of a take of piece 1 of which this was said, one push after the other."""
    take = PlayedExcerpt(piece=piece(1), start=STARTS[0], samples=np.zeros(1, np.float32))
    matches = [
        BestMatch(heard_s=0.5 * (i + 1), id=id, confidence=confidence) for i, (id, confidence) in enumerate(said)
    ]
    return streaming.judged(take, matches)


def heard(first_s: float, for_good_s: float, start: str = STARTS[0]) -> Heard:
    return Heard(piece="", start=start, seconds={"first": first_s, "for good": for_good_s}, wrong_before=False)


def test_the_right_score_counts_from_the_push_at_which_it_is_first_and_sure() -> None:
    found = judged(("", 0.0), ("piece1", 0.8), ("piece1", 0.95), ("piece1", 0.99))
    assert found.seconds == {"first": 1.5, "for good": 1.5}
    assert not found.wrong_before


def test_a_doubt_later_on_counts_for_good_only() -> None:
    found = judged(("piece1", 0.95), ("piece2", 0.5), ("piece1", 0.95))
    assert found.seconds == {"first": 0.5, "for good": 1.5}


def test_what_is_not_sure_at_the_end_is_not_found_for_good() -> None:
    assert judged(("piece1", 0.95), ("piece1", 0.7)).seconds == {"first": 0.5, "for good": np.inf}
    assert judged(("piece2", 0.2)).seconds == {"first": np.inf, "for good": np.inf}


def test_a_sure_wrong_answer_before_the_right_one_is_told() -> None:
    assert judged(("piece2", 0.9), ("piece1", 0.9)).wrong_before
    assert judged(("piece2", 0.9)).wrong_before
    assert not judged(("piece1", 0.9), ("piece2", 0.9)).wrong_before


def test_never_counts_as_later_than_all_others() -> None:
    takes = [heard(s, np.inf, start) for start in STARTS for s in (5.0, 6.0, 7.0, np.inf)]
    first, for_good = streaming.rows_of(takes)[:2]
    assert (first["n"], first["median s"], first["90 % s"], first["never"]) == (4, 6.0, None, 0.25)
    assert (for_good["median s"], for_good["never"]) == (None, 1.0)


def test_the_distribution_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    streaming.draw([heard(5.0, np.inf, start) for start in STARTS], 90.0, tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").read_bytes().startswith(b"\x89PNG")
