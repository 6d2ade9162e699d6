import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.symbols.layout import Layout
from indexer.synthesis.engrave import EngravedPage, EngravingError
from indexer.synthesis.lilypond import LilyPondEngraver
from indexer.training.corpus import engraver

needs_lilypond = pytest.mark.skipif(shutil.which("lilypond") is None, reason="LilyPond is not installed")

PIECE = r"""
\version "2.10.0"
\include "left.ily"
right = \relative c'' { c4 d \grace { f16 } e4 f~ f g a b \break c1 }
\score { \new PianoStaff << \new Staff \right \new Staff \left >> \layout { } }
\score { \new PianoStaff << \new Staff { c'2 d' } \new Staff { \clef bass \hideNotes c1 } >> }
"""
LEFT = r"left = \relative c { \clef bass c1 <d f> e }"


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> tuple[LilyPondEngraver, list[EngravedPage]]:
    folder = tmp_path_factory.mktemp("scores")
    (folder / "left.ily").write_text(LEFT)
    (folder / "piece.ly").write_text(PIECE)
    source = LilyPondEngraver(folder / "piece.ly")
    return source, list(source.pages(Layout(staff_space_px=9.0)))


@needs_lilypond
def test_every_note_sounds_once_with_grace_notes_before_the_beat_and_ties_held(
    music: tuple[LilyPondEngraver, list[EngravedPage]],
) -> None:
    notes = music[0].notes()
    heard = list(zip(notes.onset_quarter, notes.duration_quarter, notes.pitch, strict=True))
    assert (1.9375, 0.0625, 77) in heard
    assert (3.0, 2.0, 77) in heard
    assert (4.0, 4.0, 53) in heard
    assert len(heard) == 8 + 1 + 4 + 2
    assert heard[-1] == (14.0, 2.0, 62)  # the second score follows on the first, its hidden note is silent


@needs_lilypond
def test_onsets_are_found_on_the_page_in_their_systems(music: tuple[LilyPondEngraver, list[EngravedPage]]) -> None:
    (page,) = music[1]
    assert [system.number for system in page.systems] == [1, 2, 3]
    onsets = [sorted(set(page.note_quarter[page.note_system == number])) for number in (1, 2, 3)]
    assert onsets == [[0, 1, 2, 3, 4, 5, 6, 7], [8], [12, 14]]


@needs_lilypond
def test_noteheads_and_staff_lines_are_black_where_the_page_says(
    music: tuple[LilyPondEngraver, list[EngravedPage]],
) -> None:
    (page,) = music[1]
    width = page.image.shape[1]
    for system in page.systems:
        assert len(system.staves) == 2
        assert system.staff_space * width == pytest.approx(9.0, abs=0.05)
        lines = np.linspace(system.staves[0].y0, system.staves[0].y1, 5) * width
        column = round((system.box.x1 - system.staff_space / 3) * width)
        assert all(page.image[int(y) - 1 : int(y) + 2, column].min() < 190 for y in lines)
    quarters = (page.note_quarter < 8) & (page.note_quarter % 4 != 0)
    for number, x in zip(page.note_system[quarters], page.note_x[quarters], strict=True):
        box = page.systems[number - 1].box
        column = page.image[round((box.y0 - 0.05) * width) : round((box.y0 + box.y1) / 2 * width), round(x * width)]
        assert "1" * 5 in "".join("1" if grey < 128 else "0" for grey in column)


@needs_lilypond
def test_scores_of_other_than_two_staves_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "melody.ly"
    path.write_text("{ c'4 d' e' f' }")
    with pytest.raises(EngravingError, match=r"melody\.ly: expected systems of two staves, got 1"):
        next(LilyPondEngraver(path).pages(Layout()))


def test_without_lilypond_its_scores_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngravingError, match=r"piece\.ly: needs `lilypond` on PATH"):
        engraver(tmp_path / "piece.ly")
