"""`scorefind segment`, called in the process of a test, with a small stand-in for the network."""

import errno
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import scorefind
from scorefind_segment import named_in
from tests.command_line import printed_json
from tests.fake_encoder import fake_loader
from tests.media import write_page, write_recording

RATE = 22050


class FullDisk(io.StringIO):
    """A standard output that takes no text."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorefind, "encoder_loader", fake_loader)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A collection of three takes, and three pages."""
    for seed, name in enumerate(("etude", "waltz", "rag")):
        write_recording(tmp_path / f"{name}.flac", seed, seconds=30)
        write_page(tmp_path / f"{name}.png", seed)
    files = [str(tmp_path / f"{name}.{suffix}") for name in ("etude", "waltz", "rag") for suffix in ("flac", "png")]
    assert scorefind.main(["add", "--jobs", "1", str(tmp_path / "c"), *files]) == 0
    return tmp_path / "c"


@pytest.fixture
def evening(filled: Path) -> Path:
    """Twenty seconds of noise, the waltz, ten seconds of noise, and the etude."""
    rng = np.random.default_rng(0)
    waltz, etude = (soundfile.read(filled.parent / f"{name}.flac")[0] for name in ("waltz", "etude"))
    noise = [0.1 * rng.standard_normal(RATE * seconds) for seconds in (20, 10)]
    soundfile.write(filled.parent / "evening.wav", np.concatenate([noise[0], waltz, noise[1], etude]), RATE)
    return filled.parent / "evening.wav"


