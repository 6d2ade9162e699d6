import json
from pathlib import Path

import pytest

from bench import bulk
from bench.bulk import Run
from indexer.ingest import Summary


def test_only_the_shared_part_gets_faster_with_cores() -> None:
    run = Run(summary=Summary(), wall_s=9.0, alone_s=2.0, shared_s=8.0)
    assert [run.predicted_s(cores) for cores in (1, 2, 8)] == [10.0, 6.0, 3.0]


def test_both_sets_hold_the_same_pages_and_all_are_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bulk.main(["--pages", "17", "--recordings", "1", "--jobs", "1", "--json", str(tmp_path / "bulk.json")])
    files, score = json.loads((tmp_path / "bulk.json").read_text())["rows"]
    assert (files["set"], files["pages"], files["minutes"]) == ("many files", 17, 1.0)
    assert (score["set"], score["pages"], score["minutes"]) == ("one long score", 17, 0.0)
    assert files["shared s"] > files["alone s"] > 0
    assert score["shared s"] > score["alone s"] > 0
    assert "on 16 cores" in capsys.readouterr().out
