"""The keeper: the one process through which all changes of a collection go.

It is an actor with a name, so several fronts of one collection share it, and no two of them split a shard. It is a
plain class, which knows Ray only by the function `ask` that is given to it.

A change is prepared on every replica of its shard: durable, but not in force. Only then each replica puts it in force.
If a replica does not prepare it, all others forget it, and it is refused. When all have prepared it, it is decided:
every replica of every shard is asked to put it in force, whether another one fails or not. A replica that dies between
the two is behind the others afterwards; it catches up before it is asked again.
"""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from cluster.changes import ReplicaState, ShardChange, up_to_date
from engine.errors import CollectionError, EngineError

logger = logging.getLogger(__name__)

Ask = Callable[[str, str, Sequence[Any]], Any]
"""Returns what a replica, by its name, answers to a method with these arguments. Raises EngineError."""


class Keeper:
    """Makes the changes of one collection, one after the other."""

    def __init__(self, path: str, ask: Ask) -> None:
        """path: folder of the collection, for messages."""
        self._path = path
        self._ask = ask
        self._members: dict[str, set[str]] = {}
        """Names of the replicas of each shard that have ever been there; none of a shard that no machine has had."""
        self._next_numbers: dict[str, int] = {}
        """Number of the next document of each shard, the highest that a replica has told."""

    def members(self) -> dict[str, list[str]]:
        """Returns the names of the replicas of each shard."""
        return {shard: sorted(names) for shard, names in self._members.items()}

    def join(self, replicas: Mapping[str, Sequence[str]]) -> dict[str, dict[str, ReplicaState]]:
        """Takes in replicas of shards, lets those that are behind catch up, and returns the states of all that answer.

        A replica that cannot catch up is left out, so it is not asked.

        replicas: all shards of the collection, also those that no machine has: of these the numbers are unknown.
        """
        for shard, names in replicas.items():
            self._members.setdefault(shard, set()).update(names)
        return {shard: self._current(shard) for shard in self._members}

    def apply(self, changes: Mapping[str, Sequence[ShardChange]]) -> dict[str, int]:
        """Makes changes durable on every replica of their shards and puts them in force; returns the new generations.

        Raises CollectionError if a replica of these shards does not answer, or refuses a change: then no replica makes
        any, unless a replica fails in the moment in which the changes come into force. Replicas of other shards may be
        missing.
        """
        states = {shard: self._all(shard) for shard in changes}
        number = self._next_number(changes.keys())
        prepared: dict[str, dict[str, ReplicaState]] = {}
        try:
            for shard, wanted in changes.items():
                prepared[shard] = {}
                for name in states[shard]:
                    prepared[shard][name] = self._ask(name, "prepare", (wanted, number))
                number = max(number, *(state.next_number for state in prepared[shard].values()))
                self._note_numbers(shard, prepared[shard])
        except EngineError:
            for shard in prepared:
                self._abort(states[shard])
            raise
        return self._in_force(prepared)

    def _next_number(self, changed: Set[str]) -> int:
        """Returns the number of the next document, which no document of any shard has.

        A shard that is not changed may be gone: its numbers are known since it answered last, because all changes go
        through this keeper. changed: shards whose replicas have just told their numbers.
        Raises CollectionError if no replica of a shard has ever answered. Shards that use a number twice cannot be
        ordered or divided any more.
        """
        for shard in self._members.keys() - changed:
            self._current(shard)
        if unknown := self._members.keys() - self._next_numbers.keys():
            raise CollectionError(
                self._path,
                f"changes need the numbers of the documents of {', '.join(sorted(unknown))}, "
                "of which no replica has answered yet",
            )
        return max(self._next_numbers.values(), default=0)

    def _in_force(self, prepared: Mapping[str, Mapping[str, ReplicaState]]) -> dict[str, int]:
        """Puts in force what all replicas have prepared, and returns the new generations of the shards.

        A shard that fails keeps no other one from its changes. To take back the others instead would not undo the
        change: replicas that have committed it cannot forget it.
        Raises CollectionError, which names the shards that fail and those whose changes are in force.
        """
        generations: dict[str, int] = {}
        failed: list[str] = []
        for shard, states in prepared.items():
            try:
                generations[shard] = self._committed(shard, states)
            except CollectionError as exc:
                failed.append(exc.cause)
        if failed and generations:
            failed.append(f"on all replicas of {', '.join(generations)} the changes are in force")
        if failed:
            raise CollectionError(self._path, "; ".join(failed))
        return generations

    def _committed(self, shard: str, prepared: Mapping[str, ReplicaState]) -> int:
        """Puts in force what all replicas of a shard have prepared. Raises CollectionError if one of them fails."""
        generation = max(state.next_generation for state in prepared.values())
        done: dict[str, ReplicaState] = {}
        failed: list[str] = []
        for name in prepared:
            try:
                done[name] = self._ask(name, "commit", (generation,))
            except EngineError as exc:
                failed.append(f"{name}: {exc}")
        if failed:
            raise CollectionError(
                self._path, f"{shard}: durable on {len(done)} of {len(prepared)} replicas: {'; '.join(failed)}"
            )
        if len({state.digest for state in done.values()}) > 1:
            raise CollectionError(self._path, f"{shard}: its replicas differ: {', '.join(done)}")
        return max(state.generation for state in done.values())

    def _all(self, shard: str) -> dict[str, ReplicaState]:
        """Returns the states of all replicas of a shard. Raises CollectionError if one is behind or does not answer."""
        if not self._members.get(shard):
            raise CollectionError(self._path, f"{shard}: no machine has a replica of it")
        found = self._current(shard)
        if missing := self._members[shard] - found.keys():
            raise CollectionError(
                self._path, f"{shard}: changes need all of its replicas, and {', '.join(sorted(missing))} is not there"
            )
        return found

    def _current(self, shard: str) -> dict[str, ReplicaState]:
        """Returns the states of the replicas of a shard that are up to date, after others have caught up."""
        states: dict[str, ReplicaState] = {}
        for name in sorted(self._members[shard]):
            try:
                states[name] = self._ask(name, "state", ())
            except EngineError as exc:
                logger.warning("%s is not there: %s", name, exc)
        self._note_numbers(shard, states)
        newest = up_to_date(states)
        for name in states.keys() - set(newest):
            try:
                states[name] = self._ask(name, "follow", (newest[0], states[newest[0]].generation))
                logger.warning("%s was behind, and has caught up with %s", name, newest[0])
            except EngineError as exc:
                logger.error("%s cannot catch up with %s: %s", name, newest[0], exc)
        return {name: states[name] for name in up_to_date(states)}

    def _note_numbers(self, shard: str, states: Mapping[str, ReplicaState]) -> None:
        """Remembers the highest number that replicas of a shard have told."""
        for state in states.values():
            self._next_numbers[shard] = max(self._next_numbers.get(shard, 0), state.next_number)

    def _abort(self, names: Mapping[str, ReplicaState]) -> None:
        for name in names:
            try:
                self._ask(name, "abort", ())
            except EngineError as exc:
                logger.warning("%s: %s", name, exc)