def test_a_recording_is_told_as_json_as_a_cue_sheet_and_as_labels(
    filled: Path, evening: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cue, labels = filled.parent / "evening.cue", filled.parent / "evening.txt"
    arguments = ("segment", filled, evening, "--among", "recording", "--json", "--cue", cue, "--labels", labels)
    told = printed_json(capsys, *arguments)
    assert [passage["id"] for passage in told["passages"]] == ["waltz_recording", "etude_recording"]
    assert [passage["start_s"] for passage in told["passages"]] == pytest.approx([20, 60], abs=3)
    assert [passage["end_s"] for passage in told["passages"]] == pytest.approx([50, 90], abs=3)
    assert (told["duration_s"], told["pages"]) == (pytest.approx(90), None)
    assert told["start_s"] == 0
    assert cue.read_text().startswith('FILE "evening.wav" WAVE\n  TRACK 01 AUDIO\n')
    assert [line.split("\t")[2] for line in labels.read_text().splitlines()] == ["waltz", "etude"]


@pytest.mark.parametrize(
    ("sheet", "name"),
    [
        ("evening.cue", "lib/evening.flac"),
        ("lib/evening.cue", "evening.flac"),
        ("sheets/deep/evening.cue", "../../lib/evening.flac"),
        ("link/evening.cue", "../../lib/evening.flac"),
        ("pipe", "evening.flac"),
        ("/dev/stdout", "evening.flac"),
    ],
)
def test_a_cue_sheet_names_the_recording_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sheet: str, name: str
) -> None:
    (tmp_path / "sheets" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("sheets/deep")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    assert named_in(Path(sheet), Path("lib/evening.flac")) == name
    assert named_in(Path(sheet), tmp_path / "lib" / "evening.flac") == name


def test_a_cue_sheet_in_another_folder_finds_the_recording(filled: Path, evening: Path) -> None:
    sheet = filled.parent / "sheets" / "evening.cue"
    sheet.parent.mkdir()
    assert scorefind.main(["segment", str(filled), str(evening), "--among", "recording", "--cue", str(sheet)]) == 0
    assert sheet.read_text().startswith('FILE "../evening.wav" WAVE\n')


def test_files_that_cannot_be_written_cost_neither_the_set_list_nor_each_other(
    filled: Path, evening: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cue, labels = filled.parent / "none" / "evening.cue", filled.parent / "evening.txt"
    arguments = ["segment", str(filled), str(evening), "--among", "recording", "--cue", str(cue)]
    assert scorefind.main([*arguments, "--labels", str(labels)]) == 1
    told = capsys.readouterr()
    assert "waltz_recording" in told.out
    assert f"No such file or directory: '{cue}'\n" in told.err
    assert [line.split("\t")[2] for line in labels.read_text().splitlines()] == ["waltz", "etude"]


def test_a_set_list_that_cannot_be_printed_is_written_to_its_files(
    filled: Path, evening: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = filled.parent / "evening.txt"
    arguments = ["segment", str(filled), str(evening), "--among", "recording", "--labels", str(labels)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", FullDisk())
        assert scorefind.main(arguments) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert labels.exists()


def test_a_part_of_a_recording_keeps_the_seconds_of_the_file(
    filled: Path, evening: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = printed_json(capsys, "segment", filled, evening, "--among", "recording", "--json", "--start", "0:55")
    assert [passage["id"] for passage in told["passages"]] == ["etude_recording"]
    assert told["passages"][0]["start_s"] == pytest.approx(60, abs=3)
    assert (told["start_s"], told["duration_s"]) == (55, pytest.approx(35))


def test_a_table_has_no_gap_where_nothing_was_searched(
    filled: Path, evening: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = ["--start", "0:10", "--end", "0:55"]
    capsys.readouterr()
    assert scorefind.main(["segment", str(filled), str(evening), "--among", "recording", *part]) == 0
    _, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 3
    assert rows[0][0].startswith("0:10-")
    assert rows[1][2] == "waltz_recording"
    assert rows[2][0].endswith("-0:55")


def test_a_volume_is_told_by_pages_and_has_no_cue_sheet(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume = filled.parent / "volume"
    volume.mkdir()
    for number, name in enumerate(("rag", "etude"), start=1):
        (volume / f"p{number}.png").write_bytes((filled.parent / f"{name}.png").read_bytes())
    told = printed_json(capsys, "segment", filled, volume, "--among", "score", "--json")
    assert [(passage["id"], passage["pages"]) for passage in told["passages"]] == [
        ("rag", [1]),
        ("etude", [2]),
    ]
    assert (told["start_s"], told["duration_s"], told["pages"]) == (None, None, 2)
    assert scorefind.main(["segment", str(filled), str(volume), "--cue", str(volume / "x.cue")]) == 1
    assert "--cue and --labels are for recordings" in capsys.readouterr().err


def test_takes_of_one_piece_are_proposed_as_a_work_and_confirmed(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = filled.parent / "encore.wav"
    sound = soundfile.read(filled.parent / "waltz.flac")[0]
    soundfile.write(other, 0.5 * sound, RATE)
    assert scorefind.main(["add", "--jobs", "1", str(filled), str(other)]) == 0
    works = filled.parent / "works.csv"
    assert scorefind.main(["link", str(filled), "--out", str(works)]) == 0
    assert [line.split(",")[:2] for line in works.read_text().splitlines()[1:]] == [
        ["waltz", "waltz_recording"],
        ["waltz", "encore"],
    ]
    capsys.readouterr()
    assert scorefind.main(["link", str(filled), "--confirm", str(works)]) == 0
    assert capsys.readouterr().out == "2 documents have another work now\n"
    told = printed_json(capsys, "query", filled, other, "--among", "recording", "--json")
    assert told["works"][0]["documents"] in (["encore", "waltz_recording"], ["waltz_recording", "encore"])
    assert scorefind.main(["link", str(filled), "--confirm", str(works), "--out", str(works)]) == 2


def test_a_box_is_carried_to_another_edition(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edition = filled.parent / "edition"
    edition.mkdir()
    for number, name in enumerate(("etude", "rag"), start=1):
        (edition / f"p{number}.png").write_bytes((filled.parent / f"{name}.png").read_bytes())
    assert scorefind.main(["add", "--jobs", "1", str(filled), str(edition)]) == 0
    system = printed_json(capsys, "query", filled, filled.parent / "rag.png", "--among", "score", "--json")
    box = system["matches"][0]["boxes"][1]
    corners = f"{box['x0'] + 0.2},{box['y0']},{box['x1'] - 0.2},{box['y1']}"
    told = printed_json(capsys, "carry", filled, "rag", "1", corners, "--to", "edition", "--json")
    assert [(part["page"], part["system"]) for part in told["parts"]] == [(2, 5)]
    assert told["parts"][0]["x0"] == pytest.approx(box["x0"] + 0.2, abs=0.03)
    assert scorefind.main(["carry", str(filled), "rag", "1", "0.5,0.1,0.4,0.2", "--to", "edition"]) == 2
    assert scorefind.main(["carry", str(filled), "rag", "1", "0.1,0.0,0.2,0.001", "--to", "edition"]) == 1
    assert "no system on page 1" in capsys.readouterr().err


class _Stdin:
    def __init__(self, samples: np.ndarray) -> None:
        self.buffer = io.BytesIO((32767 * samples).astype("<i2").tobytes())


def test_what_is_played_into_the_standard_input_is_told_as_it_begins_and_ends(
    filled: Path, evening: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", _Stdin(soundfile.read(evening)[0]))
    labels = filled.parent / "live.txt"
    capsys.readouterr()
    arguments = ["segment", str(filled), "-", "--rate", str(RATE), "--among", "recording", "--labels", str(labels)]
    assert scorefind.main(arguments) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    events = [(words[1], words[2], words[4]) for words in told if words[2:3] in (["began"], ["ended"])]
    assert events[:3] == [
        ("1", "began", "waltz_recording"),
        ("1", "ended", "waltz_recording"),
        ("2", "began", "etude_recording"),
    ]
    assert [line.split("\t")[2] for line in labels.read_text().splitlines()] == ["waltz", "etude"]


def test_live_changes_are_objects_on_lines_of_their_own(
    filled: Path, evening: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", _Stdin(soundfile.read(evening)[0][: 60 * RATE]))
    capsys.readouterr()
    arguments = ["segment", str(filled), "-", "--rate", str(RATE), "--among", "recording", "--json"]
    assert scorefind.main(arguments) == 0
    *live, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["passages"][0]["ended"] for one in live[:2]] == [False, True]
    assert (last["query"], last["start_s"], last["duration_s"], len(last["passages"])) == ("-", 0, 60, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c", "-", "--start", "5"], "--start has no effect with the PATH -"),
        (["c", "-", "--cue", "x.cue"], "--cue has no effect with the PATH -"),
        (["c", "a.flac", "--rate", "44100"], "--rate has no effect without the PATH -"),
        (["c", "a.flac", "--tls-ca", "x"], "--tls-ca has no effect without --server"),
        (["a.flac", "--server", "x:1", "--speed", "2"], "--speed has no effect with --server"),
    ],
)
def test_options_of_segment_that_have_no_effect_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scorefind.main(["segment", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["1000", "768001", "0"])
def test_a_rate_at_which_no_samples_are_read_is_wrong_usage(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert scorefind.main(["segment", "c", "-", "--rate", rate]) == 2
    assert f"argument --rate: expected a sampling rate in Hz from 2000 to 768000, got {rate}" in capsys.readouterr().err


def test_a_recording_that_runs_too_fast_is_found_at_its_true_speed(
    filled: Path, evening: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = soundfile.read(evening)[0]
    fast = filled.parent / "fast.wav"
    soundfile.write(fast, samples, RATE * 5 // 4)
    told = printed_json(capsys, "segment", filled, fast, "--among", "recording", "--json", "--speed", "1.25")
    assert [passage["id"] for passage in told["passages"]] == ["waltz_recording", "etude_recording"]
    assert [passage["start_s"] for passage in told["passages"]] == pytest.approx([16, 48], abs=3)


def test_a_volume_is_not_transposed(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["segment", str(filled), str(filled.parent / "rag.png"), "--among", "score", "--transpose", "1"]
    assert scorefind.main(arguments) == 1
    assert "expected a recording to transpose" in capsys.readouterr().err
