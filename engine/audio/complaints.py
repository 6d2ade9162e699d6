"""Keeps what C libraries write to stderr about damaged files from the terminal."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_OF_MPG123 = re.compile(rb"mpg123|^(Note|Warning): |^\s*$")
_LOCK = threading.RLock()


@contextmanager
def withheld() -> Iterator[None]:
    """Drops what libmpg123 writes to stderr meanwhile. What others write there appears at the end."""
    with _LOCK, suppress(OSError), tempfile.TemporaryFile() as written:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if not _OF_MPG123.search(line):
                    os.write(2, line)
