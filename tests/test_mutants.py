"""The list of faults, and the script that applies them."""

import subprocess
from pathlib import Path

import pytest

import mutants
from mutants import Fault

FAULTS = mutants.read()

LIST = """
[[fault]]
what = "Adds one too many."
file = "sums.py"
old = "a + b"
new = "a + b + 1"
tests = ["test_sums.py"]

[[fault]]
what = "Greets in another way."
file = "sums.py"
old = "hello"
new = "good bye"
tests = ["test_sums.py"]

[[fault]]
what = "Changes what is not there."
file = "sums.py"
old = "a - b"
new = "b - a"
tests = ["test_sums.py"]

[[fault]]
what = "Is blamed for a test that fails anyway."
file = "sums.py"
old = "hello"
new = "good bye"
tests = ["test_broken.py"]
"""


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.what for fault in FAULTS])
def test_no_fault_of_the_list_is_stale(fault: Fault) -> None:
    assert not mutants.stale(fault)
    assert fault.new != fault.old
    assert all((mutants.ROOT / test).is_file() for test in fault.tests)


def test_no_fault_is_listed_twice() -> None:
    assert len({(fault.file, fault.old, fault.new) for fault in FAULTS}) == len(FAULTS)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository of one module and its tests."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "sums.py").write_text("def add(a, b):\n    return a + b\n\n\nGREETING = 'hello'\n")
    (root / "test_sums.py").write_text("import sums\n\n\ndef test_add():\n    assert sums.add(1, 2) == 3\n")
    (root / "test_broken.py").write_text("def test_broken():\n    assert False\n")
    (root / "untracked.py").touch()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "sums.py", "test_sums.py", "test_broken.py"], cwd=root, check=True)
    (tmp_path / "list.toml").write_text(LIST)
    return root


def test_faults_are_noticed_unnoticed_stale_or_blamed_for_nothing(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (tree / "sums.py").read_text()
    assert mutants.main(["--jobs", "2"], path=tree.parent / "list.toml", root=tree) == 1
    out = capsys.readouterr().out
    told = [line.strip() for line in out.splitlines()[1:-1:2]]
    assert told == [
        "test_sums.py::test_add",
        "UNNOTICED",
        "stale: its text is not found exactly once",
        "no fault is needed for this test to fail: test_broken.py::test_broken",
    ]
    assert out.splitlines()[-1] == "4 faults, 1 noticed, 3 not"
    assert (tree / "sums.py").read_text() == before


def test_one_fault_can_be_chosen(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mutants.main(["--only", "one too many"], path=tree.parent / "list.toml", root=tree) == 0
    assert "1 faults, 1 noticed, 0 not" in capsys.readouterr().out
    assert mutants.main(["--only", "nothing of this name"], path=tree.parent / "list.toml", root=tree) == 1


def test_a_copy_holds_what_git_tracks(tree: Path, tmp_path: Path) -> None:
    copy = mutants.copied(tree, tmp_path / "copy")
    assert sorted(path.name for path in copy.iterdir()) == ["sums.py", "test_broken.py", "test_sums.py"]
