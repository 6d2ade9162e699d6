"""What is written and made durable, in what order, and what happens if the disk is full at one of these steps."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import lmdb
import pytest

from engine.collection.store import Store, Transaction

Interrupt = Callable[[int, str], None]
"""Is called before each step with its number, from 0, and its name; what it raises is raised by the step."""


def disk_log(monkeypatch: pytest.MonkeyPatch, interrupt: Interrupt = lambda number, step: None) -> list[str]:
    """Returns the list to which each step is added from now on.

    Steps: `write NAME` (a text or an index), `commit NAME` (an LMDB transaction), `fsync NAME`, `replace NAME`,
    `unlink NAME`.
    """
    log: list[str] = []

    def step(what: str, path: Path | str) -> None:
        name = f"{what} {Path(path).name}"
        log.append(name)
        interrupt(len(log) - 1, name)

    fsync, replace, unlink, writing = os.fsync, os.replace, os.unlink, Store.writing
    write_text, write_index = Path.write_text, faiss.write_index

    def logged_fsync(descriptor: int) -> None:
        step("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def logged_replace(source: Path, target: Path) -> None:
        step("replace", target)
        replace(source, target)

    def logged_unlink(path: Path, **more: Any) -> None:
        step("unlink", path)
        unlink(path, **more)

    def logged_write_text(path: Path, text: str, **more: Any) -> int:
        write_text(path, text[: len(text) // 2], **more)  # an interrupted step has written a part
        step("write", path)
        return write_text(path, text, **more)

    def logged_write_index(index: Any, path: str) -> None:
        Path(path).write_bytes(b"part of an index")
        step("write", path)
        write_index(index, path)

    @contextmanager
    def logged_writing(store: Store) -> Iterator[Transaction]:
        with writing(store) as txn:
            yield txn
            step("commit", store.path)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    monkeypatch.setattr(os, "unlink", logged_unlink)
    monkeypatch.setattr(Path, "write_text", logged_write_text)
    monkeypatch.setattr(faiss, "write_index", logged_write_index)
    monkeypatch.setattr(Store, "writing", logged_writing)
    return log


def full(number: int) -> Interrupt:
    """Has the disk be full at the step of this number, as whoever writes it says so."""

    def interrupt(at: int, step: str) -> None:
        if at == number:
            what, _, name = step.partition(" ")
            if what == "commit":
                raise lmdb.DiskError(f"mdb_txn_commit: {os.strerror(errno.ENOSPC)}")
            if step.startswith("write") and name.endswith(".faiss"):
                raise RuntimeError(f"Error in write_index: {os.strerror(errno.ENOSPC)}")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return interrupt
