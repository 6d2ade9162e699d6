"""Staves that have nothing to play are not printed."""

import re
import xml.etree.ElementTree as ET

import pytest
import verovio

from bench.lib.condensed import condensed
from small_symbols import musicxml

BARS = 160
_REST = '<note><rest measure="yes"/><duration>4</duration></note>'


def three_parts(*, last_bar: bool) -> str:
    """A score whose third staff rests throughout, or up to its last bar."""

    def rests(part: re.Match[str]) -> str:
        *bars, last = part[0].split("<measure")
        quiet = [re.sub("<note>.*</note>", _REST, bar) for bar in bars]
        return "<measure".join([*quiet, last if last_bar else re.sub("<note>.*</note>", _REST, last)])

    return re.sub('<part id="P2">.*?</part>', rests, musicxml([60, 62, 64, 65] * BARS, staves=3))


def staves(mei: str) -> list[int]:
    """The number of staves of each bar, as Verovio prints them."""
    toolkit = verovio.toolkit()
    assert toolkit.loadData(mei)
    found = []
    for page in range(1, toolkit.getPageCount() + 1):
        drawing = ET.fromstring(toolkit.renderToSVG(page))
        bars = [group for group in drawing.iter() if group.get("class") == "measure"]
        found += [sum(group.get("class") == "staff" for group in bar.iter()) for bar in bars]
    return found


def test_a_staff_without_a_note_is_left_out() -> None:
    assert staves(condensed(three_parts(last_bar=False))) == [2] * BARS


def test_a_staff_is_printed_in_the_systems_where_it_plays() -> None:
    given = staves(condensed(three_parts(last_bar=True)))
    assert len(given) == BARS
    assert (given[BARS // 2], given[-1]) == (2, 3)


def test_what_is_no_score_is_refused() -> None:
    with pytest.raises(ValueError, match="Verovio can read"):
        condensed("no score")
