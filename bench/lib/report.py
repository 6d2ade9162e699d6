"""The report of a bench: machine and software, tables, and all figures as JSON."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import process
from engine.values import NetworkIdentity

Row = Mapping[str, Any]


def environment() -> dict[str, Any]:
    """The machine, the software and the commit, without which figures mean nothing."""
    return {
        "cpu": _cpu(),
        "cores": process.cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": _commit(),
    }


def heading(environment: Row) -> str:
    """The environment in one line."""
    return "{cpu}, {cores} cores, {system}, Python {python}, commit {commit}".format(**environment)


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text, with the columns of the first row in its order. Missing values stay blank."""
    if not rows:
        return "(no rows)"
    columns = list(rows[0])
    cells = [columns, *([_text(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns]
    lines = [_line(line, widths, numeric) for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def with_intervals(row: Row) -> dict[str, Any]:
    """The row for people: the interval `"NAME 95%"` follows its figure in the same cell."""
    shown = {}
    for name, value in row.items():
        if interval := row.get(f"{name} 95%"):
            low, high = ("-" if end is None else f"{end:.3g}" for end in interval)
            shown[name] = f"{'-' if value is None else f'{value:.3g}'} [{low}, {high}]"
        elif not name.endswith("95%"):
            shown[name] = value
    return shown


def label(network: NetworkIdentity) -> str:
    """The name of a network with the start of its hash, which tells networks of one name apart."""
    return f"{network.name} {network.hash[:8]}"


def save(path: Path, **content: Any) -> None:
    """Writes the content to a file as one JSON object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    columns = zip(cells, widths, right, strict=True)
    return "  ".join(cell.rjust(width) if numeric else cell.ljust(width) for cell, width, numeric in columns)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return "" if value is None else str(value)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The short hash of the commit, with a plus sign if tracked files have been changed since."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
