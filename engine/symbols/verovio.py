"""Scores in symbols -> page images, or what is played, by Verovio in a process of its own."""

import json
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import PageError
from engine.symbols.layout import Layout
from engine.symbols.notation import Notation

CPU_S = 300
"""Processor time for a score. A symphony of 200 pages takes a minute."""
MEMORY_BYTES = 4 << 30
"""Memory for a score."""
_LAYOUT = Layout()
"""Pages of A4."""
MAX_FRAME_BYTES = 64 << 20
"""Size of a page or of a MIDI file that the process may send."""


def page_count_and_pages(notation: Notation, max_pages: int) -> Generator[tuple[int, NDArray[np.uint8]], None, None]:
    """Yields the number of all pages with each page image in order, uint8 (h, w), white 255.

    max_pages: a score with more pages is refused before one is drawn.
    Raises PageError if Verovio cannot read the score, or there are too many pages.
    """
    with closing(_frames(notation, {"wanted": "pages", "max_pages": max_pages})) as frames:
        count = int(_header(notation, next(frames))["pages"])
        if count > max_pages:
            raise PageError(notation.path, f"more than {max_pages} pages, the largest number accepted")
        for _ in range(count):
            image = cv2.imdecode(np.frombuffer(next(frames), np.uint8), cv2.IMREAD_GRAYSCALE)
            yield count, np.asarray(image, np.uint8)


def midi(notation: Notation) -> bytes:
    """Returns a MIDI file of what a score sounds like, with its repeats and tempos, transposed parts as they sound.

    Raises PageError if Verovio cannot read the score.
    """
    with closing(_frames(notation, {"wanted": "midi"})) as frames:
        _header(notation, next(frames))
        return next(frames)


def _header(notation: Notation, frame: bytes) -> dict[str, Any]:
    """Returns what the process says of a score. Raises PageError if it says that it cannot read it."""
    header: dict[str, Any] = json.loads(frame)
    if "fault" in header:
        raise PageError(notation.path, str(header["fault"]))
    return header


def _frames(notation: Notation, job: dict[str, Any]) -> Generator[bytes, None, None]:
    """Yields what a process sends of a score. Closing the iterator ends the process.

    Raises PageError if the process dies.
    """
    # A system of more staves than the page has room for is drawn smaller; otherwise it would lose its last staves.
    options = _LAYOUT.options() | {"inputFrom": notation.format, "mdivAll": True, "shrinkToFit": True}
    job |= {"options": options, "width_px": _LAYOUT.width_px, "seconds": CPU_S, "memory_bytes": MEMORY_BYTES}
    with _process() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(job).encode() + b"\n" + notation.text.encode("utf-8", "replace"))
        while (frame := _frame(process.stdout)) is not None:
            yield frame
        raise PageError(notation.path, f"Verovio, which engraves it, {_ending(process.wait())}")


@contextmanager
def _process() -> Iterator["subprocess.Popen[bytes]"]:
    """Starts a process, and kills it at the end."""
    # -P: the folder of the program holds modules with the names of the packages that it imports.
    command = [sys.executable, "-P", str(Path(__file__).with_name("verovio_process.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def _frame(pipe: IO[bytes]) -> bytes | None:
    """Returns the next frame; None if the pipe ends before, or the frame is too large."""
    size = pipe.read(4)
    length = int.from_bytes(size, "big")
    if len(size) < 4 or length > MAX_FRAME_BYTES:
        return None
    data = pipe.read(length)
    return data if len(data) == length else None


def _ending(code: int) -> str:
    """Returns how the process ended, in words."""
    if code == -signal.SIGXCPU:
        return f"took longer than {CPU_S} s of processor time"
    if code < 0:
        return f"died of it ({signal.Signals(-code).name})"
    return f"failed with it (exit code {code})"
