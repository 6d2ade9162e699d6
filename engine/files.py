"""Files that appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a path beside `path` to write a file or a folder to, and renames that to `path` when the block ends.

    Whoever reads `path` sees what was there before or all of what is new. An error in the block leaves `path` as it
    was, and removes what was written. A folder replaces no other one.

    durable: the new file survives a power cut once the block has ended. Its bytes are on disk before its name is.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    if unfinished.exists():  # a killed process left it
        _remove(unfinished)
    try:
        yield unfinished
        if durable:
            sync(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        _remove(unfinished)
        raise
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Makes the bytes of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
