"""Pictures and lines of text that explain the detection on a page, with the reasons for each rejection."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from engine.score import Explanation, FoundSystem, Grey, Rejection
from engine.values import Box

Colour = tuple[int, int, int]
"""A colour: blue, green, red."""
Corners = tuple[int, int, int, int]
"""A rectangle: left, top, right, bottom, in px."""

RED, GREEN, BLUE, WHITE = (0, 0, 220), (0, 140, 0), (220, 0, 0), (255, 255, 255)
REJECTED: dict[str, Colour] = {
    "ink": (90, 90, 90),
    "course": (0, 110, 210),
    "staff": (200, 0, 200),
    "system": (160, 110, 0),
}
"""Colours of rejections by stage: grey, orange, magenta, blue-green."""
MIN_WIDTH_PX = 1600
"""Narrower pages are enlarged to this width, so that labels do not cover them."""
MIN_COURSE_LENGTH = 0.04
"""Rejected courses shorter than this, in page widths, are only counted, because each page has dozens."""
FONT, FONT_SIZE, LABEL_HEIGHT_PX = cv2.FONT_HERSHEY_SIMPLEX, 0.55, 20


def drawn(page: Grey, systems: Iterable[FoundSystem]) -> Grey:
    """The page with its systems boxed in red, their staves in green and the course in blue: uint8 (h, w, 3) BGR."""
    canvas = np.asarray(cv2.cvtColor(page, cv2.COLOR_GRAY2BGR), np.uint8)
    for system in systems:
        for staff in system.staves:
            _frame(canvas, staff, GREEN)
        _frame(canvas, system.box, RED)
        scale = canvas.shape[1] / page.shape[1]
        line = (np.stack([system.course.xs, system.course.ys], axis=1) * scale).round().astype(np.int32)
        cv2.polylines(canvas, [line], False, BLUE, 2)
        left, top, _, _ = _corners(canvas, system.box)
        text = f"{len(system.staves)} staves {system.confidence:.2f}"
        cv2.putText(canvas, text, (left, max(top - 8, 12)), FONT, 0.7, RED, 2)
    return canvas


def explained(page: Grey, explanation: Explanation) -> Grey:
    """The page in pale, with red systems, green staves, gaps between staves, and rejections by stage.

    Returns uint8 (h, w, 3) BGR. Numbers are those of the lines that `described` returns.
    """
    scale = max(1.0, MIN_WIDTH_PX / page.shape[1])
    pale = cv2.resize(128 + page // 2, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.asarray(cv2.cvtColor(pale, cv2.COLOR_GRAY2BGR), np.uint8)
    labels: list[Corners] = []
    for number, system in enumerate(explanation.systems, start=1):
        for staff in system.staves:
            _frame(canvas, staff, GREEN)
        _frame(canvas, system.box, RED)
        text = f"system {number}: staves {len(system.staves)}, strength {system.confidence:.2f}"
        left, top, _, _ = _corners(canvas, system.box)
        _label(canvas, text, (left, top - LABEL_HEIGHT_PX), RED, labels)
    for neighbours in explanation.neighbours:
        gap, colour = neighbours.gap, GREEN if neighbours.joined else RED
        text = f"{'joined' if neighbours.joined else 'apart'}: left {gap.left:.2f}, {gap.bars} bars"
        left, _, _, bottom = _corners(canvas, neighbours.above)
        _, top, _, _ = _corners(canvas, neighbours.below)
        _label(canvas, text, (left + 8, (bottom + top - LABEL_HEIGHT_PX) // 2), colour, labels)
    for number, rejection in enumerate(_shown(explanation), start=1):
        colour = REJECTED[rejection.stage]
        _frame(canvas, rejection.box, colour)
        left, _, _, bottom = _corners(canvas, rejection.box)
        _label(canvas, f"{number} {_why(rejection)}", (left, bottom), colour, labels)
    return canvas


def described(explanation: Explanation) -> Iterator[str]:
    """Lines of text about the systems found, the staves joined, and the rejections stage by stage."""
    for number, system in enumerate(explanation.systems, start=1):
        yield f"system {number}: {_place(system.box)}, staves {len(system.staves)}, strength {system.confidence:.2f}"
    for number, neighbours in enumerate(explanation.neighbours, start=1):
        gap, verdict = neighbours.gap, "joined" if neighbours.joined else "apart"
        seen = f"left line {gap.left:.2f}, bars {gap.bars}, distance {gap.distance:.1f}, overlap {gap.overlap:.2f}"
        yield f"staves {number} and {number + 1} {verdict}: {seen}"
    shown = list(_shown(explanation))
    for number, rejection in enumerate(shown, start=1):
        yield f"{number} rejected {rejection.stage}: {_place(rejection.box)}, {_why(rejection)}"
    if left_out := len(explanation.rejections) - len(shown):
        yield f"and {left_out} rejected courses of a few notes each"


def _shown(explanation: Explanation) -> Iterator[Rejection]:
    return (r for r in explanation.rejections if r.stage != "course" or r.box.x1 - r.box.x0 >= MIN_COURSE_LENGTH)


def _why(rejection: Rejection) -> str:
    return f"{rejection.reason}: {rejection.measured:.3g} < {rejection.threshold:.3g}"


def _place(box: Box) -> str:
    return f"x {box.x0:.3f}-{box.x1:.3f}, y {box.y0:.3f}-{box.y1:.3f}"


def _corners(canvas: Grey, box: Box) -> Corners:
    x0, y0, x1, y1 = (round(value * canvas.shape[1]) for value in (box.x0, box.y0, box.x1, box.y1))
    return x0, y0, x1, y1


def _frame(canvas: Grey, box: Box, colour: Colour) -> None:
    x0, y0, x1, y1 = _corners(canvas, box)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, 2)


def _label(canvas: Grey, text: str, place: tuple[int, int], colour: Colour, labels: list[Corners]) -> None:
    """Writes text on white at `place` (left, top), or below the labels that lie there; adds its corners to `labels`."""
    (width, _), _ = cv2.getTextSize(text, FONT, FONT_SIZE, 1)
    left, top = max(0, min(place[0], canvas.shape[1] - width)), max(0, place[1])

    def covered(other: Corners) -> bool:
        return other[0] < left + width and left < other[2] and other[1] < top + LABEL_HEIGHT_PX and top < other[3]

    while any(map(covered, labels)):
        top += LABEL_HEIGHT_PX // 2
    labels.append((left, top, left + width, top + LABEL_HEIGHT_PX))
    cv2.rectangle(canvas, (left, top), (left + width, top + LABEL_HEIGHT_PX), WHITE, -1)
    cv2.putText(canvas, text, (left, top + LABEL_HEIGHT_PX - 6), FONT, FONT_SIZE, colour, 1, cv2.LINE_AA)
