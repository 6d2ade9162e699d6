import itertools
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.lib import passages
from bench.lib.passages import Measure
from bench.lib.printed import PrintedSystem
from drawn_pages import drawn_page
from engine.config import FrontEnd
from small_scores import write_kern

KERN = "**kern\n*clefG2\n*M2/4\n4c\n=1\n4d\n4e\n=2\n4f\n=:|!\n4g\n=3\n8a\n8b\n4cc\n==\n*-\n"
"""A pickup, a measure, one that a repeat of all of it splits, and another."""


def measure(number: int, *onsets: float, whole: bool = True) -> Measure:
    return Measure(number=number, start_quarter=0, length_quarters=2.0, onsets=onsets, whole=whole, repeated=False)


def test_repeats_are_played_and_a_split_measure_is_one_of_two_parts(tmp_path: Path) -> None:
    (tmp_path / "piece.krn").write_text(KERN)
    measures = passages.read_measures(tmp_path / "piece.krn")
    assert [each.number for each in measures] == [0, 1, 2, 0, 1, 2, 2, 3]
    assert [each.whole for each in measures] == [True, True, False, True, True, False, False, True]
    assert [each.repeated for each in measures] == [False] * 3 + [True] * 3 + [False] * 2
    assert measures[-1].start_quarter == 9
    assert measures[-1].onsets == (0.0, 0.5, 1.0)


def test_measures_of_equal_notes_share_what_the_clef_leaves_of_a_system() -> None:
    system = PrintedSystem(rows=(0, 1), first_measure=1, last_measure=2)
    places = passages.places(system, [measure(1, 0.0, 1.0), measure(2, 0.0, 1.0), measure(3, 0.0)], 0.2)
    assert {place: round(share, 6) for place, share in places.items()} == {
        (1, 0.0): 0.2,
        (1, 1.0): 0.4,
        (2, 0.0): 0.6,
        (2, 1.0): 0.8,
    }


def test_a_split_measure_takes_room_but_holds_no_places() -> None:
    system = PrintedSystem(rows=(0, 1), first_measure=1, last_measure=2)
    places = passages.places(system, [measure(1, 0.0, whole=False), measure(2, 0.0)], 0.0)
    assert places == {(2, 0.0): pytest.approx(0.5)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A rag of two systems on one page, and another that nothing is known of."""
    folder = tmp_path / "val_scans_joplin"
    (folder / "pages").mkdir(parents=True)
    page, rows = drawn_page([2, 2])
    for name in ("rag", "unknown"):
        cv2.imwrite(str(folder / "pages" / f"{name}_p01.tif"), page)
        write_kern(folder / f"{name}.krn", seed=0, bars=8)
    (folder / "manifest.csv").write_text("id,composer,title,opus\njoplin_rag,,,\njoplin_unknown,,,\n")
    lines = ["piece,page,y_top,y_bottom,first_measure,last_measure"]
    lines += [f"rag,1,{y0},{y1},{4 * i + 1},{4 * i + 4}" for i, (y0, y1) in enumerate(rows)]
    lines += ["rag,2,0.1,0.2,9,12", "unknown,1,,,1,8"]
    (folder / "systems.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_onsets_of_a_scan_have_columns_and_seconds_that_rise(data: Path, tmp_path: Path) -> None:
    (rag,), left_out = passages.materials(data, "joplin", FrontEnd(), tmp_path / "work")
    assert rag.piece == "joplin_rag"
    assert rag.measures.tolist() == [1 + i / 4 for i in range(32)]
    assert np.all(np.diff(rag.columns) > 0)
    assert np.all(np.diff(rag.frames) > 0)
    assert rag.columns[-1] < rag.strip.shape[1]
    assert rag.frames[-1] < rag.spectrogram.shape[1]
    assert dict(left_out) == {"pieces without verified systems": 1, "systems not found": 1, "measures split": 0}


def test_what_is_kept_is_made_anew_when_its_source_changes(tmp_path: Path) -> None:
    source, counter = tmp_path / "source", itertools.count(1)
    for text, made in (("one", 1), ("one", 1), ("two", 3)):
        source.write_text(text)
        time = np.array(next(counter))
        held = passages.kept(tmp_path / "kept", [source], "", partial(dict, made=time))
        assert held["made"] == made


def test_a_set_without_truth_about_its_systems_is_not_there(data: Path) -> None:
    assert passages.present(data, "joplin")
    assert not passages.present(data, "mozart")
