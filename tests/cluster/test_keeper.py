"""The keeper makes a change on all replicas of a shard or on none, with replicas in this process and without Ray."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import sharded_collection
from cluster.changes import Drop, Put, ReplicaState
from cluster.keeper import Keeper
from cluster.replica import KEPT_S, ROOM_BYTES, Replica
from engine.collection import shard
from engine.collection.store import Store
from engine.config import SearchSettings
from engine.errors import CollectionError, CollectionLockedError

SHARDS = ("shard-000", "shard-001")


class Site:
    """Two machines with both shards, each with a replica in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.replicas: dict[str, Replica] = {}
        self.fails: Callable[[str, str], bool] = lambda name, method: False
        self.asked: list[tuple[str, str]] = []
        plain = sharded_collection.write(folder / "music.sf", 0, 12)
        shard(plain, folder / "a", 2)
        shutil.copytree(folder / "a", folder / "b")
        for machine in "ab":
            for name in SHARDS:
                self.start(f"{machine}/{name}")

    def start(self, name: str) -> None:
        self.replicas[name] = Replica(str(self.folder / name), SearchSettings(threads=1), "cpu")

    def stop(self, name: str) -> None:
        self.replicas.pop(name).close()

    def ids(self, shard: str) -> list[str]:
        replica = self.replicas[f"a/{shard}"]
        return [entry.id for entry in replica.entries(replica.state().generation)]

    def ask(self, name: str, method: str, arguments: Sequence[Any]) -> Any:
        self.asked.append((name, method))
        if name not in self.replicas or self.fails(name, method):
            raise CollectionError(name, "does not answer")
        if method == "follow":
            other, generation = arguments
            source = self.replicas[other]
            fetch = lambda ids: source.content(generation, ids)  # noqa: E731
            return self.replicas[name].catch_up(source.entries(generation), generation, fetch)
        return getattr(self.replicas[name], method)(*arguments)

    def state(self, name: str) -> ReplicaState:
        return self.replicas[name].state()

    def held(self, shard: str) -> list[set[str]]:
        """Returns the ids that each replica of a shard has in force."""
        replicas = [self.replicas[f"{machine}/{shard}"] for machine in "ab"]
        return [{entry.id for entry in one.entries(one.state().generation)} for one in replicas]

    def numbers(self) -> list[int]:
        """Returns the numbers of the documents of all shards, as the first machine has them."""
        replicas = [self.replicas[f"a/{shard}"] for shard in SHARDS]
        return [entry.number for one in replicas for entry in one.entries(one.state().generation)]

    def joined(self) -> Keeper:
        keeper = Keeper(str(self.folder), self.ask)
        keeper.join({name: [f"{machine}/{name}" for machine in "ab"] for name in SHARDS})
        return keeper


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for name in list(made.replicas):
        made.stop(name)


def addition(number: int) -> Put:
    document, sequence = sharded_collection.made("score", number)
    return Put(document=document, sequence=sequence, replace=False, default_title="")


def test_a_change_is_made_on_all_replicas_under_the_same_numbers(site: Site) -> None:
    keeper = site.joined()
    keeper.apply({SHARDS[0]: [addition(20), addition(21)], SHARDS[1]: [addition(22)]})
    keeper.apply({SHARDS[0]: [Drop(id=addition(20).document.id), addition(23)]})
    for name in SHARDS:
        a, b = site.state(f"a/{name}"), site.state(f"b/{name}")
        assert (a.digest, a.generation) == (b.digest, b.generation)
    entries = [
        entry for name in SHARDS for entry in site.replicas[f"a/{name}"].entries(site.state(f"a/{name}").generation)
    ]
    assert len({entry.number for entry in entries}) == len(entries) == 27
    ids = {entry.id for entry in entries}
    assert {addition(number).document.id in ids for number in (21, 22, 23)} == {True}
    assert addition(20).document.id not in ids


