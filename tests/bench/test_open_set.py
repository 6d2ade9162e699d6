"""Open set: halves are removed, and what is judged adds up."""

from pathlib import Path

import numpy as np
import pytest

from bench import open_set
from engine.collection import Collection
from engine.search.confidence import Scale
from engine.values import Packed
from indexer.training.calibrate import QueryCosts
from paired_collection import piece

DOCUMENTS = 20
LENGTHS = np.full(DOCUMENTS, 50)


def scale() -> Scale:
    """A background of nine documents of growing length."""
    offsets = np.cumsum([0, *range(30, 120, 10)]).astype(np.int64)
    rows = int(offsets[-1])
    background = Packed(embeddings=np.zeros((rows, 32), np.float16), bias=np.zeros(rows, np.float32), offsets=offsets)
    return Scale(background=background, coefficients=np.array([8.0, -14.0, 0.0, 0.0, 0.0, -12.0, 0.0, 0.0]))


def asked(truth: int) -> tuple[str, QueryCosts]:
    """A query whose right document is far cheaper than any other."""
    rng = np.random.default_rng(truth)
    costs = rng.uniform(1.1, 1.3, DOCUMENTS).astype(np.float32)
    costs[truth] = 0.5
    background = rng.uniform(1.1, 1.3, 9).astype(np.float32)
    return "20 s", QueryCosts(piece=f"piece{truth}", snippets=32, truth=truth, costs=costs, background=background)


def judged() -> open_set.Judged:
    return open_set.halved([asked(truth) for truth in range(10)], scale(), LENGTHS, own=10, pool=DOCUMENTS, halves=3)


def test_each_half_lacks_half_of_the_right_documents() -> None:
    found = judged()
    assert len(found.known) == 30
    assert found.known.reshape(3, 10).sum(axis=1).tolist() == [5, 5, 5]
    np.testing.assert_array_equal(found.right, found.known)


def test_what_is_known_is_found_and_what_is_not_raises_no_alarm() -> None:
    (row, everything) = open_set.form_rows("A2S", "crowd", judged())
    assert (row["query"], everything["query"], row["n"]) == ("20 s", "all", 30)
    assert (row["AUROC"], row["false alarms at 95%"], row["R@1 of known"]) == (1, 0, 1)
    assert (row["found at .5"], row["false at .5"]) == (1, 0)
    assert row["AUROC 95%"] == [1, 1]
    assert row["ECE"] < 0.1


def test_every_ingredient_has_a_row() -> None:
    rows = list(open_set.ingredient_rows("A2S", "crowd", judged()))
    assert len(rows) == 6
    assert {row["AUROC"] for row in rows} == {1.0}


def test_collections_larger_than_all_there_is_are_left_out() -> None:
    rows = list(open_set.size_rows("A2S", [asked(truth) for truth in range(10)], scale(), LENGTHS))
    assert [row["documents"] for row in rows] == [1, 5]


def test_documents_of_the_background_are_not_searched() -> None:
    embeddings = np.random.default_rng(0).standard_normal((6, 32)).astype(np.float16)
    offsets = np.array([0, 2, 4, 6], dtype=np.int64)
    documents = Packed(embeddings=embeddings, bias=np.zeros(6, np.float32), offsets=offsets)
    left = open_set.without(documents, documents.take(np.array([1])))
    np.testing.assert_array_equal(left.embeddings, embeddings[[0, 1, 4, 5]])


def test_every_form_is_asked_for(collection: Collection) -> None:
    forms = [query.form for query in open_set.ask(collection, [piece(0)], per_piece=2)]
    assert forms.count("whole") == forms.count("5 s") == forms.count("4 systems") == 2
    assert len(forms) == 2 + 2 * (4 + 3)


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    open_set.draw_reliability({("A2S", "alone"): judged(), ("S2A", "crowd"): judged()}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0
