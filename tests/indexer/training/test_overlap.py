import sys
from pathlib import Path

import mido
import numpy as np
import pytest

from indexer.synthesis.engrave import EngravingError, ScoreNotes
from indexer.training import overlap
from indexer.training.overlap import compare, performed_notes, phrases, top_line


def notes(onset: list[float], duration: list[float], pitch: list[int]) -> ScoreNotes:
    return ScoreNotes(
        onset_quarter=np.array(onset), duration_quarter=np.array(duration), pitch=np.array(pitch, np.int64)
    )


def melody(seed: int, transposed: int = 0, count: int = 80) -> ScoreNotes:
    rng = np.random.default_rng(seed)
    pitch = (rng.integers(60, 84, count) + transposed).tolist()
    return notes(list(np.arange(count) * 1.0), [1.0] * count, pitch)


def test_the_top_line_leaves_out_chords_and_what_sounds_under_a_held_note() -> None:
    music = notes([0, 0, 0.5, 1, 2.01, 2.02], [2, 1, 0.5, 1, 1, 1], [72, 60, 64, 74, 55, 67])
    assert top_line(music).tolist() == [72, 74, 67]


def test_a_transposed_piece_is_found_and_others_are_not() -> None:
    trained = {"same": phrases(melody(0, transposed=-5)), "other": phrases(melody(1))}
    (pair,) = compare(trained, {"piece": phrases(melody(0))})
    assert (pair.trained, pair.tested, pair.share) == ("same", "piece", 1.0)


def test_an_excerpt_is_found_in_the_whole_piece() -> None:
    whole, part = melody(0), melody(0, count=30)
    assert compare({"whole": phrases(whole)}, {"part": phrases(part)})[0].share == 1.0


def test_scales_prove_nothing() -> None:
    scale = notes(list(np.arange(40) * 1.0), [1.0] * 40, [60 + i % 12 for i in range(40)])
    assert not phrases(scale)


def test_a_performance_is_read_from_midi(tmp_path: Path) -> None:
    path = tmp_path / "played.mid"
    track = mido.MidiTrack()
    for number in (60, 64):
        track.append(mido.Message("note_on", note=number, velocity=64, time=0))
        track.append(mido.Message("note_on", note=number, velocity=0, time=480))
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(path)
    heard = performed_notes(path)
    assert heard.pitch.tolist() == [60, 64]
    assert heard.onset_quarter.tolist() == [0.0, 0.5]
    assert heard.duration_quarter.tolist() == [0.5, 0.5]


def test_files_of_one_name_in_two_folders_are_two_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, composer in enumerate(("mozart", "haydn")):
        (tmp_path / composer).mkdir()
        rng, track = np.random.default_rng(seed), mido.MidiTrack()
        for number in rng.integers(60, 84, 40).tolist():
            track.append(mido.Message("note_on", note=number, velocity=64, time=0))
            track.append(mido.Message("note_on", note=number, velocity=0, time=480))
        mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(tmp_path / composer / "sonata.mid")
    folders = [str(tmp_path / composer) for composer in ("mozart", "haydn")]
    monkeypatch.setattr(sys, "argv", ["overlap", "--trained", *folders, "--tested", folders[0], "--jobs", "1"])
    overlap.main()
    pair, count = capsys.readouterr().out.splitlines()
    assert pair.split() == ["100%", str(tmp_path / "mozart" / "sonata.mid"), "sonata"]
    assert count == "2 x 1 pieces compared, 1 pairs listed"


def test_what_is_no_midi_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "broken.mid"
    path.write_bytes(b"no music")
    with pytest.raises(EngravingError, match=r"broken\.mid: expected a MIDI file"):
        performed_notes(path)
