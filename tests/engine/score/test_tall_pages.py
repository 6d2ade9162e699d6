"""Pages that are up to twenty times as high as wide, such as screenshots of whole scores."""

import io
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from drawn_pages import Grey, draw_staff
from engine.score import facsimile
from engine.score.detection import find_systems
from engine.score.ink import MAX_SIDE_PX, page_ink
from engine.score.leaf import MAX_HEIGHT_PX
from engine.score.pages import pages_of, read_pages


def tall_page(width: int, height: int, *, space: int) -> tuple[Grey, int]:
    """A page full of single staves, twelve staff spaces apart, and their number."""
    page = np.full((height, width), 255, np.uint8)
    tops = range(4 * space, height - 8 * space, 12 * space)
    for top in tops:
        draw_staff(page, top, round(0.08 * width), round(0.93 * width), space)
    return page, len(tops)


def test_all_staves_of_a_tall_page_are_found() -> None:
    page, staves = tall_page(400, 7800, space=5)
    assert staves > 120
    assert len(find_systems(page)) == staves


def test_a_page_is_reduced_until_a_picture_can_be_as_high(tmp_path: Path) -> None:
    Image.fromarray(np.full((33_000, 1_800), 255, np.uint8)).save(tmp_path / "page.png")
    document = pypdfium2.PdfDocument.new()
    document.new_page(180, 3_300)
    document.new_page(249, 3_184)
    document.save(tmp_path / "pages.pdf")
    document.close()
    sizes = {1: (894, 16_383), 2: (1_282, 16_383)}
    for name in ("page.png", "pages.pdf"):
        found = facsimile.page_sizes(tmp_path / name)
        assert found == {number: sizes[number] for number in found}
        assert [page.shape[::-1] for page in read_pages(tmp_path / name)] == list(found.values())


def test_the_highest_page_has_its_systems() -> None:
    (page,) = pages_of([np.full((36_000, 1_800), 255, np.uint8)])
    staves, _ = tall_page(page.shape[1], 600, space=5)
    page[: len(staves)] = staves
    page[-len(staves) :] = staves
    assert len(find_systems(page)) == 18


def test_a_page_is_not_enlarged_beyond_what_can_be_sampled() -> None:
    """A page of the largest height that runs askew is higher when it is level."""
    page, _ = tall_page(1_000, MAX_HEIGHT_PX + 100, space=5)
    ink = page_ink(page)
    assert ink is not None
    assert ink.space == pytest.approx(10, abs=0.1)
    assert max(*ink.pixels.shape, *ink.sharp.shape) <= MAX_SIDE_PX


@pytest.mark.parametrize("turn", [0, 90])
def test_the_picture_of_a_page_is_as_wide_as_its_height_allows(turn: int) -> None:
    page = np.full((20_000, 1_080), 255, np.uint8)
    picture = facsimile.encoded(page, turn=turn)
    size = (884, 16_370) if turn == 0 else (1_200, 65)
    assert facsimile.picture_size(picture) == size
    assert Image.open(io.BytesIO(picture)).size == size
