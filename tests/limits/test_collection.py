"""When a collection is indexed, verified and written, as shipped: each limit is reached, and then passed by one."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from collection_samples import NETWORK, document, fill, sequence
from engine.collection import Collection, CollectionWriter, writer
from engine.collection.store import Entry, Store, Transaction
from engine.errors import CollectionDamagedError
from engine.values import SCORE_PLACE, SnippetSequence

MIB = 1 << 20


def entries(*snippets: int, first: int = 0) -> list[Entry]:
    """Documents of so many snippets, which are nowhere."""
    return [
        Entry(number=first + n, id=str(first + n), kind="score", content_hash="", snippets=size, checksum=b"")
        for n, size in enumerate(snippets)
    ]


def zeros(snippets: int) -> SnippetSequence:
    """84 bytes a snippet on disk."""
    return SnippetSequence(
        kind="score",
        embeddings=np.zeros((snippets, 32), np.float32),
        places=np.zeros(snippets, SCORE_PLACE),
        bias=np.zeros(snippets, np.float32),
    )


def stored(path: Path) -> int:
    """How many documents the disk holds."""
    store = Store.acquire(path / "sequences.lmdb")
    try:
        with store.reading() as txn:
            return len(txn.all_numbers())
    finally:
        store.release()


# --- indexes ----------------------------------------------------------------------------------------------------------


def test_an_index_will_do_until_65_536_snippets_are_newer() -> None:
    was = entries(1_000_000)
    assert writer._can_serve(was, was + entries(65_000, 536, first=1))
    assert not writer._can_serve(was, was + entries(65_000, 537, first=1))


@pytest.mark.parametrize(("gone", "will_do"), [(100_000, True), (100_001, False)])
def test_an_index_will_do_until_an_eighth_of_it_is_gone(gone: int, will_do: bool) -> None:
    was = entries(800_000 - gone, gone)
    assert writer._can_serve(was, was[:1]) == will_do


def test_new_snippets_do_not_make_up_for_those_that_are_gone() -> None:
    was = entries(700_000, 200_000)
    assert not writer._can_serve(was, was[:1] + entries(60_000, first=2))


# --- verifying --------------------------------------------------------------------------------------------------------


def damaged(path: Path, size: int) -> Path:
    """A collection whose file is so large, with a byte of a document wrong."""
    fill(path, "a", n=2000)
    file = path / "sequences.lmdb"
    content = file.read_bytes()
    place = content.index(sequence(2000).embeddings.astype("<f2").tobytes()[:64])
    with file.open("r+b") as damaged:
        damaged.seek(place)
        damaged.write(bytes([content[place] ^ 1]))
    os.truncate(file, size)
    return path


def test_a_collection_up_to_256_mib_is_verified_when_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(CollectionDamagedError):
        Collection.open(damaged(tmp_path / "small", 256 * MIB))
    with Collection.open(damaged(tmp_path / "large", 256 * MIB + 4096)) as collection:
        assert collection.count == 1
        with pytest.raises(CollectionDamagedError):
            collection.check()


def test_a_thousand_documents_are_kept_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = Transaction.document

    def counted(txn: Transaction, number: int) -> object:
        decoded.append(number)
        return decode(txn, number)

    ids = [f"d{number}" for number in range(1001)]
    fill(tmp_path, *ids, n=1)
    monkeypatch.setattr(Transaction, "document", counted)
    with Collection.open(tmp_path) as collection:
        decoded.clear()  # those that opening has verified
        for id in [*ids[:1000], *ids[:1000]]:
            collection.document(id)
        assert len(decoded) == 1000
        collection.document(ids[1000])
        collection.document(ids[0])  # the oldest has made room
        assert len(decoded) == 1002


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time."""
    now = [100.0]
    monkeypatch.setattr(writer.time, "monotonic", lambda: now[0])
    return lambda time: now.__setitem__(0, time)


def test_what_is_staged_is_written_when_it_has_16_mib(tmp_path: Path, clock: Callable[[float], None]) -> None:
    snippets = 16 * MIB // 84 - 10
    with CollectionWriter(tmp_path, NETWORK) as open_writer:
        open_writer.put(replace(document("a"), systems=()), zeros(snippets))
        assert stored(tmp_path) == 0
        open_writer.put(replace(document("b"), systems=()), zeros(20))
        assert stored(tmp_path) == 2


def test_what_is_staged_is_written_when_it_is_a_second_old(tmp_path: Path, clock: Callable[[float], None]) -> None:
    with CollectionWriter(tmp_path, NETWORK) as open_writer:
        open_writer.put(document("a"), sequence())
        clock(100.99)
        open_writer.put(document("b"), sequence())
        assert stored(tmp_path) == 0
        clock(101.0)
        open_writer.put(document("c"), sequence())
        assert stored(tmp_path) == 3
        clock(101.99)
        open_writer.put(document("d"), sequence())
        assert stored(tmp_path) == 3


def test_a_collection_has_room_for_a_tebibyte(tmp_path: Path) -> None:
    """The room is address space, which costs nothing."""
    fill(tmp_path, "a")
    store = Store.acquire(tmp_path / "sequences.lmdb")
    assert store._env.info()["map_size"] == 1 << 40
    store.release()
