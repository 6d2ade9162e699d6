"""Worker processes that survive one another: a task that kills its process fails alone.

The pools of the standard library stop altogether when one of their processes dies, and decoders of pages and audio do
die. Here each worker has a pipe of its own and at most one task at a time, which bounds the work in flight as well:
a task is taken from its iterable only when a worker is free and the results before it were consumed.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task has no result."""

    cause: str


def each(
    work: Callable[[Task], Result], tasks: Iterable[Task], *, jobs: int, expected: tuple[type[Exception], ...] = ()
) -> Generator[tuple[Task, Result | Failure], None, None]:
    """Every task with its result, in order of completion, from `jobs` single-threaded processes.

    work: runs in the workers; it, the tasks and the results are pickled.
    expected: errors whose message alone is the cause; of others the name is told as well and the traceback is logged.
    Closing the iterator, or an exception in its consumer, ends the workers at once.
    """
    free = [Worker(work, expected) for _ in range(jobs)]
    busy: dict[Any, tuple[Worker, Task]] = {}
    remaining = iter(tasks)
    try:
        while True:
            while free and (task := next(remaining, _END)) is not _END:
                worker = free.pop()
                if not worker.alive:
                    worker = Worker(work, expected)
                worker.send(task)
                busy[worker.connection] = (worker, task)
            if not busy:
                return
            for connection in wait(list(busy)):
                worker, done = busy.pop(connection)
                result: Result | Failure = worker.receive()
                free.append(worker)
                yield done, result
    finally:
        for worker in [*free, *(worker for worker, _ in busy.values())]:
            worker.end()


_END: Any = object()


class Worker:
    """One process and our end of its pipe."""

    def __init__(self, work: Callable[[Any], Any], expected: tuple[type[Exception], ...] = ()) -> None:
        """Arguments as for `each`."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs, work, expected), daemon=True)
        with _environment(_ONE_THREAD):
            self.process.start()
        theirs.close()
        self.alive = True

    def send(self, task: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # a worker that is dead already says so when asked for its result
            self.connection.send(task)

    def receive(self, timeout_s: float | None = None) -> Any:
        """The result of the task sent last; a Failure, and the worker is dead, if that is so or it takes longer."""
        try:
            if self.connection.poll(timeout_s):
                return self.connection.recv()
            self.end()
            return Failure(cause=f"took longer than {timeout_s:g} s")
        except (EOFError, OSError):
            wait([self.process.sentinel], 1.0)  # so that the exit code is its own
            self.end()
            return Failure(cause=f"its worker process died ({_ending(self.process.exitcode)})")

    def kill(self) -> None:
        """Kills the process, and those it has started, which a process that died may have left behind.

        Any thread may do so; one that waits in `receive` is told that the process died, and ends it.
        """
        if self.alive and self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it may not lead its group yet
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()

    def end(self) -> None:
        """Kills the process and lets go of its pipe: for the one thread that sends and receives."""
        self.kill()
        self.alive = False
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, work: Callable[[Any], Any], expected: tuple[type[Exception], ...]) -> None:
    """The life of a worker: tasks in, results out, until the pipe closes."""
    os.setsid()  # Ctrl-C reaches the parent alone, which ends us, with the decoders we may have started
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task = connection.recv()
            connection.send(_attempt(work, task, expected))


def _end_with_parent() -> None:
    """Kills this process, and those it has started, when the parent is gone: nobody would end what takes too long."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _attempt(work: Callable[[Task], Result], task: Task, expected: tuple[type[Exception], ...]) -> Result | Failure:
    try:
        return work(task)
    except expected as exc:
        return Failure(cause=str(exc))
    except Exception as exc:
        logger.exception("unexpected error at %r", task)
        return Failure(cause=f"unexpected {type(exc).__name__}: {exc}")


def _ending(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """The variables set while processes start: thread counts must stand before a child imports NumPy."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