def test_without_one_of_its_replicas_a_shard_is_not_changed(site: Site) -> None:
    keeper = site.joined()
    site.stop("b/shard-000")
    before = site.state("a/shard-000")
    with pytest.raises(CollectionError, match="need all of its replicas, and b/shard-000 is not there"):
        keeper.apply({SHARDS[0]: [addition(20)]})
    assert site.state("a/shard-000") == before


def test_a_shard_is_changed_while_a_replica_of_another_one_is_missing(site: Site) -> None:
    keeper = site.joined()
    site.stop("b/shard-000")
    keeper.apply({SHARDS[1]: [addition(21)]})
    assert all(addition(21).document.id in held for held in site.held(SHARDS[1]))


def test_shards_never_use_a_number_twice_though_one_of_them_is_gone_meanwhile(site: Site) -> None:
    keeper = site.joined()
    keeper.apply({SHARDS[0]: [addition(20), addition(21)]})
    for machine in "ab":
        site.stop(f"{machine}/shard-000")
    keeper.apply({SHARDS[1]: [addition(22), addition(23)]})
    for machine in "ab":
        site.start(f"{machine}/shard-000")
    keeper.apply({SHARDS[0]: [addition(24)]})
    assert len(set(site.numbers())) == len(site.numbers()) == 24 + 5


def test_nothing_is_changed_before_the_numbers_of_all_shards_are_known(site: Site) -> None:
    for machine in "ab":
        site.stop(f"{machine}/shard-000")
    keeper = site.joined()
    with pytest.raises(CollectionError, match="numbers of the documents of shard-000, of which no replica has"):
        keeper.apply({SHARDS[1]: [addition(22)]})
    site.start("a/shard-000")
    keeper.apply({SHARDS[1]: [addition(22)]})


def test_numbers_of_a_shard_whose_machines_come_later_are_not_given_again(site: Site) -> None:
    site.joined().apply({SHARDS[1]: [addition(40), addition(41)]})
    for machine in "ab":
        site.stop(f"{machine}/shard-001")
    keeper = Keeper(str(site.folder), site.ask)  # Ray was restarted
    keeper.join({SHARDS[0]: [f"{machine}/shard-000" for machine in "ab"], SHARDS[1]: []})
    with pytest.raises(CollectionError, match="numbers of the documents of shard-001, of which no replica has"):
        keeper.apply({SHARDS[0]: [addition(50)]})
    with pytest.raises(CollectionError, match="shard-001: no machine has a replica of it"):
        keeper.apply({SHARDS[1]: [addition(51)]})
    for machine in "ab":
        site.start(f"{machine}/shard-001")
    keeper.join({SHARDS[1]: [f"{machine}/shard-001" for machine in "ab"]})
    keeper.apply({SHARDS[0]: [addition(50)]})
    assert len(set(site.numbers())) == len(site.numbers()) == 24 + 3


def test_a_shard_that_no_machine_has_is_not_changed(site: Site) -> None:
    with pytest.raises(CollectionError, match="shard-002: no machine has a replica of it"):
        site.joined().apply({SHARDS[0]: [addition(20)], "shard-002": [addition(21)]})
    assert not any(method == "prepare" for _, method in site.asked)


@pytest.mark.parametrize("machine", ["a", "b"])
def test_a_change_that_one_replica_refuses_is_made_by_none(site: Site, machine: str) -> None:
    keeper = site.joined()
    before = {name: site.state(name) for name in site.replicas}
    site.fails = lambda name, method: (name, method) == (f"{machine}/shard-001", "prepare")
    with pytest.raises(CollectionError, match=f"{machine}/shard-001: does not answer"):
        keeper.apply({SHARDS[0]: [addition(20)], SHARDS[1]: [addition(21)]})
    site.fails = lambda name, method: False
    assert {name: site.state(name) for name in site.replicas} == before
    keeper.apply({SHARDS[0]: [addition(21)]})
    assert site.state("a/shard-000").digest == site.state("b/shard-000").digest


