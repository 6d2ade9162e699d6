"""A group asks the replicas of a shard in turns, and those that fail again and again after the others."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cluster.changes import ReplicaState
from engine.errors import CollectionDamagedError, DocumentMissingError, GenerationGoneError, ShardLostError

STATE = ReplicaState(
    shard="s", generation=5, digest="d", next_generation=6, next_number=9, process=1, path="/machine/s"
)


class Call:
    """A method of a replica in this process, called as one of an actor: its answer is an error, or a value."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def options(self, **_: Any) -> "Call":
        return self

    def remote(self, *_: Any) -> Any:
        return self._answer()


class Actor:
    """A replica that answers probes, and fails with an error as long as it has one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fails: Exception | None = None
        self.asked = 0
        self.holds = STATE
        self.state = Call(lambda: self.holds)
        self.search = Call(self._search)

    def _search(self) -> Any:
        self.asked += 1
        return self.fails or self.name


@pytest.fixture
def actors() -> list[Actor]:
    return [Actor("a"), Actor("b")]


@pytest.fixture
def group(actors: list[Actor], monkeypatch: pytest.MonkeyPatch, ray_environment: pytest.MonkeyPatch) -> Any:
    from cluster import group as module

    def get(reference: Any, timeout: float | None = None) -> Any:
        if isinstance(reference, Exception):
            raise reference
        return reference

    monkeypatch.setattr(module.ray, "get", get)
    monkeypatch.setattr(module.ray, "wait", lambda references, **_: (references, []))
    monkeypatch.setattr(module.ray, "cancel", lambda reference: None)
    handles = [module.ReplicaHandle(name=one.name, actor=one, state=STATE) for one in actors]
    return module.ReplicaGroup(shard="s", replicas=handles, timeout_s=1.0)


def late() -> Exception:
    from ray.exceptions import GetTimeoutError

    return GetTimeoutError("late")


def raised(error: Exception) -> Exception:
    from ray.exceptions import RayTaskError

    return RayTaskError("search", "", error)


def test_replicas_take_turns(group: Any, actors: list[Actor]) -> None:
    assert {group.ask("search") for _ in range(2)} == {"a", "b"}
    assert [one.asked for one in actors] == [1, 1]


def test_a_replica_that_fails_again_and_again_is_asked_ever_less_often(
    group: Any, actors: list[Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    actors[0].fails = late()
    assert {group.ask("search") for _ in range(8)} == {"b"}
    assert actors[0].asked == 2  # once more after its first failure
    for pause, asked in ((1.0, 2), (1.5, 3), (2.0, 3), (2.5, 4)):
        now += pause
        assert {group.ask("search") for _ in range(4)} == {"b"}
        assert actors[0].asked == asked
    now += 8.0
    actors[0].fails = None
    assert {group.ask("search") for _ in range(4)} == {"a", "b"}
    actors[0].fails = late()
    assert {group.ask("search") for _ in range(4)} == {"b"}
    assert group.failures == {"a": 5}
    actors[0].fails, asked = None, actors[0].asked
    now += 15.0  # what it answered meanwhile does not count: the next rest is twice as long again
    assert {group.ask("search") for _ in range(4)} == {"b"}
    now += 200.0
    actors[0].fails = late()
    assert {group.ask("search") for _ in range(4)} == {"b"}
    assert actors[0].asked == asked + 2


def test_a_replica_that_fails_again_and_again_is_asked_if_no_other_is_left(group: Any, actors: list[Actor]) -> None:
    actors[0].fails = late()
    for _ in range(6):
        group.ask("search")
    actors[0].fails, actors[1].fails = None, late()
    assert group.ask("search") == "a"


def test_the_copy_of_another_replica_answers_for_one_that_is_damaged_or_has_restarted(
    group: Any, actors: list[Actor]
) -> None:
    actors[0].fails = raised(CollectionDamagedError("/machine/s", "number 3 is missing"))
    assert {group.ask("search") for _ in range(2)} == {"b"}
    actors[0].fails = raised(GenerationGoneError("/machine/s", "generation 1 is gone; 2 is"))
    assert {group.ask("search") for _ in range(2)} == {"b"}
    actors[1].fails = actors[0].fails
    with pytest.raises(ShardLostError, match=r"s: .*generation 1 is gone; 2 is"):
        group.ask("search")


def test_a_replica_that_is_behind_is_asked_when_it_has_caught_up(
    group: Any, actors: list[Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for behind in (replace(STATE, generation=4, digest="c"), replace(STATE, digest="other")):
        actors[0].holds = behind
        group.replicas[0].ask_for_a_sign()
        assert {group.ask("search") for _ in range(4)} == {"b"}
        assert group.answering() == {"b"}
        now += 1.5
        assert {group.ask("search") for _ in range(4)} == {"b"}
        actors[0].holds = STATE
        now += 1.5
        group.ask("search")
        assert {group.ask("search") for _ in range(4)} == {"a", "b"}
    actors[0].holds = replace(STATE, generation=6, digest="e")  # it keeps older generations for a while
    group.replicas[0].ask_for_a_sign()
    assert {group.ask("search") for _ in range(4)} == {"a", "b"}
    assert group.failures == {}


def test_what_all_replicas_would_say_is_said_at_once(group: Any, actors: list[Actor]) -> None:
    for one in actors:
        one.fails = raised(DocumentMissingError("/machine/s", "no document 'x'"))
    with pytest.raises(DocumentMissingError):
        group.ask("search")
    assert sum(one.asked for one in actors) == 1
    assert group.failures == {}
