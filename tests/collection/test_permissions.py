"""A user who may only read a collection, while another user changes it."""

import logging
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from collection_samples import NETWORK, document, sequence
from engine.collection import Collection, CollectionWriter
from engine.collection.manifest import LMDB_NAME, LOCK_SUFFIX
from engine.errors import CollectionDamagedError

IDS = tuple(f"document{number}" for number in range(30))
NOBODY = 65534
"""A user who owns nothing here."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A collection of IDS that everybody may read and root may write. (Folders of pytest are closed to others.)"""
    parent = Path(tempfile.mkdtemp(dir="/tmp"))
    parent.chmod(0o755)
    write(parent / "music", 5)
    yield parent / "music"
    shutil.rmtree(parent)


def write(folder: Path, n: int) -> None:
    """Commits new content of n snippets for each document."""
    with CollectionWriter(folder, NETWORK) as writer:
        for id in IDS:
            writer.put(document(id, content_hash=f"{n}"), sequence(n), replace=True)
        writer.commit()


def read_as_nobody(folder: Path, tell: Connection) -> None:
    """Opens the collection as another user; reads it when it is told to, and sends warnings, then what it read."""
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("engine").addHandler(handler)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    with Collection.open(folder, NETWORK) as collection:
        tell.send(warnings)
        tell.recv()
        try:
            tell.send([len(collection.sequence(id)) for id in IDS])
        except CollectionDamagedError as exc:
            tell.send(str(exc))


def what_nobody_reads(folder: Path) -> tuple[list[str], list[int] | str]:
    """The warnings of a reader without permission to write, and what it reads after four changes of all documents."""
    here, there = multiprocessing.Pipe()
    reader = multiprocessing.get_context("fork").Process(target=read_as_nobody, args=(folder, there))
    reader.start()
    warnings = here.recv()
    for n in (6, 7, 8, 9):
        write(folder, n)
    here.send("read")
    found = here.recv()
    reader.join()
    return warnings, found


def test_a_reader_who_may_write_the_lock_file_alone_keeps_its_generation(folder: Path) -> None:
    (folder / (LMDB_NAME + LOCK_SUFFIX)).chmod(0o666)
    assert what_nobody_reads(folder) == ([], [5] * len(IDS))


def test_a_reader_who_may_write_nothing_is_warned_that_its_generation_can_be_lost(folder: Path) -> None:
    (warning,), _ = what_nobody_reads(folder)
    assert warning.startswith(f"{folder / (LMDB_NAME + LOCK_SUFFIX)}: no permission to write this file")
