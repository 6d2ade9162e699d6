"""A long score is read and embedded in shares, and becomes the document that one process would make of it."""

import os
import signal
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from drawn_pages import drawn_page
from engine.collection import Collection
from engine.embedding import documents
from engine.score import (
    PageAddress,
    cut_snippets,
    joined,
    page_addresses,
    pages_at,
    part_of,
    read_score,
    snippet_blocks,
    snippet_count,
    strips,
    windows,
)
from engine.score.packed import Spool
from engine.workers import Agenda, Failure
from fake_encoder import FakeEncoder
from indexer import long_scores
from indexer.ingest import add
from indexer.long_scores import LONG_PAGES, PART_PAGES, PagesTask, SnippetsTask
from indexer.sources import discover
from media import draw_page, write_page

PAGES = LONG_PAGES + 3
DAMAGED, BLANK = 5, 9


class KilledBySnippets(FakeEncoder):
    """As a network is that finds no memory."""

    def score(self, snippets: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pages, one more than two processes read in two parts; one is damaged, one is blank."""
    folder = tmp_path_factory.mktemp("library") / "volume"
    folder.mkdir()
    for number in range(1, PAGES + 1):
        write_page(folder / f"{number}.png", seed=number, systems=1 + number % 2)
    (folder / f"{DAMAGED}.png").write_bytes(b"no image")
    cv2.imwrite(str(folder / f"{BLANK}.png"), np.full((600, 500), 255, np.uint8))
    return folder


def in_process(record: list[Any]) -> Callable[..., Generator[tuple[Any, Any], None, None]]:
    """In the place of `engine.workers.each`: does all tasks here, last ones of a round first, and records them."""

    def each(work: Any, tasks: Iterable[Any], **_: Any) -> Generator[tuple[Any, Any], None, None]:
        while waiting := list(tasks):
            for task in reversed(waiting):
                record.append(task)
                yield task, work(task)

    return each


def test_a_long_score_becomes_what_one_process_makes_of_it(volume: Path, tmp_path: Path) -> None:
    done: list[Any] = []
    sources = discover([volume.parent]).sources
    summary = add(tmp_path / "collection", sources, FakeEncoder, run=in_process(done), keep_media=True)
    assert (summary.added, summary.pages) == (["volume"], PAGES)
    shares = [task.share for task in done]
    assert shares[0] is None
    assert [(share.first, len(share.addresses)) for share in shares if isinstance(share, PagesTask)] == [
        (17, 3),
        (9, 8),
        (1, 8),
    ]
    assert sum(isinstance(share, SnippetsTask) for share in shares) == 1
    expected, sequence = documents.embed(volume, "score", FakeEncoder())
    with Collection.open(tmp_path / "collection") as collection:
        (document,) = collection.documents
        stored = collection.sequence("volume")
        kept = {number for number in range(1, PAGES + 2) if collection.media("volume", number)}
    assert kept == {*range(1, PAGES + 1)} - {DAMAGED}
    assert (document.pages, document.systems) == (expected.pages, expected.systems)
    assert [system.number for system in document.systems] == [*range(1, len(document.systems) + 1)]
    np.testing.assert_array_equal(stored.places, sequence.places)
    np.testing.assert_allclose(stored.embeddings, sequence.embeddings, atol=1e-3)


def test_processes_share_a_long_score(volume: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(tmp_path / "collection", discover([volume.parent]).sources, FakeEncoder, jobs=2)
    assert f"{DAMAGED}.png: page {DAMAGED} is passed over" in caplog.text
    expected, _ = documents.embed(volume, "score", FakeEncoder())
    with Collection.open(tmp_path / "collection") as collection:
        (document,) = collection.documents
    assert (document.pages, document.systems, document.snippets) == (PAGES, expected.systems, expected.snippets)


def test_a_long_score_that_kills_a_worker_fails_alone(volume: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "volume").symlink_to(volume)
    summary = add(tmp_path / "collection", discover([library]).sources, KilledBySnippets, jobs=2)
    assert summary.failed == {library / "volume": "its worker process died (SIGKILL)"}


def test_a_part_that_fails_fails_the_score_once_and_its_other_shares_are_let_be(volume: Path, tmp_path: Path) -> None:
    done: list[Any] = []

    def each(work: Any, tasks: Iterable[Any], **_: Any) -> Generator[tuple[Any, Any], None, None]:
        for task in tasks:
            done.append(task.share)
            fails = isinstance(task.share, PagesTask) and task.share.first == 1 + PART_PAGES
            yield task, Failure(cause="it died") if fails else work(task)

    summary = add(tmp_path / "collection", discover([volume.parent]).sources, FakeEncoder, run=each)
    assert summary.failed == {volume: "it died"}
    assert len(done) == 3  # the task of all, and two of the three parts


def test_a_long_score_without_music_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "library" / "blank"
    folder.mkdir(parents=True)
    for number in range(LONG_PAGES + 1):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((600, 500), 255, np.uint8))
    summary = add(tmp_path / "collection", discover([folder.parent]).sources, FakeEncoder, run=in_process([]))
    assert summary.failed == {folder: "expected staves of music, found none on 17 page(s)"}
    for file in folder.iterdir():
        file.write_bytes(b"no image")
    summary = add(tmp_path / "collection", discover([folder.parent]).sources, FakeEncoder, run=in_process([]))
    assert summary.failed == {folder: "none of its pages can be read"}


def test_a_score_of_the_largest_length_is_not_divided(tmp_path: Path) -> None:
    folder = tmp_path / "library" / "short"
    folder.mkdir(parents=True)
    for number in range(LONG_PAGES):
        cv2.imwrite(str(folder / f"{number}.png"), draw_page(number, systems=1))
    done: list[Any] = []
    add(tmp_path / "collection", discover([folder.parent]).sources, FakeEncoder, run=in_process(done))
    assert [task.share for task in done] == [None]


def test_a_score_s_snippets_are_the_same_at_once_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [drawn_page([2, 2])[0], drawn_page([2])[0]]
    whole = strips.score_of(pages)
    expected = np.concatenate(list(windows(whole)))
    for block in (1, 7, len(expected) - 1, len(expected)):
        monkeypatch.setattr(strips, "BLOCK", block)
        parts = list(snippet_blocks(whole))
        assert [part.snippets for part in parts[:-1]] == [block] * (len(parts) - 1)
        np.testing.assert_array_equal(np.concatenate([cut_snippets(part.in_memory()) for part in parts]), expected)
        assert sum(part.snippets for part in parts) == snippet_count(whole) == len(expected)
        assert all(len(part.strips) < len(whole.strips) for part in parts if block == 1)


def test_parts_of_a_score_join_to_what_is_read_at_once(volume: Path) -> None:
    expected, spool = read_score(volume), Spool(resident_bytes=10_000)
    addresses = page_addresses(volume)
    parts = [part_of(pages_at(addresses[start : start + 4], start + 1)).moved_to(spool) for start in range(0, PAGES, 4)]
    score = joined(parts, volume)
    assert (score.pages, score.systems) == (expected.pages, expected.systems)
    np.testing.assert_array_equal(score.strip, expected.strip)
    assert len(addresses) == PAGES


def test_tasks_that_follow_from_a_result_come_first_and_after_the_end() -> None:
    agenda = Agenda([1, 2])
    assert next(agenda) == 1
    agenda.prepend(iter([10, 11]))
    assert list(agenda) == [10, 11, 2]
    assert list(agenda) == []
    agenda.prepend([3])
    assert list(agenda) == [3]


def test_a_share_of_a_score_that_is_gone_is_an_error(tmp_path: Path) -> None:
    task = PagesTask(addresses=(PageAddress(tmp_path / "gone", 0),), first=1, keep_media=False)
    with pytest.raises(documents.MediaError, match="gone: no such file or folder"):
        long_scores.done(task, FakeEncoder())
