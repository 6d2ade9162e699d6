"""Which pages are said to show nothing, or less than their neighbours."""

import logging

import cv2
import numpy as np
import pytest

from bench.lib import lying
from drawn_pages import Grey, drawn_page
from engine.score import placed_systems
from engine.score.census import PageCount, page_count, report, spans
from engine.score.pages import pages_of

MUSIC = drawn_page([2, 2, 2])[0]


def blank() -> Grey:
    return np.full_like(MUSIC, 255)


def with_broken_lines(systems: int) -> Grey:
    """A page of three systems of which only so many have staff lines that can be followed."""
    page = MUSIC.copy()
    rows = round(drawn_page([2, 2, 2])[1][systems][0] * 1000) - 40
    for column in range(0, page.shape[1], 16):
        page[rows:, column : column + 8] = np.roll(page[rows:, column : column + 8], 5, axis=0)
    return page


def title() -> Grey:
    page = blank()
    cv2.putText(page, "SONATE", (200, 300), 0, 4, 0, 10)
    return page


def told(pages: list[Grey], caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """What is logged at this level of a document of these pages."""
    with caplog.at_level(logging.INFO):
        report("score.pdf", [page_count(number, page, placed_systems(page)) for number, page in enumerate(pages, 1)])
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_pages_with_ink_for_music_and_no_staves_are_told(caplog: pytest.LogCaptureFixture) -> None:
    pages = [MUSIC, with_broken_lines(0), MUSIC, with_broken_lines(0)]
    assert told(pages, caplog) == ["score.pdf: pages 2, 4: no staves found"]


def test_a_page_with_much_less_than_its_neighbours_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pages = [MUSIC, with_broken_lines(1), MUSIC]
    assert told(pages, caplog) == ["score.pdf: page 2: 1 system where its neighbours have 3"]


def test_titles_blank_pages_and_the_end_of_a_piece_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    pages = [title(), with_broken_lines(0), MUSIC, blank(), title(), MUSIC, drawn_page([2])[0]]
    assert told(pages, caplog) == []
    caplog.clear()
    assert told(pages, caplog, logging.INFO) == ["score.pdf: pages 1-2, 4-5: no staves found"]


def test_a_single_page_that_lost_most_of_its_staves_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert told([with_broken_lines(1)], caplog) == [
        "score.pdf: page 1: 1 system found, but many lines like staff lines lie outside: staves may be missing"
    ]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_that_lost_nothing_is_not_told_however_it_lies(degrees: int, caplog: pytest.LogCaptureFixture) -> None:
    assert told([lying.turned(MUSIC, degrees).image], caplog) == []


def test_a_photograph_on_a_table_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    photograph = lying.photograph([MUSIC], np.random.default_rng(0)).image
    assert told(list(pages_of([photograph])), caplog) == []


def test_a_document_that_lost_staves_on_each_page_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pages = [with_broken_lines(1), title(), with_broken_lines(1), with_broken_lines(1)]
    assert told(pages, caplog) == [
        "score.pdf: pages 1, 3-4: 3 systems found, but many lines like staff lines lie outside: staves may be missing"
    ]


def test_a_page_that_does_not_count_to_the_score_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    page = with_broken_lines(1)
    report("score.pdf", [page_count(1, page, placed_systems(page))], left_out=[1])
    assert caplog.messages == []


def test_ink_near_a_system_belongs_to_it() -> None:
    count = page_count(1, MUSIC, placed_systems(MUSIC))
    assert count.unread_ink < 0.02 * count.ink
    assert page_count(1, MUSIC, []) == PageCount(page=1, systems=0, ink=count.ink, unread_ink=count.ink)
    assert count.unread_lines < 0.02 * count.lines


def test_spans_put_consecutive_numbers_together() -> None:
    assert spans([3]) == "3"
    assert spans([1, 2, 3, 5, 8, 9]) == "1-3, 5, 8-9"
