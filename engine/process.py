"""What libraries keep as one switch for a whole process.

Such a switch is for the program to set, so importing `engine` or calling into it sets none: the command line, a worker
and a bench call `prepare` when they begin. Other programs may call it too. Without it results are the same, but a busy
CPU embeds slower, small collections are searched slower, and Pillow refuses the largest scans.
"""

import contextlib
import os

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

BLAS_SNIPPETS = 2
"""FAISS multiplies matrices from so many query snippets on. Its own default, 128,000 here, means that it compares one
by one, which takes twice as long: 1.5 instead of 0.7 ms a snippet among 220,000."""


def one_thread_each() -> None:
    """Has numerical libraries that are not imported yet use one thread, unless the environment says otherwise.

    Work is shared among threads of our own. Threads of these libraries wait for each other by spinning: with two of
    them, 20 s of sound took ten times as long to embed while another program ran.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")


def prepare(*, searches: bool = True, embeds: bool = False) -> None:
    """Sets the switches of this process.

    searches: whether it may use FAISS, which is imported then.
    embeds: whether it runs a network by torch, which is imported then, and gets one thread (see `one_thread_each`).
    """
    one_thread_each()
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # `engine.score.pages` has a limit of its own, and looks at it before any decoding
    if searches:
        with contextlib.suppress(ImportError):  # `scorefind doctor` says why it is missing
            import faiss

            faiss.cvar.distance_compute_blas_threshold = BLAS_SNIPPETS
    if embeds:
        import torch

        torch.set_num_threads(1)
