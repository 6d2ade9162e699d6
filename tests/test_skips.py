"""A run with `--strict-skips` fails if a test is skipped for a reason that is not allowed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    ("skip", "code"),
    [
        ("pytest.skip('FAISS finds no GPU')", 0),
        ("pytest.skip('the package for hnswlib is not installed (extra `peers`)')", 0),
        ("pytest.skip('it is raining')", 1),
        ("pytest.importorskip('no_such_package')", 1),
        ("pass", 0),
    ],
)
def test_only_reasons_that_are_listed_pass(tmp_path: Path, skip: str, code: int) -> None:
    (tmp_path / "test_made.py").write_text(f"import pytest\n\n\ndef test_one():\n    {skip}\n")
    for options, expected in ((["--strict-skips"], code), ([], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "skips", *options, "test_made.py"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        assert ("a skip that tests/skips.py does not allow" in done.stdout) == bool(expected)
