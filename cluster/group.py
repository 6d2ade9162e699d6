"""The replicas of one shard, as those who ask see them: each question goes to one that answers in time."""

import contextlib
import logging
import threading
import time
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cluster.changes import ReplicaState
from engine.errors import CollectionDamagedError, EngineError, GenerationGoneError, ShardLostError

logger = logging.getLogger(__name__)

RETRY_S = 1.0
"""Time between two probes of a replica that is not there."""
PROBE_S = 0.5
"""Time for which a probe is waited for where no replica of a shard may be asked."""
REST_S, MAX_REST_S = 2.0, 60.0
"""Time for which the others are asked instead of a replica that answers probes and has failed twice, as one with a slow
disk does: it answers what it has in memory in time. It doubles with each further failure, up to MAX_REST_S."""
FORGOTTEN_S = 120.0
"""Time without a failure after which earlier failures no longer count."""


@dataclass(slots=True, kw_only=True)
class ReplicaHandle:
    """A replica that may be asked."""

    name: str
    """Name of its actor."""
    actor: Any
    state: ReplicaState
    """What it has to hold: the generation that is asked for."""
    probe: Any = None
    """A call that it has to answer before it is asked again, after it did not answer; None: it may be asked."""
    probed: float = 0.0
    """When it got this call, on the clock of `time.monotonic`."""
    failures: int = 0
    """How often it has failed, with less than FORGOTTEN_S between two failures."""
    failed: float = 0.0
    """When it last failed, on the same clock."""
    rests_until: float = 0.0
    """Until when the others are asked instead, on the same clock."""

    def fail(self) -> None:
        """Notes that the replica has failed, and does not ask it again before it has answered a probe."""
        now = time.monotonic()
        self.failures = 1 if now - self.failed > FORGOTTEN_S else self.failures + 1
        self.failed = now
        if self.failures > 1:
            self.rests_until = now + min(REST_S * 2.0 ** (self.failures - 2), MAX_REST_S)
        self.ask_for_a_sign()

    def ask_for_a_sign(self) -> None:
        """Does not ask the replica before it has answered a probe."""
        self.probe = self.actor.state.options(concurrency_group="search").remote()
        self.probed = time.monotonic()

    def is_ready(self) -> bool:
        """Returns whether the replica may be asked.

        A probe is repeated if it failed, because there is no process, or if the replica has yet to catch up.
        """
        if self.probe is None:
            return True
        if not ray.wait([self.probe], timeout=0)[0]:
            return False
        with contextlib.suppress(RayError):
            if self._has_caught_up(ray.get(self.probe)):
                self.probe = None
                return True
        if time.monotonic() - self.probed > RETRY_S:
            self.ask_for_a_sign()
        return False

    def _has_caught_up(self, found: ReplicaState) -> bool:
        """Returns whether a replica that holds this may have the generation: older ones stay open for a while."""
        return found.digest == self.state.digest or found.generation > self.state.generation


@dataclass(slots=True, kw_only=True)
class ReplicaGroup:
    """The up-to-date replicas of one shard. Any thread may ask."""

    shard: str
    replicas: list[ReplicaHandle]
    timeout_s: float
    """Time for a replica to answer before the next one is asked."""
    failures: dict[str, int] = field(default_factory=dict)
    """How often each replica was passed over, by its name; it outlives the group."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turn: int = 0

    def ask(self, method: str, *arguments: Any, timeout_s: float | None = None, **options: Any) -> Any:
        """Returns what a replica answers: `Replica.method` of its generation.

        Replicas take turns. One that is dead, has damaged data, or does not answer in time, is passed over until it
        answers a probe; if that happens again and again, the others are asked first.
        Raises ShardLostError if none answers, and the EngineError that a replica raises.
        """
        causes: dict[str, str] = {}
        while (replica := self._next(causes.keys())) is not None:
            try:
                call = getattr(replica.actor, method).options(concurrency_group="search")
                reference = call.remote(replica.state.generation, *arguments, **options)
                return ray.get(reference, timeout=timeout_s or self.timeout_s)
            except RayTaskError as exc:
                if isinstance(exc.cause, GenerationGoneError):  # it has restarted since; another one has it open
                    causes[replica.name] = f"{replica.name}: {exc.cause.cause}"
                    continue
                if isinstance(exc.cause, EngineError) and not isinstance(exc.cause, CollectionDamagedError):
                    raise exc.cause from exc
                cause = f"{replica.name} failed: {exc.cause!r}"
            except GetTimeoutError:
                ray.cancel(reference)
                cause = f"{replica.name} did not answer within {timeout_s or self.timeout_s:g} s"
            except RayError as exc:
                cause = f"{replica.name} is not there: {type(exc).__name__}"
            self._pass_over(replica, cause)
            causes[replica.name] = cause
        told = "; ".join(causes.values()) or "its replicas have not answered lately"
        raise ShardLostError(frozenset({self.shard}), told)

    def answering(self) -> set[str]:
        """Returns the names of the replicas that may be asked."""
        return {one.name for one in self._ready(())[0]}

    def take_in(self, replicas: Iterable[ReplicaHandle]) -> None:
        """Adds replicas that have the same documents as these, and are not known yet."""
        with self._lock:
            known, digest = {one.name for one in self.replicas}, self.replicas[0].state.digest
            self.replicas += [one for one in replicas if one.name not in known and one.state.digest == digest]

    def _next(self, tried: Container[str]) -> ReplicaHandle | None:
        """Returns the replica to ask next, other than those that are tried already; None if there is none."""
        ready, probes = self._ready(tried)
        if not ready and probes:
            ray.wait(probes, timeout=PROBE_S)
            ready, _ = self._ready(tried)
        now = time.monotonic()
        preferred = [one for one in ready if one.rests_until <= now] or ready
        self._turn += 1
        return preferred[self._turn % len(preferred)] if preferred else None

    def _ready(self, tried: Container[str]) -> tuple[list[ReplicaHandle], list[Any]]:
        """Returns the replicas that may be asked, and the probes of those that may not."""
        with self._lock:
            left = [one for one in self.replicas if one.name not in tried]
            ready = [one for one in left if one.is_ready()]
            return ready, [one.probe for one in left if one.probe is not None]

    def _pass_over(self, replica: ReplicaHandle, cause: str) -> None:
        logger.warning("%s: %s", self.shard, cause)
        with self._lock:
            replica.fail()
            self.failures[replica.name] = self.failures.get(replica.name, 0) + 1
