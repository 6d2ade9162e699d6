"""Libraries that are measured beside scorefind, confined to the threads that scorefind has: one."""

import contextlib
from collections.abc import Iterator

from threadpoolctl import threadpool_info, threadpool_limits


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Lets BLAS and OpenMP, already loaded or not, compute with one thread in this process, whatever the environment.

    Threads that wait for each other burn processor time: alignment has been 27 to 312 times as fast as a peer by an
    environment variable. Raises RuntimeError if a library keeps several threads.
    """
    with threadpool_limits(1):
        several = [f"{pool['filepath']} has {pool['num_threads']}" for pool in threadpool_info() if _is_several(pool)]
        if several:
            raise RuntimeError(f"expected libraries with one thread each; {', '.join(several)}")
        yield


def _is_several(pool: dict[str, object]) -> bool:
    """Whether a pool of threads, as threadpoolctl describes it, has more than one."""
    return pool["num_threads"] not in (None, 1)
