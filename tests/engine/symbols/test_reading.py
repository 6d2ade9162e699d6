"""Scores in symbols as they look and as they sound, by Verovio and a SoundFont."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine import media
from engine.audio import SAMPLE_RATE
from engine.config import GENEROUS, FrontEnd, MediaLimits
from engine.errors import AudioError, MediaError, PageError
from engine.symbols import formats, read_engraved, read_played, soundfont, verovio
from engine.symbols.midi import read_midi
from engine.symbols.notation import read_notation
from engine.symbols.playing import Playing, to_midi
from small_scores import write_kern, write_piano
from small_symbols import ABC, MEI, musicxml

FRONT_END = FrontEnd()
SCALE = [60, 62, 64, 65, 67, 69, 71, 72]


def written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def pitches(path: Path) -> list[int]:
    """The pitches that a score sounds, in order."""
    return read_midi(verovio.midi(read_notation(path))).pitch.tolist()


def playing(onset_s: list[float], held_s: float = 0.5, pedal: tuple[float, float] | None = None) -> Playing:
    onsets = np.array(onset_s)
    return Playing(
        onset_s=onsets,
        release_s=onsets + held_s,
        pitch=np.full(len(onsets), 60),
        velocity=np.full(len(onsets), 90),
        pedal_s=np.array([pedal] if pedal else [], np.float64).reshape(-1, 2),
        pedal_depth=np.ones(1 if pedal else 0),
    )


def loudness(samples: np.ndarray, second: float) -> float:
    """Root mean square of a tenth of a second."""
    first = round(second * SAMPLE_RATE)
    return float(np.sqrt(np.mean(samples[first : first + SAMPLE_RATE // 10] ** 2)))


def test_notation_is_engraved_into_pages_with_all_of_its_systems(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    score = read_engraved(
        write_piano(tmp_path / "a.krn", seed=1), FRONT_END, progress=lambda done, total: told.append((done, total))
    )
    assert score.pages == len(told) == told[-1][1] >= 2
    assert {len(system.staves) for system in score.systems} == {2}
    assert {system.page for system in score.systems} == set(range(1, score.pages + 1))


@pytest.mark.parametrize("number", [-1, 0, 2])
def test_a_page_that_notation_does_not_have_is_named(tmp_path: Path, number: int) -> None:
    path = written(tmp_path / "a.abc", ABC)
    assert media.page_picture(path, 1, turn=0, width=400, limits=GENEROUS)
    with pytest.raises(PageError, match=rf"a\.abc: has no page {number}$"):
        media.page_picture(path, number, turn=0, width=400, limits=GENEROUS)


def test_eight_staves_are_one_system(tmp_path: Path) -> None:
    score = read_engraved(written(tmp_path / "a.musicxml", musicxml(SCALE * 6, staves=8)), FRONT_END)
    assert [len(system.staves) for system in score.systems][:2] == [8, 8]


def test_more_staves_than_a_page_has_room_for_are_drawn_smaller(tmp_path: Path) -> None:
    score = read_engraved(written(tmp_path / "a.musicxml", musicxml(SCALE * 2, staves=30)), FRONT_END)
    assert sum(len(system.staves) for system in score.systems) == 30


def test_notation_and_midi_are_played(tmp_path: Path) -> None:
    kern = write_kern(tmp_path / "a.krn", seed=1, bars=6)  # 24 quarters, two a second
    recording = read_played(kern, FRONT_END)
    assert recording.duration_s == pytest.approx(12 + soundfont.TAIL_S, abs=0.1)
    (tmp_path / "a.mid").write_bytes(verovio.midi(read_notation(kern)))
    same = read_played(tmp_path / "a.mid", FRONT_END)
    np.testing.assert_array_equal(same.spectrogram, recording.spectrogram)


def test_a_part_of_what_is_played_keeps_its_seconds(tmp_path: Path) -> None:
    kern = write_kern(tmp_path / "a.krn", seed=1, bars=8)
    part = read_played(kern, FRONT_END, 4.0, 10.0)
    assert (part.start_s, part.duration_s) == (4.0, 6.0)
    whole = read_played(kern, FRONT_END).spectrogram[:, 80 + 10 : 200 - 10]
    assert np.corrcoef(whole.ravel(), part.spectrogram[:, 10 : 10 + whole.shape[1]].ravel())[0, 1] > 0.95
    with pytest.raises(AudioError, match=r"a\.krn: expected a fragment with 0 <= start < end, got 3 s to 2.0 s"):
        read_played(kern, FRONT_END, 3.0, 2.0)
    with pytest.raises(AudioError, match=r"a\.krn: holds no audio"):
        read_played(kern, FRONT_END, 100.0)


def test_repeats_and_transposed_parts_sound_as_played(tmp_path: Path) -> None:
    clarinet = "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>"
    again = '<barline location="right"><repeat direction="backward"/></barline>'
    path = written(tmp_path / "a.musicxml", musicxml(SCALE, attributes=clarinet, end=again))
    assert pitches(path) == [pitch - 2 for pitch in SCALE] * 2


def test_grace_notes_and_an_upbeat_are_played(tmp_path: Path) -> None:
    lines = ["**kern", "*clefG2", "*M4/4", "4c", "=1", "8qd", "2e", "2f", "==", "*-"]
    assert pitches(written(tmp_path / "a.krn", "\n".join(lines))) == [60, 62, 64, 65]


def test_all_movements_and_tunes_of_a_file_are_read(tmp_path: Path) -> None:
    assert pitches(written(tmp_path / "a.mei", MEI)) == [60, 62, 64]
    tunes = pitches(written(tmp_path / "a.abc", ABC))  # the tunes follow each other without an empty line
    assert tunes[-6:] == [67, 67, 67, 69, 69, 69]
    assert tunes[:4] == [60, 62, 64, 65]


@pytest.mark.parametrize("read", [read_engraved, read_played])
@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("**kern\n4c\t4d\n*-\n", r"Verovio, which engraves it, died of it \(SIG"),
        ("**kern\n*clefG2\n1r\n*-\n", "expected a score with notes, got one without"),
        (MEI.replace("<mdiv>", "<nothing>").replace("</mdiv>", "</nothing>"), "Verovio cannot read it|without"),
    ],
)
def test_what_verovio_cannot_read_fails_alone(
    tmp_path: Path, content: str, cause: str, read: Callable[..., object]
) -> None:
    with pytest.raises(MediaError, match=rf"odd\.krn: {cause}"):
        read(written(tmp_path / "odd.krn", content), FRONT_END)


def test_percussion_alone_cannot_be_played(tmp_path: Path) -> None:
    drum = musicxml(SCALE).replace("<pitch>", "<unpitched>").replace("</pitch>", "</unpitched>")
    drum = drum.replace("step>", "display-step>").replace("octave>", "display-octave>")
    with pytest.raises(AudioError, match="got none that a piano can play"):
        read_played(written(tmp_path / "a.musicxml", drum), FRONT_END)


def test_a_score_has_a_time_and_a_length_that_it_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_kern(tmp_path / "long.krn", seed=1, bars=400)
    with pytest.raises(PageError, match=r"long\.krn: more than 2 pages, the largest number accepted"):
        read_engraved(path, FRONT_END, MediaLimits(pages=2))
    with pytest.raises(AudioError, match=r"long\.krn: longer than 30 s, the maximum"):
        read_played(path, FRONT_END, limits=MediaLimits(seconds=30.0))
    monkeypatch.setattr(verovio, "CPU_S", 1)
    write_kern(path, seed=1, bars=3_000)
    with pytest.raises(PageError, match=r"long\.krn: Verovio, which engraves it, took longer than 1 s of processor"):
        read_engraved(path, FRONT_END)


def test_midi_is_not_engraved(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r"a\.mid: a MIDI file holds no notation to engrave; it can only be played"):
        read_engraved(tmp_path / "a.mid", FRONT_END)


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "missing", lambda: "symbols, which need verovio: pip install 'scorefind[symbols]'")
    for read in (read_engraved, read_played):
        with pytest.raises(MediaError, match=r"a\.krn: symbols, which need verovio: pip install"):
            read(write_kern(tmp_path / "a.krn", seed=0), FRONT_END)  # type: ignore[operator]


def test_a_note_rings_on_into_the_next_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfont, "BLOCK_S", 2.0)
    blocks = list(soundfont.sound(playing([1.9, 4.1, 9.0], held_s=1.5)))
    samples = np.concatenate(blocks)
    assert {len(block) for block in blocks[:-1]} == {2 * SAMPLE_RATE}
    assert len(samples) == pytest.approx((10.5 + soundfont.TAIL_S) * SAMPLE_RATE, abs=1)
    assert loudness(samples, 2.2) > 10 * loudness(samples, 1.0)
    assert loudness(samples, 4.3) > 10 * loudness(samples, 8.0)


def test_the_pedal_lets_notes_ring() -> None:
    dry, wet = (np.concatenate(list(soundfont.sound(playing([0.0], pedal=pedal)))) for pedal in (None, (0.2, 2.0)))
    assert loudness(wet, 1.5) > 10 * loudness(dry, 1.5)


def test_a_note_without_length_does_not_ring_on() -> None:
    struck, held = (np.concatenate(list(soundfont.sound(playing([0.0], held_s=held)))) for held in (0.0, 2.0))
    assert loudness(held, 0.5) > 10 * loudness(struck, 0.5)


def test_a_file_that_is_written_ends_after_its_tail() -> None:
    whole = soundfont.synthesise(to_midi(playing([0.0]), tail_s=1.0), soundfont.default_soundfont())
    assert len(whole) / SAMPLE_RATE == pytest.approx(1.5, abs=0.01)
