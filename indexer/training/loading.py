"""Values made by several processes and handed over in order: batches, where one core makes them too slowly."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")


def in_order(make: Callable[[int], T], numbers: range, processes: int) -> Iterator[T]:
    """make(number) for each number; with more than one process, each is made while those before it are used.

    The processes are forked, so that they share what `make` refers to instead of getting gigabytes of it each; it may
    touch neither CUDA nor a lock. A process waits with its value until it is fetched. Raises EOFError if one dies.
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
        sender.close()  # the worker's end alone stays open, so that its death is seen
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
    for number in numbers:
        sender.send(make(number))
