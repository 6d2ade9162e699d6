"""The bench of alignment measures what it says."""

import numpy as np
import pytest

from bench import alignment
from engine.values import DIMENSION, Packed


def documents(*lengths: int) -> Packed:
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    embeddings = np.zeros((offsets[-1], DIMENSION), dtype=np.float16)
    return Packed(embeddings=embeddings, bias=np.zeros(offsets[-1], dtype=np.float32), offsets=offsets)


def test_lanes_are_filled_up_to_the_longest_document_of_sixteen() -> None:
    assert alignment.filled(documents(*[5] * 16)) == 1
    assert alignment.filled(documents(*[5] * 15, 10)) == pytest.approx(85 / 160)


def test_a_sample_has_about_the_wanted_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "PEER_CELLS", 100)
    some = alignment.sample(np.zeros((2, DIMENSION), dtype=np.float32), documents(*[10] * 50))
    assert len(some) == 5
    assert some.embeddings.dtype == np.float32


def test_every_setting_gets_a_row_with_its_ratio_to_librosa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "SECONDS", 0.0)
    rng = np.random.default_rng(0)
    rows = alignment.measured(alignment.unit_rows(5, rng), alignment.collection(3, rng), large=0.0)
    assert len(rows) == len(alignment.SETTINGS)
    assert all(row["ratio_to_librosa"] == row["gcells_per_s_per_core"] / row["librosa"] > 0 for row in rows)


def test_costs_other_than_librosas_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    query, packed = alignment.unit_rows(5, rng), alignment.collection(3, rng)
    monkeypatch.setattr(alignment, "by_librosa", lambda *_, **__: [np.ones(4)] * 3)
    with pytest.raises(ValueError, match="expected the costs of librosa"):
        alignment.check(query, packed)


def test_a_peer_in_trouble_is_no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    query, packed = alignment.unit_rows(5, rng), alignment.collection(3, rng)
    monkeypatch.setattr(alignment, "gcells", lambda *_: 0.08)
    with pytest.raises(ValueError, match=r"BLAS computes 0\.08 Gcell/s of documents, and 0\.9 of a large product"):
        alignment.measured(query, packed, large=0.9)
