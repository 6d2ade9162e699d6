"""The replicas of one shard, as those who ask see them: each question goes to one that answers in time."""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cluster.changes import ReplicaState
from engine.errors import EngineError, ShardLostError

logger = logging.getLogger(__name__)

RETRY_S = 5.0
"""Time for which a replica that did not answer is not asked again."""


@dataclass(slots=True, kw_only=True)
class ReplicaHandle:
    """A replica that may be asked."""

    name: str
    """Name of its actor."""
    actor: Any
    state: ReplicaState
    avoided_until: float = 0.0
    """When it is asked again after it did not answer, on the clock of `time.monotonic`."""


@dataclass(slots=True, kw_only=True)
class ReplicaGroup:
    """The up-to-date replicas of one shard. Any thread may ask."""

    shard: str
    replicas: list[ReplicaHandle]
    timeout_s: float
    """Time for a replica to answer before the next one is asked."""
    failures: dict[str, int] = field(default_factory=dict)
    """How often each replica did not answer, by its name."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turn: int = 0

    def ask(self, method: str, *arguments: Any, timeout_s: float | None = None, **options: Any) -> Any:
        """Returns what a replica answers: `Replica.method` of its generation.

        Replicas take turns. One that is dead, or does not answer in time, is passed over for RETRY_S.
        Raises ShardLostError if none answers, and the EngineError that a replica raises.
        """
        causes: list[str] = []
        for replica in self._candidates():
            try:
                call = getattr(replica.actor, method).options(concurrency_group="search")
                reference = call.remote(replica.state.generation, *arguments, **options)
                return ray.get(reference, timeout=timeout_s or self.timeout_s)
            except RayTaskError as exc:
                if isinstance(exc.cause, EngineError):
                    raise exc.cause from exc
                cause = f"{replica.name} failed: {exc.cause!r}"
            except GetTimeoutError:
                ray.cancel(reference)
                cause = f"{replica.name} did not answer within {timeout_s or self.timeout_s:g} s"
            except RayError as exc:
                cause = f"{replica.name} is not there: {type(exc).__name__}"
            self._avoid(replica, cause)
            causes.append(cause)
        raise ShardLostError(frozenset({self.shard}), "; ".join(causes) or "its replicas did not answer lately")

    def take_in(self, replicas: Iterable[ReplicaHandle]) -> None:
        """Adds replicas that have the same documents as these, and are not known yet."""
        with self._lock:
            known, digest = {one.name for one in self.replicas}, self.replicas[0].state.digest
            self.replicas += [one for one in replicas if one.name not in known and one.state.digest == digest]

    def _candidates(self) -> list[ReplicaHandle]:
        """Returns the replicas to ask, one after the other."""
        with self._lock:
            now, self._turn = time.monotonic(), self._turn + 1
            ready = [one for one in self.replicas if one.avoided_until <= now]
        first = self._turn % max(1, len(ready))
        return ready[first:] + ready[:first]

    def _avoid(self, replica: ReplicaHandle, cause: str) -> None:
        logger.warning("%s: %s", self.shard, cause)
        with self._lock:
            replica.avoided_until = time.monotonic() + RETRY_S
            self.failures[replica.name] = self.failures.get(replica.name, 0) + 1
