"""Memory of a process and of those that it has started, as Linux counts it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FIELDS = {"own": "Anonymous", "resident": "Rss", "share": "Pss"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Megabytes of one process."""

    own: int
    """Memory that no file can give back."""
    resident: int
    """All that is in memory, with the parts of files that are mapped."""
    share: int
    """The same, but what several processes have mapped is divided among them."""


def of(pid: int) -> Memory:
    """Returns the memory of a process. Raises OSError if there is no such process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: int(count) >> 10 for name, count in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
    return Memory(**{ours: found[theirs] for ours, theirs in FIELDS.items()})


def children(pid: int) -> Iterator[int]:
    """Yields the processes that a process has started, but not the helper of the standard library."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                yield child
