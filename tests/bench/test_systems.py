"""Pages explained to people: lines of text, a picture, and both from one command."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.lib import pictures
from bench.lib.engraved import Known
from bench.systems import explain_file, measure
from drawn_pages import Grey, drawn_page
from engine.score import explain, normalise_grey, placed_systems


@pytest.fixture
def page() -> Grey:
    """Two systems, and below them five lines too short for a staff."""
    page, _ = drawn_page([2, 2], notes=False)
    for line in range(5):
        cv2.line(page, (400, 1000 + 9 * line), (470, 1000 + 9 * line), 0, 1)
    return page


def test_what_was_found_joined_and_rejected_is_told(page: Grey) -> None:
    lines = list(pictures.described(explain(page)))
    assert lines[0].startswith("system 1: x 0.08")
    assert lines[0].endswith("staves 2, strength 0.99")
    assert any(line.startswith("staves 1 and 2 joined: left line 1.00, bars 5") for line in lines)
    assert any(line.startswith("staves 2 and 3 apart: left line 0.00, bars 0") for line in lines)
    assert any("rejected course: x 0.39" in line and "length below MIN_LENGTH" in line for line in lines)


def test_the_picture_marks_systems_and_what_was_rejected(page: Grey) -> None:
    picture = pictures.explained(page, explain(page))
    assert picture.shape[1] == pictures.MIN_WIDTH_PX
    around_course = picture[1560:1740, 600:800].reshape(-1, 3)
    assert (around_course == pictures.REJECTED["course"]).all(axis=1).any()
    assert (picture.reshape(-1, 3) == pictures.RED).all(axis=1).any()


def test_each_page_of_a_file_is_explained(page: Grey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), page)
    explain_file(tmp_path, tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*-explained.png"))) == 2
    assert "page 2: 2 systems, drawn in" in capsys.readouterr().out


def test_labels_do_not_cover_each_other() -> None:
    canvas = np.zeros((200, 600, 3), np.uint8)
    labels: list[pictures.Corners] = []
    for _ in range(3):
        pictures._label(canvas, "the same place", (10, 10), pictures.RED, labels)
    tops = [top for _, top, _, _ in labels]
    assert np.diff(tops).min() >= pictures.LABEL_HEIGHT_PX


def test_boxes_are_measured_where_they_are_known(page: Grey) -> None:
    boxes = [system.box for system in placed_systems(normalise_grey(page))]
    rows = [(box.y0, box.y1) for box in boxes]
    exact = Known(name="exact", page=page, systems=rows, ends=[(box.x0, box.x1) for box in boxes])
    half = replace(exact, ends=[(box.x0, (box.x0 + box.x1) / 2) for box in boxes])
    assert measure("set", [exact], None).summary().items() >= {"box": 1.0, "worst": 1.0, "boxes": 1.0}.items()
    one_of_each = measure("set", [exact, half], None).summary()
    assert one_of_each.items() >= {"recall": 1.0, "box": 0.75, "worst": 0.5, "boxes": 0.5}.items()
    assert "box" not in measure("set", [replace(exact, ends=[])], None).summary()


def test_a_system_that_is_not_found_has_no_right_box(page: Grey) -> None:
    boxes = [system.box for system in placed_systems(normalise_grey(page))]
    rows = [*((box.y0, box.y1) for box in boxes), (1.3, 1.35)]
    known = Known(name="lost", page=page, systems=rows, ends=[*((box.x0, box.x1) for box in boxes), (0.1, 0.9)])
    assert measure("set", [known], None).summary().items() >= {"box": 1.0, "boxes": 0.6667, "recall": 0.6667}.items()
