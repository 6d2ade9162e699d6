from pathlib import Path

import numpy as np
import pytest

from engine.symbols.layout import Layout
from indexer.synthesis.engrave import EngravedPage, Engraver, EngravingError, random_layout
from small_scores import write_kern


@pytest.fixture(scope="module")
def engraver(tmp_path_factory: pytest.TempPathFactory) -> Engraver:
    return Engraver(write_kern(tmp_path_factory.mktemp("scores") / "piece.krn", seed=0))


def test_every_note_sounds_at_its_onset(engraver: Engraver) -> None:
    notes = engraver.notes()
    assert len(notes.pitch) == 12 * 4 * 2
    assert np.array_equal(np.unique(notes.onset_quarter), np.arange(48))
    assert set(notes.duration_quarter) == {1.0}


def test_every_notehead_is_where_the_page_says(engraver: Engraver) -> None:
    for page in engraver.pages(Layout()):
        assert len(page.note_x)
        for number, x in zip(page.note_system, page.note_x, strict=True):
            assert _blackest_run(page, int(number), float(x)) >= 5  # half a staff space, no staff line is that thick


def test_a_system_spans_its_staff_lines(engraver: Engraver) -> None:
    page = next(engraver.pages(Layout()))
    width = page.image.shape[1]
    for system in page.systems:
        assert len(system.staves) == 2
        for y in (system.box.y0, system.box.y1):
            rows = page.image[round(y * width) - 1 : round(y * width) + 2]
            assert (rows.min(axis=0)[round(system.box.x0 * width) + 2 : round(system.box.x1 * width) - 2] < 160).all()


def test_layouts_move_the_music_but_keep_the_onsets(engraver: Engraver) -> None:
    rng = np.random.default_rng(0)
    onsets = [
        np.unique(np.concatenate([page.note_quarter for page in engraver.pages(random_layout(rng))])) for _ in range(2)
    ]
    assert np.array_equal(*onsets)


def test_a_transposed_score_sounds_higher_and_is_printed_higher(tmp_path: Path) -> None:
    path = write_kern(tmp_path / "piece.krn", seed=0)
    (own, low, high) = (Engraver(path, semitones) for semitones in (0, -5, 3))
    assert np.array_equal(low.notes().pitch, own.notes().pitch - 5)
    assert np.array_equal(high.notes().pitch, own.notes().pitch + 3)
    assert np.array_equal(high.notes().onset_quarter, own.notes().onset_quarter)
    first, raised = (next(source.pages(Layout())) for source in (own, high))
    assert np.array_equal(first.note_quarter[:8], raised.note_quarter[:8])
    assert raised.note_x[0] > first.note_x[0]  # behind the three flats of E flat major


def test_a_file_that_is_no_score_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "broken.krn"
    path.write_text("no music here")
    with pytest.raises(EngravingError, match=r"broken\.krn"):
        Engraver(path)


def _blackest_run(page: EngravedPage, number: int, x: float) -> int:
    """The longest run of black pixels down the page at x, within the system and a few ledger lines."""
    width = page.image.shape[1]
    system = next(system for system in page.systems if system.number == number)
    reach = 4 * system.staff_space
    column = page.image[
        round((system.box.y0 - reach) * width) : round((system.box.y1 + reach) * width), round(x * width)
    ]
    edges = np.flatnonzero(np.diff(np.concatenate([[0], column < 128, [0]]).astype(int)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