def test_a_shard_that_fails_to_commit_keeps_no_other_shard_from_it(site: Site) -> None:
    keeper = site.joined()
    site.fails = lambda name, method: (name, method) == ("b/shard-000", "commit")
    expected = (
        "shard-000: durable on 1 of 2 replicas: b/shard-000.*; on all replicas of shard-001 the changes are in force"
    )
    with pytest.raises(CollectionError, match=expected):
        keeper.apply({SHARDS[0]: [addition(20)], SHARDS[1]: [addition(21)]})
    assert all(addition(21).document.id in held for held in site.held(SHARDS[1]))
    site.fails = lambda name, method: False
    keeper.apply({SHARDS[0]: [addition(20)], SHARDS[1]: [addition(21)]})
    assert all(addition(20).document.id in held for held in site.held(SHARDS[0]))


@pytest.mark.parametrize("failing", [("commit",), ("prepare", "abort")])
def test_a_change_that_failed_does_not_come_into_force_with_the_next_one(site: Site, failing: tuple[str, ...]) -> None:
    keeper = site.joined()
    asked_of = "ab" if failing == ("commit",) else "b"
    site.fails = lambda name, method: method in failing and (method == "abort" or name[0] in asked_of)
    with pytest.raises(CollectionError, match="does not answer"):
        keeper.apply({SHARDS[0]: [addition(20)]})
    site.fails = lambda name, method: False
    site.stop("b/shard-000")  # forgets what it has prepared
    site.start("b/shard-000")
    keeper.apply({SHARDS[0]: [addition(21)]})
    for held in site.held(SHARDS[0]):
        assert addition(21).document.id in held
        assert addition(20).document.id not in held


def test_a_replica_that_dies_before_it_commits_catches_up_before_it_is_asked(site: Site) -> None:
    keeper = site.joined()
    site.fails = lambda name, method: (name, method) == ("b/shard-000", "commit")
    with pytest.raises(CollectionError, match="durable on 1 of 2 replicas"):
        keeper.apply({SHARDS[0]: [addition(20), Drop(id=site.ids(SHARDS[0])[0])]})
    site.fails = lambda name, method: False
    site.stop("b/shard-000")
    site.start("b/shard-000")
    assert site.state("b/shard-000").digest != site.state("a/shard-000").digest
    states = keeper.join({})
    assert states[SHARDS[0]]["a/shard-000"].digest == states[SHARDS[0]]["b/shard-000"].digest
    assert site.state("b/shard-000").digest == site.state("a/shard-000").digest
    keeper.apply({SHARDS[0]: [addition(23)]})


def test_a_replica_that_cannot_catch_up_is_not_asked(site: Site) -> None:
    keeper = site.joined()
    site.fails = lambda name, method: (name, method) == ("b/shard-000", "commit")
    with pytest.raises(CollectionError, match="durable on 1"):
        keeper.apply({SHARDS[0]: [addition(20)]})
    site.fails = lambda name, method: method == "follow"
    assert set(keeper.join({})[SHARDS[0]]) == {"a/shard-000"}


def test_a_replica_with_an_old_copy_catches_up(site: Site) -> None:
    keeper = Keeper(str(site.folder), site.ask)
    keeper.join({name: [f"a/{name}"] for name in SHARDS})
    keeper.apply({SHARDS[0]: [addition(20)], SHARDS[1]: [addition(21), Drop(id=site.ids(SHARDS[1])[0])]})
    states = keeper.join({name: [f"b/{name}"] for name in SHARDS})
    assert all(len({state.digest for state in of_shard.values()}) == 1 for of_shard in states.values())


def test_an_unknown_document_is_not_removed(site: Site) -> None:
    keeper = site.joined()
    with pytest.raises(CollectionError, match="no document 'nobody'"):
        keeper.apply({SHARDS[0]: [addition(20), Drop(id="nobody")]})
    assert addition(20).document.id not in site.ids(SHARDS[0])


def test_two_replicas_never_share_a_folder(site: Site) -> None:
    with pytest.raises(CollectionLockedError, match="is writing to it"):
        site.start("a/shard-000")


