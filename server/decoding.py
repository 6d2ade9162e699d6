"""Media sent by clients are read in processes of their own, with limits on time and memory: a file may be hostile."""

import asyncio
import functools
import logging
import os
import resource
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from engine import documents
from engine.config import FrontEnd, MediaLimits
from engine.documents import Medium
from engine.errors import MediaError
from engine.values import Kind
from engine.workers import Failure, Worker
from server.errors import MediaRefused, Overloaded, Stopping
from server.messages import Media

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How media are to be read."""

    front_end: FrontEnd
    limits: MediaLimits
    timeout_s: float
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadTask:
    path: Path
    kind: Kind
    reading: Reading


class Decoders:
    """A few worker processes; each reads one medium at a time and is replaced when it dies or has to be killed."""

    def __init__(self, count: int, *, memory_bytes: int, observe_death: Callable[[], None] = lambda: None) -> None:
        """memory_bytes: what reading one medium may take. observe_death: is called for each worker that is lost."""
        self._work = functools.partial(_read, memory_bytes)
        self._observe_death = observe_death
        self._folder = Path(tempfile.mkdtemp(prefix="scorefind-"))
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._workers = [Worker(self._work) for _ in range(count)]
        self._free: asyncio.Queue[int] = asyncio.Queue()
        for number in range(count):
            self._free.put_nowait(number)
        self._replacing = threading.Lock()
        self._closed = False

    @property
    def processes(self) -> tuple[int, ...]:
        """Their numbers in the system."""
        return tuple(worker.process.pid or 0 for worker in self._workers)

    async def read(self, media: Media, reading: Reading) -> Medium:
        """What was read.

        Raises MediaRefused if the media cannot be, or take too much memory or time; Overloaded as `_run` does.

        A caller that is cancelled leaves the worker to end what it does, at the latest when its time is over.
        """
        number = await self._free.get()
        if self._closed:
            self._free.put_nowait(number)
            raise Stopping("the server is stopping")
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._run, number, media, reading)
        running.add_done_callback(lambda _: self._free.put_nowait(number))
        result = await asyncio.shield(running)
        if isinstance(result, Failure):
            raise MediaRefused(f"{media.files[0].name}: {result.cause}")
        return result

    async def close(self) -> None:
        """Kills the workers, whatever they do, and removes the files they were to read."""
        self._closed = True
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        with self._replacing:
            for worker in self._workers:
                worker.kill()  # alone: its pipe belongs to the thread that waits for it
        self._threads.shutdown(wait=True)
        for worker in self._workers:
            worker.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, number: int, media: Media, reading: Reading) -> Medium | Failure:
        """Runs in a thread, which only waits.

        Raises Overloaded if there is no room, or no process to be had; Stopping if the worker was killed by `close`.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)  # it may have been cleared away with other temporary files
            with tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as folder:
                path = _written(media, Path(folder))
                worker = self._worker(number)
                worker.send(_ReadTask(path=path, kind=media.kind, reading=reading))
                result: Medium | Failure = worker.receive(reading.timeout_s)
        except OSError as exc:
            raise Overloaded(f"the media cannot be kept for reading: {exc.strerror}; try again later") from exc
        if not worker.alive:
            if self._closed:
                raise Stopping("the server is stopping")
            logger.warning("a decoder is lost: %s", result)
            self._observe_death()
        return result

    def _worker(self, number: int) -> Worker:
        """The worker of this number, made anew if it has died. Raises Stopping if all are about to be killed."""
        with self._replacing:
            if self._closed:
                raise Stopping("the server is stopping")
            if not self._workers[number].process.is_alive():
                self._workers[number] = Worker(self._work)
            return self._workers[number]


def _written(media: Media, folder: Path) -> Path:
    """The media as a file, or as a folder of page images in their order, under names of our own."""
    paths = [folder / f"{number:05d}{file.suffix}" for number, file in enumerate(media.files)]
    for path, file in zip(paths, media.files, strict=True):
        path.write_bytes(file.data)
    return paths[0] if len(paths) == 1 else folder


def _read(memory_bytes: int, task: _ReadTask) -> Medium | Failure:
    """Runs in a worker."""
    _confine(memory_bytes)
    reading = task.reading
    try:
        return documents.read(task.path, task.kind, reading.front_end, reading.start_s, reading.end_s, reading.limits)
    except MediaError as exc:
        return Failure(cause=exc.cause)
    except MemoryError:
        return Failure(cause=f"takes more than the {memory_bytes >> 20} MiB that are allowed")


@functools.cache
def _confine(memory_bytes: int) -> None:
    """Lets this process take so much memory more than it has, leave no core file, and write nothing into our log."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())  # libraries complain of damaged media there
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return  # no Linux: the limits on media are what there is
    limit = pages * os.sysconf("SC_PAGE_SIZE") + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
