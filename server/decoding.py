"""Reads media from clients in worker processes with limits on time and memory, because a file may be hostile."""

import asyncio
import contextlib
import functools
import logging
import math
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from engine import media as facsimiles
from engine import process, template
from engine.config import FrontEnd, MediaLimits
from engine.embedding import documents
from engine.embedding.documents import Medium
from engine.errors import MediaError
from engine.score import compile_kernels
from engine.template import Template
from engine.values import Kind
from engine.workers import ONE_THREAD, Failure, Worker
from server import sandbox
from server.browsing import Looks
from server.decoded import CODEC, Decoded
from server.errors import MediaRefused, Overloaded, Stopping
from server.fields import MAX_QUOTED
from server.scratch import ScratchFolder, give
from server.sent import Media
from server.turns import Places

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Settings for reading a medium: front end, limits, and the part of a recording."""

    front_end: FrontEnd
    limits: MediaLimits
    timeout_s: float
    urgent: bool = True
    """Whether somebody waits for an answer: false for additions."""
    start_s: float | None = None
    end_s: float | None = None
    kept_bytes: int = 0
    """Size of the pictures or the sound that are made for the collection to keep, at most; 0: none are made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Settings for drawing a page: which, and the limits on the file."""

    looks: Looks
    limits: MediaLimits
    timeout_s: float
    urgent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadTask:
    """A file for a worker to read, or to draw a page of."""

    path: Path
    kind: Kind
    work: Reading | Drawing


class Decoders:
    """A pool of worker processes, each of which reads one medium at a time. A worker that dies is replaced."""

    def __init__(self, count: int, *, memory_bytes: int, observe_death: Callable[[], None] = lambda: None) -> None:
        """Starts `count` workers, in threads.

        memory_bytes: memory that reading one medium may take.
        observe_death: is called for each worker that dies or has to be killed.
        """
        self._work = functools.partial(_done, memory_bytes)
        self._observe_death = observe_death
        self._scratch = ScratchFolder()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder")
        self._template = Template(_load, ONE_THREAD) if template.available() else None
        self._workers: list[Worker | None] = [None] * count
        """The worker of each number; None until it has started."""
        self._places = Places(count)
        self._replacing = threading.Lock()
        self._closed = False
        self._threads.submit(self._start_all)

    async def read(self, media: Media, reading: Reading, client: object = None) -> Medium:
        """Returns media as they are read. See `decode`."""
        decoded = await self.decode(media, reading, client)
        assert decoded.medium is not None
        return decoded.medium

    async def decode(self, media: Media, work: Reading | Drawing, client: object = None) -> Decoded:
        """Reads media, or draws a page, in the next free worker, when it is the client's turn; queries go first.

        Raises MediaRefused if the media cannot be read, or need too much memory or time; Overloaded if the machine
        has no room for another file or process; Stopping after `close`.

        If the caller is cancelled, the worker still finishes its task, at the latest when the time limit is over.
        """
        number = await self._places.take(client, urgent=work.urgent)
        if self._closed:
            self._places.give_back(number, urgent=work.urgent)
            raise Stopping("the server is stopping")
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._run, number, media, work)
        running.add_done_callback(lambda _: self._places.give_back(number, urgent=work.urgent))
        result = await asyncio.shield(running)
        if isinstance(result, Failure):
            raise MediaRefused(f"{media.files[0].name[:MAX_QUOTED]}: {result.cause}")
        return result

    @property
    def alive(self) -> int:
        """Number of workers that are alive or starting; a dead one is replaced when its turn to read comes."""
        return sum(worker is None or worker.process.is_alive() for worker in list(self._workers))

    async def close(self) -> None:
        """Kills the workers, even those at work, and removes the files they were reading."""
        self._closed = True
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        """Does the work of `close`, in a thread."""
        with self._replacing:
            started = [worker for worker in self._workers if worker is not None]
            for worker in started:
                worker.kill()  # not `end`: the pipe belongs to the thread that waits for the worker
        self._threads.shutdown(wait=True)
        for worker in started:
            worker.end()
        if self._template is not None:
            self._template.close()
        self._scratch.close()

    def _start_all(self) -> None:
        """Starts the workers, which takes a second or two, in a thread."""
        with contextlib.suppress(Stopping, OSError):  # the next file that is read tells
            for number in range(len(self._workers)):
                self._worker(number)

    def _run(self, number: int, media: Media, work: Reading | Drawing) -> Decoded | Failure:
        """Gives the media to a worker and waits for its result, in a thread.

        Raises Overloaded if the file cannot be written or no process can be started; Stopping if `close` has killed
        the worker.
        """
        try:
            worker = self._worker(number)
            with tempfile.TemporaryDirectory(dir=self._folder(number), ignore_cleanup_errors=True) as folder:
                path = _written(media, Path(folder))
                worker.send(_ReadTask(path=path, kind=media.kind, work=work))
                result: Decoded | Failure = worker.receive(work.timeout_s)
        except OSError as exc:
            raise Overloaded(f"the media cannot be stored for reading: {exc.strerror}; try again later") from exc
        if not worker.alive:
            if self._closed:
                raise Stopping("the server is stopping")
            logger.warning("a decoder is lost: %s", result)
            self._observe_death()
        return result

    def _worker(self, number: int) -> Worker:
        """Returns the worker of this number, a new one if it has died. Raises Stopping after `close`."""
        with self._replacing:
            if self._closed:
                raise Stopping("the server is stopping")
            if not self._scratch.is_ours():  # a cleaner of temporary files may have removed it
                self._scratch.close()
                self._scratch = ScratchFolder()
            worker = self._workers[number]
            if worker is None or not worker.process.is_alive() or not self._folder(number).is_dir():
                if worker is not None:
                    worker.end()
                self._workers[number] = worker = self._started(number)
            return worker

    def _folder(self, number: int) -> Path:
        """Returns the folder that the worker of this number, and no other, can enter."""
        return self._scratch.path / str(number)

    def _started(self, number: int) -> Worker:
        """Starts a worker, which is confined to a folder of its own."""
        folder = self._folder(number)
        folder.mkdir(mode=0o700, exist_ok=True)
        give(folder)
        if self._template is None:
            compile_kernels()  # a confined worker may not write the machine code
        enter = functools.partial(sandbox.enter, folder)
        return Worker(self._work, enter=enter, codec=CODEC, template=self._template)


def _load() -> None:
    """Loads what reading a file needs, in the template of the workers."""
    process.prepare(searches=False)
    compile_kernels()


def _written(media: Media, folder: Path) -> Path:
    """Writes the media below `folder`, under names of our own; returns the file, or the folder of several pages."""
    paths = [folder / f"{number:05d}{file.suffix}" for number, file in enumerate(media.files)]
    give(folder)
    for path, file in zip(paths, media.files, strict=True):
        path.write_bytes(file.data)
        give(path)
    return paths[0] if len(paths) == 1 else folder


def _done(memory_bytes: int, task: _ReadTask) -> Decoded | Failure:
    """Reads a file, or draws a page of it; runs in a worker."""
    limit_memory(memory_bytes)
    _limit_time(task.work.timeout_s)
    try:
        return _drawn(task.path, task.work) if isinstance(task.work, Drawing) else _read(task, task.work)
    except MediaError as exc:
        return Failure(cause=exc.cause)
    except MemoryError:
        return Failure(cause=f"takes more than the {memory_bytes >> 20} MiB that are allowed")


def _read(task: _ReadTask, reading: Reading) -> Decoded | Failure:
    medium = documents.read(task.path, task.kind, reading.front_end, reading.start_s, reading.end_s, reading.limits)
    kept = facsimiles.of_file(task.path, task.kind, reading.limits) if reading.kept_bytes else {}
    if sum(map(len, kept.values())) > reading.kept_bytes:
        return Failure(cause=f"takes more than the {reading.kept_bytes >> 20} MiB that may be kept of one document")
    return Decoded(medium=medium, kept=kept)


def _drawn(path: Path, drawing: Drawing) -> Decoded:
    looks = drawing.looks
    picture = facsimiles.page_picture(path, looks.page, turn=looks.turn, width=looks.width, limits=drawing.limits)
    return Decoded(picture=picture)


@functools.cache
def limit_memory(memory_bytes: int) -> None:
    """Limits this process to so much more memory than it has now, and keeps it from our log."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())  # where libraries complain about damaged media
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return  # not Linux: only the limits on media hold
    limit = pages * os.sysconf("SC_PAGE_SIZE") + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_time(timeout_s: float) -> None:
    """Limits the processor time of this process to what one file may take, should nobody kill it in time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until, most = math.ceil(used.ru_utime + used.ru_stime + timeout_s) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (until if most == resource.RLIM_INFINITY else min(until, most), most))
