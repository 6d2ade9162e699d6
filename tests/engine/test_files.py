"""A file that is replaced is the old one or the whole new one, for readers and after a power cut."""

import errno
import os
from pathlib import Path

import pytest

from disk_log import disk_log
from engine.files import replacing, write


def fill_the_disk(path: Path, text: str = "new") -> None:
    path.write_bytes(text[:-1].encode())
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


@pytest.mark.parametrize("steps", [1, 2])
def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path: Path, steps: int) -> None:
    (tmp_path / "folder").mkdir()
    real = tmp_path / "folder" / "real"
    real.write_text("old")
    links = [tmp_path / f"link{number}" for number in range(steps)]
    for link, target in zip(links, ["folder/real", *links], strict=False):
        link.symlink_to(target)
    write(links[-1], "nouveauté\n")
    assert real.read_text(encoding="utf-8") == "nouveauté\n"
    assert all(link.is_symlink() for link in links)
    assert list(real.parent.iterdir()) == [real]


def test_a_link_to_a_file_that_is_not_there_makes_the_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_pipe_is_written_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for path in (pipe, tmp_path / "link"):
            write(path, "new")
            assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_pipe_that_has_a_number_and_no_name_is_written() -> None:
    """As `--out /dev/stdout` is where the standard output is a pipe."""
    reader, writer = os.pipe()
    try:
        write(Path(f"/dev/fd/{writer}"), "new")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
        os.close(writer)


def test_an_open_file_keeps_what_was_written_to_it_before(tmp_path: Path) -> None:
    """As `--out /dev/stdout` is where the standard output is redirected to a file."""
    with (tmp_path / "output").open("a") as opened:
        print("before", file=opened, flush=True)
        (tmp_path / "link").symlink_to(f"/dev/fd/{opened.fileno()}")
        for path in (Path(f"/dev/fd/{opened.fileno()}"), tmp_path / "link"):
            write(path, "new\n")
        print("after", file=opened)
    assert (tmp_path / "output").read_text() == "before\nnew\nnew\nafter\n"


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        write(tmp_path, "new")


@pytest.mark.parametrize("named", ["none/file", "old/file", "taken", "link"])
def test_an_error_names_the_path_that_the_caller_gave(tmp_path: Path, named: str) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "old").touch()
    (tmp_path / "link").symlink_to("none/file")
    path = tmp_path / named
    with pytest.raises(OSError, match=r"^\[Errno \d+\]") as raised:
        write(path, "new")
    assert (raised.value.filename, raised.value.filename2) == (str(path), None)


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", lambda path, text, **_: fill_the_disk(path, text))
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'file'}'"):
        write(tmp_path / "file", "new")
    assert not list(tmp_path.iterdir())


def test_an_error_in_a_new_folder_names_the_place_that_the_folder_would_take(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "folder") as unfinished:
        (unfinished / "file").write_text("new")
    assert raised.value.filename == str(tmp_path / "folder" / "file")


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "file"):
        (tmp_path / "other").read_text()
    assert raised.value.filename == str(tmp_path / "other")
