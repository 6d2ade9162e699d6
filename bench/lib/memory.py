"""Memory of a process and of those that it has started, as Linux counts it."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FIELDS = {"own": "Private_Dirty", "resident": "Rss", "share": "Pss"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """Megabytes of one process."""

    own: int
    """Memory that no file can give back and no other process has."""
    resident: int
    """All that is in memory, with the parts of files that are mapped."""
    share: int
    """The same, but what several processes have mapped is divided among them."""


def of(pid: int) -> ProcessMemory:
    """Returns the memory of a process. Raises OSError if there is no such process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: int(count) >> 10 for name, count in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
    return ProcessMemory(**{ours: found[theirs] for ours, theirs in FIELDS.items()})


def started_by(pid: int) -> Iterator[int]:
    """Yields the processes that a process has started, and those that they have, without the standard library's own."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread or a process that has ended meanwhile
            for child in map(int, (task / "children").read_text().split()):
                if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                    yield child
                    yield from started_by(child)
