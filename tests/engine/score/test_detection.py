"""What detection says of its reasons: the same systems, the gaps between staves, and what each stage rejected."""

import cv2
import numpy as np
import pytest

from drawn_pages import Grey, drawn_page
from engine.score import Rejection, explain, find_systems


def _rejected(page: Grey, stage: str) -> list[Rejection]:
    return [rejection for rejection in explain(page).rejections if rejection.stage == stage]


def test_an_explanation_has_the_systems_that_are_found_without_one() -> None:
    page, _ = drawn_page([2, 3])
    systems = explain(page).systems
    assert [(s.box, s.staves, s.confidence) for s in systems] == [
        (s.box, s.staves, s.confidence) for s in find_systems(page)
    ]


def test_it_says_of_each_staff_whether_it_is_joined_to_the_next_and_what_was_seen() -> None:
    page, true = drawn_page([2, 1], notes=False)
    inside, between = explain(page).neighbours
    assert (inside.joined, between.joined) == (True, False)
    assert inside.gap.left > 0.95
    assert inside.gap.bars == 5
    assert inside.gap.distance == pytest.approx(9, abs=0.3)
    assert (between.gap.left, between.gap.bars) == (0, 0)
    assert inside.above.y0 == pytest.approx(true[0][0], abs=0.002)
    assert between.above == inside.below


def test_a_blank_page_is_rejected_for_its_lack_of_ink() -> None:
    (rejection,) = explain(np.full((1400, 1000), 255, np.uint8)).rejections
    assert (rejection.stage, rejection.reason) == ("ink", "black runs below MIN_RUNS")
    assert (rejection.measured, rejection.threshold) == (0, 100)
    assert (rejection.box.x1, rejection.box.y1) == (1, 1.4)


def test_a_page_of_hatching_has_no_distance_of_lines() -> None:
    page = np.full((1400, 1000), 255, np.uint8)
    page[::2] = 0
    (rejection,) = _rejected(page, "ink")
    assert rejection.reason == "pairs of runs as far apart as lines"


def test_a_short_course_is_rejected_where_it_lies() -> None:
    page, _ = drawn_page([2, 2])
    for line in range(5):
        cv2.line(page, (400, 1000 + 9 * line), (470, 1000 + 9 * line), 0, 1)
    near = [r for r in _rejected(page, "course") if 0.9 < r.box.y0 < 1.1 and r.reason == "length below MIN_LENGTH"]
    assert len(near) == 1
    assert near[0].measured == pytest.approx(70 / 9, abs=1.5)
    assert near[0].box.x0 == pytest.approx(0.4, abs=0.02)
    assert near[0].box.x1 == pytest.approx(0.47, abs=0.02)


def test_the_reasons_come_stage_by_stage() -> None:
    page, _ = drawn_page([2, 2])
    stages = [rejection.stage for rejection in explain(page).rejections]
    assert stages == sorted(stages)
    assert stages[0] == "course"


def test_a_rejection_misses_its_threshold() -> None:
    page, _ = drawn_page([2, 2])
    rejections = explain(page).rejections
    assert rejections
    assert all(rejection.measured < rejection.threshold for rejection in rejections)
