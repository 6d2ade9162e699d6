"""Settings of libraries that hold for a whole process.

A library must not change them behind a program's back, so neither importing nor calling `engine` does. The command
line, each worker and each bench call `prepare` when they start. Other programs may call `prepare` too. Without it the
results are the same, but searching a small collection, or anything on a busy CPU, is slower, and Pillow refuses the
largest scans.
"""

import contextlib
import os

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

MIN_BLAS_SNIPPETS = 2
"""Number of query snippets from which FAISS multiplies matrices instead of comparing snippets one by one. With its
default (128,000 on the machine measured) FAISS compares one by one, which takes twice as long: 1.5 instead of 0.7 ms a
query snippet among 220,000 snippets."""


def cores() -> int:
    """Returns the number of processor cores that this process may use; macOS cannot restrict them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread_each() -> None:
    """Limits numerical libraries that are not imported yet to one thread, unless the environment sets another number.

    We run our own threads. The libraries' threads spin while they wait for each other: with two of them, embedding
    20 s of sound took ten times as long while another program ran.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


def prepare(*, searches: bool = True) -> None:
    """Sets up the numerical and image libraries of this process.

    searches: whether the process may search; imports and configures FAISS.
    """
    one_thread_each()
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # `engine.score.pages` checks its own limit before it decodes
    if searches:
        with contextlib.suppress(ImportError):  # `scorefind doctor` says why FAISS is missing
            import faiss

            faiss.cvar.distance_compute_blas_threshold = MIN_BLAS_SNIPPETS
