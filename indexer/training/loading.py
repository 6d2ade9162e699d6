"""Makes values in several processes and yields them in order: batches, which one core makes too slowly for a GPU."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


def in_order(make: Callable[[int], T], numbers: range, processes: int) -> Iterator[T]:
    """Yields make(number) for each number, in order; several processes make the next values while one is used.

    The processes are forked: they share the gigabytes that `make` refers to instead of copying them. `make` may use
    neither CUDA nor a lock. Each process holds one finished value until the caller fetches it. With `processes` 1,
    `make` runs in this process.
    Raises EOFError if a process dies.
    """
    if processes == 1:
        yield from map(make, numbers)
        return
    context = multiprocessing.get_context("fork")
    workers, receivers = [], []
    for first in range(min(processes, len(numbers))):
        receiver, sender = context.Pipe(duplex=False)
        worker = context.Process(target=_send, args=(make, numbers[first::processes], sender), daemon=True)
        worker.start()
        sender.close()  # only the worker's end stays open, so that the worker's death ends `recv` with EOFError
        workers.append(worker)
        receivers.append(receiver)
    try:
        for place in range(len(numbers)):
            yield receivers[place % len(receivers)].recv()
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _send(make: Callable[[int], T], numbers: range, sender: "Connection[T, None]") -> None:
    """Sends make(number) for each number; runs in a worker process."""
    for number in numbers:
        sender.send(make(number))