def test_on_a_full_disk_changes_are_refused_and_queries_answered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = site.joined()
    before = {name: site.state(name) for name in site.replicas}
    with monkeypatch.context() as full:
        fill(site.folder / "b", full)
        with pytest.raises(CollectionError, match="No space left on device"):
            keeper.apply({SHARDS[0]: [addition(20), Drop(id=site.ids(SHARDS[0])[0])]})
        assert keeper.join({}) == {name: {f"{m}/{name}": before[f"{m}/{name}"] for m in "ab"} for name in SHARDS}
        replica = site.replicas["b/shard-000"]
        assert replica.search(before["b/shard-000"].generation, "documents", "score", [0])
        site.stop("b/shard-000")
        site.start("b/shard-000")
        assert site.state("b/shard-000").digest == before["b/shard-000"].digest
    keeper.apply({SHARDS[0]: [addition(21)]})
    assert site.state("a/shard-000").digest == site.state("b/shard-000").digest


def test_a_replica_whose_disk_is_full_at_the_last_moment_catches_up_when_there_is_room(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = site.joined()
    with monkeypatch.context() as full:

        def ask(name: str, method: str) -> bool:
            if method == "commit":
                fill(site.folder / "b", full)
            return False

        site.fails = ask
        with pytest.raises(CollectionError, match="durable on 1 of 2 replicas: b/shard-000"):
            keeper.apply({SHARDS[0]: [addition(20)]})
        assert set(keeper.join({})[SHARDS[0]]) == {"a/shard-000"}
    site.fails = lambda name, method: False
    assert set(keeper.join({})[SHARDS[0]]) == {"a/shard-000", "b/shard-000"}
    assert addition(20).document.id in {entry.id for entry in site.replicas["b/shard-000"].entries(2)}


def test_changes_are_refused_before_the_disk_is_full(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = site.joined()
    before = {name: site.state(name) for name in site.replicas}
    usage = shutil.disk_usage

    def nearly_full(path: Path) -> Any:
        return usage(path)._replace(free=ROOM_BYTES - 1) if path == site.folder / "b" / "shard-000" else usage(path)

    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", nearly_full)
        with pytest.raises(CollectionError, match=r"b/shard-000: the disk is full: changes need \d+ bytes"):
            keeper.apply({SHARDS[0]: [addition(20)]})
    assert {name: site.state(name) for name in site.replicas} == before
    keeper.apply({SHARDS[0]: [addition(20)]})


def fill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the disk with a folder full: nothing is written to the files of documents below it."""
    writing = Store.writing

    def refused(store: Store) -> Any:
        if folder in store.path.parents:
            raise CollectionError(store.path, os.strerror(errno.ENOSPC))
        return writing(store)

    monkeypatch.setattr(Store, "writing", refused)


def test_queries_end_with_the_generation_that_they_began_with(site: Site) -> None:
    keeper, replica = site.joined(), site.replicas["a/shard-000"]
    first = site.state("a/shard-000").generation
    before = replica.search(first, "listing", "score")
    keeper.apply({SHARDS[0]: [addition(20)]})
    latest = site.state("a/shard-000").generation
    assert replica.search(first, "listing", "score") is before
    assert len(replica.search(latest, "listing", "score")) == len(before) + 1
    with pytest.raises(CollectionError, match="generation 99 is gone"):
        replica.search(99, "listing", "score")


def test_a_generation_that_nobody_asks_for_any_more_is_closed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, replica = site.joined(), site.replicas["a/shard-000"]
    first = site.state("a/shard-000").generation
    replica.search(first, "listing", "score")
    keeper.apply({SHARDS[0]: [addition(20)]})
    latest = site.state("a/shard-000").generation
    now = time.monotonic() + KEPT_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: now)
    replica.search(latest, "listing", "score")
    with pytest.raises(CollectionError, match=f"generation {first} is gone; {latest} is"):
        replica.search(first, "listing", "score")
