"""What is to be changed in a shard, as it goes from a writer to the replicas of the shard."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.values import Document, SnippetSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A document that is added, or takes the place of the one with its id."""

    document: Document
    sequence: SnippetSequence | None
    """Its snippets; None if the shard has this content already."""
    replace: bool
    default_title: str
    media: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A document that is removed."""

    id: str


ShardChange = Put | Drop


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState:
    """What a replica of a shard holds."""

    shard: str
    generation: int
    digest: str
    """Digest of the generation; replicas of one shard that are up to date have the same."""
    next_generation: int
    next_number: int
    process: int
    """Id of its process, for people and for tests."""
    path: str
    """Folder of the shard on its machine."""


def up_to_date(states: Mapping[str, ReplicaState]) -> list[str]:
    """Returns the names of the replicas of one shard that hold its newest generation.

    A generation is acknowledged only if all replicas have it, so none is newer than the highest one.
    """
    newest = max(states.values(), key=lambda state: state.generation, default=None)
    return [name for name, state in states.items() if newest is not None and state.digest == newest.digest]
