"""Links and carried notes are counted as they should be."""

import numpy as np
import pytest

from bench import works
from bench.lib.editions import Edition
from engine.search.carrying import CarriedPart
from engine.search.linking import DocumentLink
from engine.values import Box, Document, Kind, System


def document(id: str, kind: Kind) -> Document:
    return Document(id=id, kind=kind)


def test_links_are_counted_by_kinds_with_what_is_missed_and_what_is_false() -> None:
    held = [document(f"{piece}|{what}", "score") for piece in "ab" for what in ("scan", "1")]
    held += [document(f"{piece}|played", "recording") for piece in "ab"]
    pairs = [("a|1", "a|scan"), ("a|1", "b|1"), ("a|played", "a|scan")]
    links = [DocumentLink(ids=(one, other), confidence=0.9) for one, other in pairs]
    scores, recordings, both = works.link_rows(links, held, took_s=0.6)
    assert (scores["n"], scores["recall"], scores["false links"], scores["precision"]) == (2, 0.5, 1, 0.5)
    assert (recordings["n"], recordings["false links"]) == (0, 0)
    assert (recordings["recall"], recordings["precision"]) == (None, None)  # nothing to find, and nothing told
    assert (both["n"], both["recall"], both["precision"], both["ms a document"]) == (4, 0.25, 1, pytest.approx(100))


def test_a_note_that_is_carried_to_another_system_is_wrong_and_else_its_error_is_in_staff_spaces() -> None:
    boxes = [Box(x0=0.1, y0=y, x1=0.9, y1=y + 0.1) for y in (0.2, 0.5)]
    first, second = (
        System(page=2, number=number, box=box, staves=(box,), staff_space=0.01, confidence=1.0)
        for number, box in enumerate(boxes, start=5)
    )
    parts = [CarriedPart(system=first, start=0.40, end=0.42), CarriedPart(system=first, start=0.8, end=0.801)]
    assert works._error(parts, (first, second), 2, (0.44, 0.35)) == pytest.approx(3)
    assert works._error(parts, (first, second), 2, (0.44, 0.45)) == np.inf
    assert works._error(parts, (first, second), 1, (0.44, 0.25)) == np.inf
    assert works._error((), (first, second), 2, (0.44, 0.25)) == np.inf
    row = works.carry_row([("a", 3.0), ("a", np.inf), ("b", 9.0)])
    assert (row["notes"], row["right system"], row["within 7 spaces"]) == (
        3,
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
    )
    assert row["median error, spaces"] == 6


def test_notes_that_all_went_astray_have_no_error_in_staff_spaces() -> None:
    row = works.carry_row([("a", np.inf), ("b", np.inf)])
    assert (row["right system"], row["right system 95%"], row["within 7 spaces"]) == (0, [0, 0], 0)
    assert (row["median error, spaces"], row["90% error, spaces"]) == (None, None)
    assert works.carry_row([])["right system"] is None


def test_the_place_of_a_note_is_that_of_the_first_system_of_its_onset() -> None:
    notes = np.array([[0.2, 0.25, 4.0], [0.3, 0.25, 4.0], [0.8, 0.7, 4.0], [0.5, 0.25, 5.0]])
    edition = Edition(pages=(), note_page=np.array([1, 1, 1, 1]), notes=notes)
    assert works._place(edition, 4.0) == (1, (pytest.approx(0.25), pytest.approx(0.25)))
