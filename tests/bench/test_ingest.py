import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import ingest
from bench.ingest import Measured
from drawn_pages import drawn_page
from media import write_recording


def test_a_stage_is_compared_with_its_bound_per_page_and_second() -> None:
    shown = ingest.row(Measured(medium="score", stage="decode", ms=30.0, bound_ms=10.0), units=3)
    assert shown == {
        "of": "page",
        "stage": "decode",
        "ms": 10.0,
        "a second": 100.0,
        "bound ms": pytest.approx(10 / 3),
        "times the bound": pytest.approx(3),
    }
    unbound = ingest.row(Measured(medium="recording", stage="all", ms=30.0), units=60)
    assert (unbound["of"], unbound["a second"], unbound["bound ms"]) == ("second", 2000, None)


def test_the_opening_finds_the_rows_of_staff_lines() -> None:
    page, _ = drawn_page([1], notes=False)
    rows = ingest.staff_rows(page)
    assert set(range(72, 109, 9)) <= set(rows.tolist())
    assert len(rows) <= 10


def test_the_time_is_that_of_the_quickest_run_after_the_first() -> None:
    runs: list[int] = []

    def work() -> int:
        runs.append(sum(range(3_000_000 if not runs else 1000)))
        return len(runs)

    result, ms = ingest.timed(work)
    assert (result, len(runs)) == (1, 1 + ingest.REPEATS)
    assert ms < 5


def test_files_of_ones_own_are_measured_by_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ingest, "REPEATS", 1)
    monkeypatch.setattr(ingest.importlib.util, "find_spec", lambda name: None)  # librosa compiles for seconds
    page, _ = drawn_page([2, 2])
    Image.fromarray(page).save(tmp_path / "page.jpg")
    take = write_recording(tmp_path / "take.flac", 0, 6.0)
    ingest.main(
        ["--scores", str(tmp_path / "page.jpg"), "--recordings", str(take), "--json", str(tmp_path / "out.json")]
    )
    printed = capsys.readouterr().out
    assert "1 pages of 1.4 megapixels on average; 6 s of sound" in printed
    stages = [(row["of"], row["stage"]) for row in json.loads((tmp_path / "out.json").read_text())["rows"]]
    assert stages == [
        *(("page", stage) for stage in ("decode", "find systems", "systems to snippets", "network")),
        *(("second", stage) for stage in ("decode, mix, resample", "spectrogram", "excerpts", "network")),
        *(("page", "all"), ("second", "all")),
    ]


def test_made_recordings_are_not_silent(tmp_path: Path) -> None:
    first, second = ingest.made_recordings(tmp_path, seconds=2)
    samples = [np.asarray(ingest.audio.read_audio(file)) for file in (first, second)]
    assert min(float(np.abs(one).max()) for one in samples) > 0.3
    assert not np.array_equal(*samples)
