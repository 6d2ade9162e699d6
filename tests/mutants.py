"""Applies the faults of mutants.toml to a copy of the repository, one at a time, and prints which test notices each.

    python tests/mutants.py [--only SUBSTRING] [--jobs N]

A fault is a small change of the code that a person might make by mistake. A fault that no test notices asks for a test.
A fault whose text the file does not hold exactly once is stale: its entry must follow the code. The exit code is 1 if
any fault is unnoticed or stale, and also if the noticing test fails without the fault.
"""

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".toml")
TIMEOUT_S = 900.0
"""Time for the tests of one fault. A fault that makes them hang is noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One entry of the list."""

    what: str
    """What the fault does, in a sentence."""
    file: str
    old: str
    new: str
    """The text that takes the place of `old`."""
    tests: list[str]
    """Test files that should notice the fault."""
    match: str = ""
    """As pytest's -k, if a few tests of these files are enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a fault."""

    noticed: bool
    told: str
    """The first failing test, or why the fault is not noticed."""


def read(path: Path = LIST) -> list[Fault]:
    """Returns the faults of a list."""
    return [Fault(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["fault"]]


def stale(fault: Fault, root: Path = ROOT) -> bool:
    """Returns whether the file does not hold the fault's old text exactly once."""
    path = root / fault.file
    return not path.is_file() or path.read_text(encoding="utf-8").count(fault.old) != 1


def judge(fault: Fault, tree: Path) -> Verdict:
    """Runs the fault's tests on a copy of the repository that has the fault; the copy is left as it was."""
    if stale(fault, tree):
        return Verdict(noticed=False, told="stale: its text is not found exactly once")
    with _applied(fault, tree):
        code, output = _pytest(tree, *fault.tests, *(("-k", fault.match) if fault.match else ()))
    if code == 0:
        return Verdict(noticed=False, told="UNNOTICED")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", output, re.MULTILINE)
    if code is None:
        return Verdict(noticed=True, told=f"tests that take more than {TIMEOUT_S:g} s")
    if code != 1 or failed is None:
        return Verdict(noticed=False, told=f"no test ran: pytest exits with {code}\n{output[-2000:]}")
    if _pytest(tree, failed[1])[0] != 0:
        return Verdict(noticed=False, told=f"no fault is needed for this test to fail: {failed[1]}")
    return Verdict(noticed=True, told=failed[1])


@contextmanager
def _applied(fault: Fault, tree: Path) -> Iterator[None]:
    """Puts the fault into the copy during the `with` block."""
    path = tree / fault.file
    whole, status = path.read_bytes(), path.stat()
    path.write_bytes(whole.replace(fault.old.encode(), fault.new.encode()))
    try:
        yield
    finally:
        path.write_bytes(whole)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # so that compiled kernels stay valid


def _pytest(tree: Path, *arguments: str) -> tuple[int | None, str]:
    """Returns the exit code of pytest, None if it takes too long, and its output."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *arguments]
    # Without bytecode, Python never takes a changed file of the same size and second for the one it has compiled.
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "500"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout + done.stderr


def copied(root: Path, target: Path) -> Path:
    """Copies the tracked files of a repository, as they are in the working folder, and returns the copy."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    return target


def main(arguments: Sequence[str] | None = None, *, path: Path = LIST, root: Path = ROOT) -> int:
    """Judges the faults of a list and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="the faults whose sentence or file holds it")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults judged at a time (default: 1)")
    options = parser.parse_args(arguments)
    faults = [fault for fault in read(path) if options.only in fault.what or options.only in fault.file]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(options.jobs):
            trees.put(copied(root, Path(folder) / str(number)))

        def judged(fault: Fault) -> Verdict:
            tree = trees.get()
            try:
                return judge(fault, tree)
            finally:
                trees.put(tree)

        missed = 0
        for fault, verdict in zip(faults, pool.map(judged, faults), strict=True):
            missed += not verdict.noticed
            print(
                f"{'ok  ' if verdict.noticed else 'FAIL'}  {fault.file}: {fault.what}\n      {verdict.told}", flush=True
            )
    print(f"{len(faults)} faults, {len(faults) - missed} noticed, {missed} not")
    return 1 if missed or not faults else 0


if __name__ == "__main__":
    sys.exit(main())
