import struct
import sys
from collections.abc import Callable
from pathlib import Path

import mido
import numpy as np
import pytest

from engine.errors import AudioError
from indexer.synthesis.engrave import ScoreNotes
from indexer.training import corpus, overlap, train
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
    with pytest.raises(AudioError, match=r"broken\.mid: expected a MIDI file"):
        performed_notes(path)


def write_midi(path: Path, form: int = 0, extra: bytes = b"") -> bytes:
    """A melody of 40 notes; extra: events before them."""
    pitches = np.random.default_rng(0).integers(60, 84, 40).tolist()
    events = b"".join(bytes([0, 0x90, pitch, 64, 0x40, 0x80, pitch, 0]) for pitch in pitches)
    track = extra + events + b"\0\xff\x2f\0"
    data = b"MThd" + struct.pack(">IHHH", 6, form, 1, 96) + b"MTrk" + struct.pack(">I", len(track)) + track
    path.write_bytes(data)
    return data


def test_midi_files_are_read_as_a_search_reads_them(tmp_path: Path) -> None:
    """An invalid key signature, a file of format 2, and one that is cut off."""
    write_midi(tmp_path / "plain.mid")
    write_midi(tmp_path / "key.mid", extra=b"\0\xff\x59\x02\x0a\0")
    write_midi(tmp_path / "patterns.mid", form=2)
    (tmp_path / "cut.mid").write_bytes(write_midi(tmp_path / "whole.mid")[:-44])
    plain, key, patterns, cut = (
        performed_notes(tmp_path / f"{name}.mid").pitch.tolist() for name in ("plain", "key", "patterns", "cut")
    )
    assert plain == key == patterns
    assert cut == plain[:35]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["overlap", *map(str, arguments)])
    overlap.main()


def test_suffixes_in_capitals_are_those_of_midi_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_midi(tmp_path / "PLAYED.MID")
    run(monkeypatch, "--trained", tmp_path, "--tested", tmp_path / "PLAYED.MID", "--jobs", "1")
    assert capsys.readouterr().out.splitlines()[-1] == "1 x 1 pieces compared, 1 pairs listed"


def test_a_side_without_pieces_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_midi(tmp_path / "played.mid")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mid").write_bytes(b"no music")
    (tmp_path / "scores.csv").write_text("name,path\na,b\n")
    for name, cause in (
        ("empty", "expected scores or MIDI files .*, got none"),
        ("absent", "no such file or folder"),
        ("absent.csv", "No such file"),
        ("scores.csv", "expected a CSV file .* the columns id and path"),
    ):
        with pytest.raises(SystemExit, match=rf"{tmp_path / name}: {cause}"):
            run(monkeypatch, "--trained", tmp_path / "played.mid", "--tested", tmp_path / name, "--jobs", "1")
    with pytest.raises(SystemExit, match=r"nothing to compare in 1 files, the first of them .*broken\.mid"):
        run(monkeypatch, "--trained", tmp_path / "broken.mid", "--tested", tmp_path / "played.mid", "--jobs", "1")


def test_a_piece_without_a_phrase_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_midi(tmp_path / "played.mid")
    (tmp_path / "short.mid").write_bytes(data[:80])
    run(monkeypatch, "--trained", tmp_path, "--tested", tmp_path / "played.mid", "--jobs", "1")
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"not compared: {tmp_path / 'short.mid'}: expected a melody with phrases")
    assert told[-1] == "1 x 1 pieces compared, 1 pairs listed"


@pytest.mark.parametrize("program", [overlap.main, corpus.main, train.main])
def test_programs_without_a_process_are_refused(
    program: Callable[[], object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--jobs", "0"])
    with pytest.raises(SystemExit, match="2"):
        program()
    assert "argument --jobs: expected at least 1, got 0" in capsys.readouterr().err
