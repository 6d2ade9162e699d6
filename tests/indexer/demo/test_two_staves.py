"""Scores of several staves brought onto two."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from four_parts import write_four_parts
from indexer.demo.pieces import FOUR_PARTS, PIANO
from indexer.demo.two_staves import two_staves
from indexer.synthesis.engrave import Engraver, EngravingError

MEI = "{http://www.music-encoding.org/ns/mei}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_four_parts(tmp_path / "four.xml", bars=4, seed=0)


def reduced(source: Path, bars: int = 4) -> ET.Element:
    return ET.fromstring(two_staves(source, FOUR_PARTS, bars, title="A title", composer="A name"))


def test_four_parts_become_two_layers_on_each_of_two_staves(source: Path) -> None:
    measures = list(reduced(source).iter(f"{MEI}measure"))
    layers = [[len(staff.findall(f"{MEI}layer")) for staff in measure.findall(f"{MEI}staff")] for measure in measures]
    assert layers == [[2, 2]] * 4


def test_every_note_is_kept_and_sounds(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "reduced.mei"
    path.write_text(two_staves(source, FOUR_PARTS, 4, title="", composer=""))
    before, after = Engraver(source).notes(), Engraver(path).notes()
    assert sorted(after.pitch) == sorted(before.pitch)
    assert len(after.pitch) == 4 * 4 * 4


def test_only_the_first_bars_are_taken(source: Path) -> None:
    assert len(list(reduced(source, bars=2).iter(f"{MEI}measure"))) == 2


def test_the_lower_staff_has_a_bass_clef(source: Path) -> None:
    assert [clef.get("shape") for clef in reduced(source).iter(f"{MEI}clef")] == ["G", "F"]


def test_a_tie_over_the_cut_is_dropped(tmp_path: Path) -> None:
    source = write_four_parts(tmp_path / "tied.xml", bars=2, seed=0, tied=True)
    assert list(reduced(source, bars=2).iter(f"{MEI}tie"))
    assert not list(reduced(source, bars=1).iter(f"{MEI}tie"))


def test_title_and_composer_stand_in_the_head(source: Path) -> None:
    head = reduced(source)
    assert next(head.iter(f"{MEI}title")).text == "A title"
    assert next(head.iter(f"{MEI}composer")).text == "A name"


def test_staves_that_are_not_there_are_refused(tmp_path: Path) -> None:
    source = write_four_parts(tmp_path / "four.xml", bars=1, seed=0)
    with pytest.raises(EngravingError, match="expected staves"):
        two_staves(source, ((1,), (7,)), 1, title="", composer="")


def test_a_file_that_is_no_score_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.xml").write_text("nothing")
    with pytest.raises(EngravingError, match="Verovio can read"):
        two_staves(tmp_path / "no.xml", PIANO, 1, title="", composer="")
