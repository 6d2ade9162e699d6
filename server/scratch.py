"""The folder in which media lie while decoders read them."""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from pathlib import Path

from server import sandbox

logger = logging.getLogger(__name__)

PREFIX = "scorefind-decoding-"


class ScratchFolder:
    """A folder of one server, which no other user may enter. A lock, which ends with the process, says it is in use."""

    def __init__(self) -> None:
        """Makes the folder, after it has cleared those of servers that were killed."""
        clear()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self.is_ours():
                break
            os.close(self._lock)  # another server took it for left, and cleared it
        give(self.path)

    def is_ours(self) -> bool:
        """Returns whether the path is still the folder that was made, and not one that somebody else put there."""
        with contextlib.suppress(OSError):
            there, made = os.stat(self.path, follow_symlinks=False), os.fstat(self._lock)
            return (there.st_dev, there.st_ino) == (made.st_dev, made.st_ino)
        return False

    def close(self) -> None:
        """Removes the folder. Only the first call does anything."""
        if self._lock < 0:
            return
        if self.is_ours():
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1


def give(path: Path) -> None:
    """Gives a file or folder to the user as which decoders run, if they run as another one."""
    owner = sandbox.user()
    if owner is not None:
        os.chown(path, *owner)


def clear() -> None:
    """Removes the folders that servers left when they were killed."""
    owners = {os.geteuid(), *(sandbox.user() or ())}
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(lock).st_uid in owners:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
                logger.info("%s: removed, a server has left it", path)
        except OSError:
            pass  # its server is alive
        finally:
            os.close(lock)
