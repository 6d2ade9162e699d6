"""A file that is replaced is the old one or the whole new one, for readers and after a power cut."""

import errno
import os
from pathlib import Path

import pytest

from disk_log import disk_log
from engine.files import replacing


def fill_the_disk(path: Path) -> None:
    path.write_text("ne")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left"), replacing(path) as unfinished:
        fill_the_disk(unfinished)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_its_place_too_without_what_a_killed_process_left_of_it(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    (tmp_path / "folder.unfinished").mkdir()
    (tmp_path / "folder.unfinished" / "left").touch()
    with replacing(path) as unfinished:
        unfinished.mkdir()
        (unfinished / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]


def test_the_bytes_of_a_durable_file_are_on_disk_before_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = disk_log(monkeypatch)
    with replacing(tmp_path / "file", durable=True) as unfinished:
        unfinished.write_text("new")
    assert log == ["write file.unfinished", "fsync file.unfinished", "replace file", f"fsync {tmp_path.name}"]


def test_a_file_that_need_not_be_durable_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = disk_log(monkeypatch)
    with replacing(tmp_path / "file") as unfinished:
        unfinished.write_text("new")
    assert log == ["write file.unfinished", "replace file"]
