import json
from pathlib import Path

from bench.lib import report


def test_a_table_aligns_text_to_the_left_and_numbers_to_the_right() -> None:
    rows = [{"query": "whole", "n": 7, "MRR": 0.5}, {"query": "10 s", "n": 123, "MRR": None}]
    assert report.table(rows).splitlines() == [
        "query    n    MRR",
        "-----  ---  -----",
        "whole    7  0.500",
        "10 s   123",
    ]


def test_a_table_without_rows_says_so() -> None:
    assert report.table([]) == "(no rows)"


def test_the_environment_names_the_machine_and_the_commit_in_one_line() -> None:
    environment = report.environment()
    line = report.heading(environment)
    assert str(environment["cpu"]) in line
    assert str(environment["commit"]) in line
    assert "\n" not in line


def test_what_is_saved_is_one_json_object(tmp_path: Path) -> None:
    report.save(tmp_path / "new" / "a.json", rows=[{"MRR": 0.5}], set="dev")
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"rows": [{"MRR": 0.5}], "set": "dev"}


def test_an_interval_stands_behind_its_figure() -> None:
    row = {"n": 3, "MRR": 0.75, "MR": None, "MRR 95%": [0.5, 1.0], "MR 95%": [2.0, None]}
    assert report.with_intervals(row) == {"n": 3, "MRR": "0.75 [0.5, 1]", "MR": "- [2, -]"}
