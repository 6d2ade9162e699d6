"""`scorefind segment`, called in the process of a test, with a small stand-in for the network."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import scorefind
from tests.command_line import printed_json
from tests.fake_encoder import fake_loader
from tests.media import write_page, write_recording

RATE = 22050


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
    assert cue.read_text().startswith('FILE "evening.wav" WAVE\n  TRACK 01 AUDIO\n')
    assert [line.split("\t")[2] for line in labels.read_text().splitlines()] == ["waltz", "etude"]


def test_a_part_of_a_recording_keeps_the_seconds_of_the_file(
    filled: Path, evening: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = printed_json(capsys, "segment", filled, evening, "--among", "recording", "--json", "--start", "0:55")
    assert [passage["id"] for passage in told["passages"]] == ["etude_recording"]
    assert told["passages"][0]["start_s"] == pytest.approx(60, abs=3)
    assert told["duration_s"] == pytest.approx(90)


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
    assert (told["duration_s"], told["pages"]) == (None, 2)
    assert scorefind.main(["segment", str(filled), str(volume), "--cue", str(volume / "x.cue")]) == 1
    assert "--cue and --labels are for recordings" in capsys.readouterr().err
