"""Strips wait in little memory, and come back as they were."""

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from drawn_pages import drawn_page
from engine.score import packed, score_of
from engine.score.packed import PackedStrip, Spool, Spooled


def strips(count: int) -> list[NDArray[np.uint8]]:
    """Strips of different widths, which compress badly."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (16, 50 + number), np.uint8) for number in range(count)]


def test_strips_beyond_the_room_in_memory_wait_in_a_file_and_come_back_as_they_were() -> None:
    spool, given = Spool(resident_bytes=3000), strips(20)

    waiting = [PackedStrip.of(strip, spool) for strip in given]

    assert 0 < sum(isinstance(strip.data, bytes) for strip in waiting) <= 3
    for strip, one in zip(given, waiting, strict=True):
        np.testing.assert_array_equal(one.unpacked(), strip)


def test_a_few_strips_wait_in_memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr(packed.tempfile, "TemporaryFile", refuse)
    spool = Spool()

    assert all(isinstance(PackedStrip.of(strip, spool).data, bytes) for strip in strips(5))


@pytest.mark.parametrize("fault", ["no_file", "full_disk", "partly_written"])
def test_where_no_file_can_be_written_strips_wait_in_memory(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> int:
        if fault == "partly_written":
            return 7
        raise OSError(28, os.strerror(28))

    if fault == "no_file":
        monkeypatch.setattr(packed.tempfile, "TemporaryFile", fail)
    else:
        monkeypatch.setattr(packed.os, "pwrite", fail)
    spool, given = Spool(resident_bytes=0), strips(3)

    waiting = [PackedStrip.of(strip, spool) for strip in given]

    for strip, one in zip(given, waiting, strict=True):
        assert not isinstance(one.data, Spooled)
        np.testing.assert_array_equal(one.unpacked(), strip)


def test_the_file_is_closed_when_nothing_waits_in_it(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
    spool = Spool(resident_bytes=0)
    strip = PackedStrip.of(strips(1)[0], spool)
    opened = len(list(descriptors.iterdir()))
    del spool
    assert len(list(descriptors.iterdir())) == opened, "the strip still waits in the file"
    del strip

    assert len(list(descriptors.iterdir())) == opened - 1


def test_the_images_of_pages_do_not_wait_with_the_strips() -> None:
    page, _ = drawn_page([2, 2, 2])

    def pages(count: int) -> Iterator[NDArray[np.uint8]]:
        yield from (page.copy() for _ in range(count))

    score_of(pages(1))  # libraries are loaded, functions compiled
    held, most = list[int](), list[int]()
    for count in (2, 6):
        tracemalloc.start()
        try:
            score = score_of(pages(count))
            held_bytes, most_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(score.systems) == 3 * count
        held.append(held_bytes)
        most.append(most_bytes)
    assert max(held) < page.nbytes
    assert most[1] - most[0] < 2 * page.nbytes
