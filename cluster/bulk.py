"""Work of `scorefind add` on the machines of a cluster, in the place of `engine.workers.each`."""

import logging
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from engine.workers import Failure, ignore

logger = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

TRIES = 3
"""How often a task is tried whose machine or process dies."""
AHEAD = 2
"""Tasks for each processor that are handed over at a time."""


def each(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    jobs: int,
    expected: tuple[type[Exception], ...] = (),
    observe: Callable[[Task, Any], None] = ignore,
) -> Generator[tuple[Task, Result | Failure], None, None]:
    """Yields every task with its result, in order of completion, computed on all machines of the cluster.

    The machines read the files under the same paths. A task whose machine dies is tried on another one.
    The arguments are those of `engine.workers.each`, and `tasks` are asked again after each result as there. `jobs` has
    no effect, because the cluster knows its processors, and nothing is told of tasks at work.
    """
    run = ray.remote(_done).options(max_retries=TRIES - 1, num_cpus=1)
    limit = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    shared, remaining = ray.put((work, expected)), iter(tasks)
    busy: dict[Any, Task] = {}
    try:
        while True:
            while len(busy) < limit and (task := next(remaining, _END)) is not _END:
                busy[run.remote(shared, task)] = task
            if not busy:
                return
            (reference,), _ = ray.wait(list(busy), num_returns=1)
            task = busy.pop(reference)
            try:
                yield task, ray.get(reference)
            except RayTaskError as exc:
                yield task, Failure(cause=f"{type(exc.cause).__name__}: {exc.cause}")
            except RayError as exc:
                yield task, Failure(cause=f"its process died {TRIES} times: {type(exc).__name__}")
    finally:
        for reference in busy:
            ray.cancel(reference)


_END: Any = object()


def _done(shared: tuple[Callable[[Any], Any], tuple[type[Exception], ...]], task: Any) -> Any:
    """Returns the result of a task, or a Failure for an expected error; runs on a machine of the cluster."""
    work, expected = shared
    try:
        return work(task)
    except expected as exc:
        return Failure(cause=str(exc))
