"""The report's drawings."""

import numpy as np

from engine.values import Box, System
from indexer.demo import pictures


def system(number: int) -> System:
    box = Box(x0=0.1, y0=0.2 * number, x1=0.9, y1=0.2 * number + 0.1)
    return System(page=1, number=number, box=box, staves=(box, box), staff_space=0.01, confidence=1.0)


def test_each_system_gets_a_box() -> None:
    drawing = pictures.page(np.full((800, 600), 255, np.uint8), [system(1), system(2)], "right")
    assert drawing.count("<rect") == 2
    assert 'viewBox="0 0 420 560"' in drawing


def test_a_path_is_cut_where_it_jumps() -> None:
    path = np.array([(0, 0), (1, 1), (2, 7), (3, 8)], np.int32)
    drawing = pictures.cost_matrix(np.ones((4, 10), np.float32), path)
    assert drawing.count('class="path"') == 2
    assert drawing.count('class="jump"') == 1


def test_a_path_without_cells_leaves_the_matrix_alone() -> None:
    drawing = pictures.cost_matrix(np.ones((4, 10), np.float32), np.empty((0, 2), np.int32))
    assert 'points="' not in drawing.replace('points=""', "")


def test_a_crop_shows_its_systems_with_room_about_them() -> None:
    drawing = pictures.crop(np.full((900, 600), 255, np.uint8), [system(1), system(2)], width=600)
    height = 600 * (0.3 + 2 * 0.045)
    assert f'viewBox="0 0 600 {height:.0f}"' in drawing
