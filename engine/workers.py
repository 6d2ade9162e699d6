"""Worker processes for decoding and embedding. If a task kills its process, no other task fails.

The pools of the standard library stop when one of their processes dies, and decoders of pages and audio do die. Here
each worker has its own pipe and at most one task at a time. This also limits how many tasks wait: `each` takes a task
from its iterable only when a worker is free and the caller has consumed the earlier results. So a result may lead to
further tasks (`Agenda`).
"""

import contextlib
import ctypes
import functools
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar, cast

from engine import process, template
from engine.environment import changed
from engine.names import OneLine
from engine.template import ForkedProcess, Template

logger = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"
)
"""Environment variables that limit a worker's libraries to one thread: each core has its own worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Replaces the result of a task that failed."""

    cause: str
    """Why the task has no result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """How results become bytes, and bytes results. A large result is sent in parts, none of them empty."""

    encode: Callable[[Any], Iterable[bytes]]
    """Runs in the worker; gets a result or a Failure, and gives its parts. Only one part at a time is in memory."""
    decode: Callable[[Iterator[bytes]], Any]
    """Runs in the parent, and takes all parts. Raises ValueError if they hold no result; then the worker is killed."""


START_S = 60.0
"""Time that a process may need to start."""


def _pickled(result: Any) -> list[bytes]:
    return [pickle.dumps(result)]


def _unpickled(parts: Iterator[bytes]) -> Any:
    return pickle.loads(next(parts))


PICKLE = Codec(encode=_pickled, decode=_unpickled)
"""For workers that are trusted: unpickling can run any code in the parent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A message of a worker about a task that is not finished yet."""

    value: Any


def ignore(task: Any, value: Any) -> None:
    """Does nothing with a note of a worker."""


def each(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    jobs: int,
    expected: tuple[type[Exception], ...] = (),
    observe: Callable[[Task, Any], None] = ignore,
) -> Generator[tuple[Task, Result | Failure], None, None]:
    """Yields every task with its result, in order of completion, computed by `jobs` single-threaded processes.

    work: runs in the workers. It, the tasks and the results are pickled.
    tasks: are asked for the next task again after each result, also if there was none before. A worker starts when
        there is a task for it.
    expected: errors that become a Failure with their message as its cause. Any other error becomes a Failure that
        also names the error's type, and its traceback is logged.
    observe: receives what a task has passed to `tell`, with the task.
    What the workers log is logged in this process. The workers end at once when the iterator is closed or its consumer
    raises.

    Raises ValueError if `jobs` is less than 1.
    """
    if jobs < 1:
        raise ValueError(f"expected 1 process or more, got {jobs}")
    modules = Template(functools.partial(_load, work), ONE_THREAD) if template.available() else None
    free: list[Worker] = []
    busy: dict[Any, tuple[Worker, Task]] = {}
    remaining = iter(tasks)
    try:
        while True:
            while len(busy) < jobs and (task := next(remaining, _END)) is not _END:
                worker = free.pop() if free else Worker(work, expected, template=modules)
                if not worker.alive:
                    worker = Worker(work, expected, template=modules)
                worker.send(task)
                busy[worker.connection] = (worker, task)
            if not busy:
                return
            for connection in wait(list(busy)):
                worker, task = busy[connection]
                message = worker.next_message()
                if isinstance(message, Note):
                    _pass_on(message, functools.partial(observe, task))
                else:
                    del busy[connection]
                    free.append(worker)
                    yield task, message
    finally:
        for worker in [*free, *(worker for worker, _ in busy.values())]:
            worker.end()
        if modules is not None:
            modules.close()


def _load(work: Callable[..., Any]) -> None:
    """Loads the modules of some work, which arrives pickled, in the template of the workers."""
    process.prepare(searches=False)


_END: Any = object()


class Agenda(Iterator[Task]):
    """Tasks to which others can be added while they are done. After its end it goes on when there are more tasks."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._waiting = [iter(tasks)]

    def prepend(self, tasks: Iterable[Task]) -> None:
        """Adds tasks that come before all others. They are taken from the iterable one at a time."""
        self._waiting.append(iter(tasks))

    def __next__(self) -> Task:
        while self._waiting:
            if (task := next(self._waiting[-1], _END)) is not _END:
                return cast(Task, task)
            self._waiting.pop()
        raise StopIteration


