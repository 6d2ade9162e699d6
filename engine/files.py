"""Atomic replacement of files and folders: readers see the old content or the complete new content."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

_OPEN_FILES = re.compile(r"/proc/\d+(/task/\d+)?/fd")
"""Folders in which Linux names the open files of a process."""
_MOST_LINKS = 40
"""Links that Linux follows on the way to a file."""


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`, for a new file or folder, and renames it to `path` when the block ends.

    A reader of `path` sees the old content or the complete new content. An error in the block leaves `path` unchanged,
    and removes the temporary file or folder. A folder cannot replace a folder that is not empty.
    An OSError about the temporary path is raised again about `path`, because no user knows the temporary path.

    durable: the new file survives a power cut after the block. Its bytes reach the disk before its name does.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    if os.path.exists(unfinished):  # a killed process left it
        _remove(unfinished)
    try:
        yield unfinished
        if durable:
            sync(unfinished)
        os.replace(unfinished, path)
    except BaseException as exc:
        with contextlib.suppress(OSError):  # it would hide the cause
            _remove(unfinished)
        if isinstance(exc, OSError) and (within := _within(exc.filename, unfinished)) is not None:
            raise OSError(exc.errno, exc.strerror, str(path / within)) from exc
        raise
    if durable:
        sync(path.parent)


def write(path: Path, text: str) -> None:
    """Writes a text to a file that a user has named, in UTF-8.

    A file is replaced as by `replacing`; of a link, the file that the link leads to. A pipe or a device is written,
    because replacing would put a file in its place. So is an open file, such as /dev/stdout, after what it
    holds: others write there too.
    Raises OSError, which names `path`, if the file cannot be written.
    """
    try:
        _write(path, text)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from exc  # a full disk names no file, a link another one


def is_stream(path: Path) -> bool:
    """Whether a path is written and not replaced: a pipe, a device, or an open file, such as /dev/stdout."""
    return (os.path.exists(path) and not os.path.isfile(path)) or _is_open_file(path)


def _write(path: Path, text: str) -> None:
    """Writes a text as `write` does. An OSError may name another path, or none."""
    if is_stream(path):
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return
    with replacing(Path(os.path.realpath(path))) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def _within(name: object, folder: Path) -> Path | None:
    """Returns the path from a file or folder to what an OSError names; None if the error names no path in there."""
    if not isinstance(name, str | bytes | os.PathLike):
        return None
    named = Path(os.fsdecode(name))
    return named.relative_to(folder) if named.is_relative_to(folder) else None


def _is_open_file(path: Path) -> bool:
    """Whether a path, or a link on its way, is the name of an open file of a process, as /dev/stdout is."""
    for _ in range(_MOST_LINKS):
        if not os.path.islink(path):
            return False
        if _OPEN_FILES.fullmatch(os.path.realpath(path.parent)):
            return True
        path = path.parent / os.readlink(path)
    return False


def sync(path: Path) -> None:
    """Writes the bytes of a file, or the names in a folder, to disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Deletes a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
