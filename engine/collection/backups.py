"""Backups: a copy of one generation of a collection, made while others read and write the collection."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import files
from engine.collection.opening import open_collection
from engine.errors import CollectionError


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """What a backup has copied."""

    generation: int
    documents: int


def backup(path: Path | str, target: Path | str) -> BackedUp:
    """Copies the current generation of the collection at `path` to the new folder `target`; returns what it holds.

    The copy is a collection like any other. It appears under its name when it is complete, verified and on disk. A
    killed process leaves `TARGET.unfinished`, which the next backup to this target replaces.

    Raises CollectionError if `target` exists and is not an empty folder, if it lies in the collection, or if the copy
    cannot be written; the errors of `open_collection`; and CollectionDamagedError if the collection is damaged.
    """
    target = Path(target).resolve()
    if Path(path).resolve() in target.parents:
        raise CollectionError(target, f"expected a folder outside {path}: what deletes it would delete its backup")
    try:
        with _alone(target.parent):
            if target.exists() and not (target.is_dir() and not any(target.iterdir())):
                raise CollectionError(target, "expected a new or an empty folder for the backup; it holds something")
            with open_collection(path) as collection, files.replacing(target, durable=True) as unfinished:
                unfinished.mkdir()
                collection.copy(unfinished)
                return BackedUp(generation=collection.generation, documents=collection.count)
    except OSError as exc:
        raise CollectionError(target, f"the backup cannot be written: {exc}") from exc


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits for other backups into this folder. Two backups to one target would write the same unfinished files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