class Worker:
    """One worker process, with the parent's end of its pipe."""

    def __init__(
        self,
        work: Callable[[Any], Any],
        expected: tuple[type[Exception], ...] = (),
        *,
        enter: Callable[[], None] | None = None,
        codec: Codec = PICKLE,
        template: Template | None = None,
    ) -> None:
        """Starts the worker process. `work` and `expected` are those of `each`.

        enter: is called in the process before it starts any thread or takes a task. The time that such a process needs
            to start is not counted as time of its first task.
        codec: of the results.
        template: the process is forked of it; by default it is started anew.
        """
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = work, expected, enter, codec, logging.getLogger().getEffectiveLevel()
        self.process: SpawnProcess | ForkedProcess
        with contextlib.closing(theirs):
            if template is not None:
                self.process = template.fork(_serve, theirs, *arguments)
            else:
                self.process = context.Process(target=_serve, args=(theirs, *arguments), daemon=True)
                with changed(ONE_THREAD):
                    self.process.start()
        self._decode = codec.decode
        self._starting = enter is not None
        self.alive = True

    def send(self, task: Any) -> None:
        """Sends the worker its next task. If the worker is dead, `receive` returns a Failure."""
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(task)

    def receive(self, timeout_s: float | None = None) -> Any:
        """Waits for the result of the last task sent, and returns it. Notes and log records are dropped.

        Failures are those of `next_message`; `timeout_s` limits the whole task.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while isinstance(message := self.next_message(timeout_s), Note):
            timeout_s = None if end_s is None else max(0.0, end_s - time.monotonic())
        return message

    def next_message(self, timeout_s: float | None = None) -> Any:
        """Waits for the next message about the last task sent, and returns it: a Note, or the result.

        If the process dies, the result is a Failure. If the task takes longer than `timeout_s`, this method kills the
        process, and the result is a Failure too. In both cases `alive` is False from then on.
        """
        try:
            if self._starting and self.connection.poll(START_S):
                self.connection.recv_bytes()
                self._starting = False
            parts = self._parts(None if timeout_s is None else time.monotonic() + timeout_s)
            result = self._decode(parts)
            if next(parts, None) is not None:
                raise ValueError("it sent more than a result")
            return result
        except TimeoutError:
            self.end()
            return Failure(cause=f"took longer than {timeout_s:g} s")
        except (ValueError, StopIteration) as exc:
            self.end()
            return Failure(cause=f"its worker process sent no result ({exc})")
        except (EOFError, OSError):
            wait([self.process.sentinel], 1.0)  # otherwise the exit code would be that of our kill
            self.end()
            return Failure(cause=f"its worker process died ({_ending(self.process.exitcode)})")

    def _parts(self, end_s: float | None) -> Iterator[bytes]:
        """Yields the parts of the next message. Raises TimeoutError if one is not there at the time `end_s`."""
        while self.connection.poll(None if end_s is None else max(0.0, end_s - time.monotonic())):
            if not (part := self.connection.recv_bytes()):
                return
            yield part
        raise TimeoutError

    def kill(self) -> None:
        """Kills the worker process and every process it has started, which may outlive a worker that died.

        Any thread may call this. A thread that waits in `receive` then gets a Failure and calls `end`.
        """
        if self.alive and self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # the process may not lead its group yet
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()

    def end(self) -> None:
        """Kills the process and closes its pipe. Only the thread that sends and receives may call this."""
        self.kill()
        self.alive = False
        self.process.join()
        self.connection.close()


def tell(value: Any) -> None:
    """Tells the parent something about the task at hand; does nothing outside a worker that is trusted.

    value: is pickled.
    """
    if _outbox is not None:
        _outbox.send(PICKLE.encode(Note(value=value)))


class _Outbox(logging.handlers.QueueHandler):
    """The worker's end of the pipe, which threads share, as a handler that sends log records to the parent."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(queue=None)  # type: ignore[arg-type]
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: Iterable[bytes]) -> None:
        """Sends the parent a note or a result, in parts."""
        with self._sending:
            _send(self._connection, message)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Sends the parent a log record."""
        self.send(PICKLE.encode(Note(value=record)))


def _send(connection: Connection, message: Iterable[bytes]) -> None:
    """Sends a message in parts. An empty part ends it."""
    for part in message:
        connection.send_bytes(part)
    connection.send_bytes(b"")


_outbox: _Outbox | None = None
"""The pipe of this process to its parent; None in a process that is no worker, or one that is not trusted."""


def _pass_on(note: Note, observe: Callable[[Any], None]) -> None:
    """Logs the log record of a worker in this process, or gives the note of a worker to `observe`."""
    record = note.value
    if not isinstance(record, logging.LogRecord):
        observe(record)
    elif (theirs := logging.getLogger(record.name)).isEnabledFor(record.levelno):
        theirs.handle(record)


def _serve(
    connection: Connection,
    work: Callable[[Any], Any],
    expected: tuple[type[Exception], ...],
    enter: Callable[[], None] | None,
    codec: Codec,
    level: int,
) -> None:
    """Receives tasks and sends their results until the pipe closes. Runs in the worker process.

    level: of the log. A worker that is not trusted logs to stderr, because its log records would be unpickled.
    """
    global _outbox
    if enter is not None:
        enter()
    process.prepare(searches=False)
    os.setsid()  # Ctrl-C then reaches only the parent, which kills this process and all processes it has started
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send: Callable[[Iterable[bytes]], None] = functools.partial(_send, connection)
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    if codec == PICKLE:
        handler = _outbox = _Outbox(connection)
        send = _outbox.send
    logging.getLogger().handlers = [handler]
    logging.getLogger().setLevel(level)
    with contextlib.suppress(EOFError, BrokenPipeError):
        if enter is not None:
            connection.send_bytes(b"")  # it has started
        while True:
            task = connection.recv()
            send(codec.encode(_attempt(work, task, expected)))
            _release_memory()


def _release_memory() -> None:
    """Gives free memory back to the system: after a page, glibc would keep some 15 MB of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _end_with_parent() -> None:
    """Waits until the parent ends, then kills this process and those it has started.

    Without the parent nothing enforces a time limit.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _attempt(work: Callable[[Task], Result], task: Task, expected: tuple[type[Exception], ...]) -> Result | Failure:
    """Returns the result of the task, or a Failure if `work` raises an error."""
    try:
        return work(task)
    except expected as exc:
        return Failure(cause=str(exc))
    except Exception as exc:
        logger.exception("unexpected error at %r", task)
        return Failure(cause=f"unexpected {type(exc).__name__}: {exc}")


def _ending(exitcode: int | None) -> str:
    """Returns the name of the signal that ended a process, or its exit code."""
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"
