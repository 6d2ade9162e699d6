"""A process that has loaded all modules, of which workers are forked: they start at once and share its memory.

A worker that reads pages needs some 90 MB for modules and machine code, and a second to load them. Forked workers share
these pages until they write to them. The template reads no file of a stranger and starts no thread, so a fork of it is
whole. A forked worker confines itself, as one that was started anew does; it cannot reach the template.

Linux tells the end of a process that is no child by a file of the process (`pidfd_open`). Elsewhere there are no
templates (`available`), and workers are started anew.
"""

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any

from engine.environment import changed

START_S = 60.0
"""Time that a template may need to load its modules."""


def available() -> bool:
    """Returns whether this system has what templates need. Old kernels and some containers have not."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


class ForkedProcess:
    """A process that was forked of a template, as `multiprocessing.Process` shows one."""

    def __init__(self, pid: int, exit_status: Callable[[int], int | None]) -> None:
        """exit_status: asks the template for the exit status of a process that has ended."""
        self.pid = pid
        self.exitcode: int | None = None
        """Exit code, negative for a signal; None while the process runs, or if nobody knows."""
        self.sentinel = os.pidfd_open(pid)
        """Is ready to read when the process has ended."""
        weakref.finalize(self, os.close, self.sentinel)  # not earlier: another thread may kill the process
        self._exit_status = exit_status
        self._joined = False

    def is_alive(self) -> bool:
        """Returns whether the process runs."""
        return not self._joined and not wait([self.sentinel], 0)

    def kill(self) -> None:
        """Kills the process."""
        if not self._joined:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.sentinel, signal.SIGKILL)

    def join(self) -> None:
        """Waits for the end of the process."""
        if not self._joined:
            wait([self.sentinel])
            self.exitcode = self._exit_status(self.pid)
            self._joined = True


class Template:
    """A template, started when the first process is forked of it, and again if it has died. Threads may share it."""

    def __init__(self, prepare: Callable[[], None], environment: Mapping[str, str]) -> None:
        """prepare: loads modules, in the template. environment: variables that are set there before."""
        self._prepare = prepare
        self._environment = dict(environment)
        self._asking = threading.Lock()
        self._processes: list[Any] = []
        """The template, last, and those that died before. Workers take the end of one of these objects for ours."""
        self._connection: Connection | None = None

    def fork(self, run: Callable[..., None], connection: Connection, *arguments: Any) -> ForkedProcess:
        """Returns a new process, which calls `run(connection, *arguments)` and ends.

        run: a function of a module; it and the arguments are pickled. connection: is passed on, and the caller still
            has to close it.
        Raises OSError if no process can be started.
        """
        with self._asking:
            for _ in range(2):
                try:
                    return self._forked(run, connection, arguments)
                except (EOFError, ConnectionError):  # the template has died, perhaps for want of memory
                    self._end()
        raise OSError("the process of which workers are forked cannot be started")

    def close(self) -> None:
        """Ends the template. Processes that were forked of it go on while this object is there."""
        with self._asking:
            self._end()

    def _forked(self, run: Callable[..., None], connection: Connection, arguments: tuple[Any, ...]) -> ForkedProcess:
        ours = self._connection or self._started()
        ours.send((run, arguments))
        send_handle(ours, connection.fileno(), self._processes[-1].pid)
        if not ours.poll(START_S):
            raise OSError(f"no process could be started within {START_S:g} s")
        pid: int | OSError = ours.recv()
        if isinstance(pid, OSError):
            raise pid
        return ForkedProcess(pid, self._exit_status)

    def _started(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        started = context.Process(target=_template, args=(theirs, self._prepare), daemon=True)
        with changed(self._environment):
            started.start()
        self._processes.append(started)
        theirs.close()
        return self._connection

    def _exit_status(self, pid: int) -> int | None:
        """Returns the exit code of a process that has ended; None if the template has died since it was forked."""
        with self._asking:
            try:
                if self._connection is None:
                    return None
                self._connection.send(pid)
                code: int | None = self._connection.recv()
                return code
            except (EOFError, ConnectionError):
                return None

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._processes[-1].kill()
            self._processes[-1].join()
            self._connection = None


def _template(connection: Connection, prepare: Callable[[], None]) -> None:
    """Forks a process for each request, and tells how processes ended, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    prepare()
    gc.collect()
    gc.freeze()  # a collection in a forked process would write to all objects, and so copy them
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            request = connection.recv()
            if isinstance(request, int):
                connection.send(_exit_code(request))
                continue
            handle = recv_handle(connection)
            try:
                pid = os.fork()
            except OSError as exc:
                connection.send(exc)
            else:
                if pid == 0:
                    connection.close()
                    run, arguments = request
                    _run(run, arguments, Connection(handle))
                connection.send(pid)
            os.close(handle)


def _exit_code(pid: int) -> int | None:
    """Waits for the end of a process, and returns its exit code; None if it is none of ours."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def _run(run: Callable[..., None], arguments: tuple[Any, ...], connection: Connection) -> None:
    """Runs a function in a forked process, and ends the process."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        run(connection, *arguments)
        code = 0
    finally:
        os._exit(code)
