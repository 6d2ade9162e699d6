import json
import logging
from pathlib import Path

import pytest
from PIL import Image

from indexer.training import curves


def write_run(folder: Path, *pairs: int, candidates: int = 2000) -> Path:
    """A run with an evaluation, among so many candidates, after each of these numbers of pairs."""
    folder.mkdir()
    rows = [
        {"pairs_seen": seen, "loss": 1 / seen, "pairs": candidates, "A2S MRR": seen / 100, "S2A MRR": seen / 200}
        for seen in pairs
    ]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_the_pairs_of_a_run_count_on_from_those_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = write_run(tmp_path / "a", 10, 20), write_run(tmp_path / "b", 5, 15)
    runs = curves.read([str(first), f"more={second}"])
    assert [(run.name, run.pairs) for run in runs] == [("a", [10, 20]), ("more", [25, 35])]
    with caplog.at_level(logging.INFO):
        curves.main([str(first), f"more={second}", "--plot", str(tmp_path / "curves.png")])
    assert "more: 35 pairs, loss 0.07, A2S MRR 0.150, S2A MRR 0.075" in caplog.text
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 500


def test_a_run_without_evaluations_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"a/log\.jsonl: No such file"):
        curves.read([str(tmp_path / "a")])
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "log.jsonl").touch()
    with pytest.raises(SystemExit, match=r"a/log\.jsonl: no evaluation yet"):
        curves.read([str(tmp_path / "a")])


def test_the_last_fit_of_a_projection_is_no_evaluation(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 10, 20)
    with (folder / "log.jsonl").open("a") as file:
        file.write('\n{"refit_pairs": 64, "A2S MRR before": 0.2, "pairs": 2000, "A2S MRR": 0.3, "S2A MRR": 0.1}')
    (run,) = curves.read([str(folder)])
    assert run.pairs == [10, 20]
    curves.main([str(folder), "--plot", str(tmp_path / "curves.png")])
    assert (tmp_path / "curves.png").exists()


def test_the_curves_say_among_how_many_candidates_they_are(tmp_path: Path) -> None:
    many, few = write_run(tmp_path / "a", 10), write_run(tmp_path / "b", 5, candidates=250)
    assert curves.label(curves.read([str(many)])) == "MRR of validation, 2,000 candidates"
    assert curves.label(curves.read([str(many), str(few)])) == "MRR of validation, 250 or 2,000 candidates"


def test_a_broken_line_of_a_log_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", 10)
    with (folder / "log.jsonl").open("a") as file:
        file.write('\n{"pairs_seen": 2')
    with pytest.raises(SystemExit, match=r"a/log\.jsonl: expected JSON in line 2: "):
        curves.read([str(folder)])
