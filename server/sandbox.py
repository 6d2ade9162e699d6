"""The confinement of processes that read hostile files: what they can still open, start and use up.

`enter` does what the kernel and the user's rights allow, in this order, and `in_force` says what that is.
"""

import contextlib
import ctypes
import functools
import os
import pwd
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import engine
from engine.workers import Failure, Worker
from server import landlock

USER = "nobody"
"""The user as which a server that was started as root reads files."""
MAX_PROCESSES = 512
"""Processes and threads of all decoders together: ffmpeg starts a thread for each core."""
MAX_WRITTEN_BYTES = 1 << 20
"""Size of a file that a decoder may write: the messages of ffmpeg."""
_NO_NEW_PRIVILEGES = 38
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
_CAPABILITIES_VERSION = 0x20080522
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/opt", "/nix/store", "/proc", "/sys/devices/system"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/dev/urandom", "/dev/zero"),
)
"""Paths that programs and libraries read. They hold nothing of the server's user."""

_libc = ctypes.CDLL(None, use_errno=True)
_entered: dict[str, str] = {}
"""What `enter` did in this process."""


def user() -> tuple[int, int] | None:
    """Returns the user and the group as which files are read; None: those of the server.

    A server that was not started as root cannot change its user. One whose Python lies where others may not look,
    such as below /root, would not find its own modules.
    """
    if os.geteuid() != 0 or not all(_open_to_all(path) for path in _own_paths()):
        return None
    try:
        found = pwd.getpwnam(USER)
    except KeyError:
        return None
    return found.pw_uid, found.pw_gid


def enter(folder: Path) -> None:
    """Confines this process, before it starts threads or reads a hostile file.

    folder: holds the files to read; others may be made there.
    """
    steps: dict[str, Callable[[], str]] = {
        "network": _leave_network,
        "user": _change_user,
        "no new privileges": _renounce_privileges,
        "files": functools.partial(_confine_files, folder),
        "limits": _limit,
    }
    for name, step in steps.items():
        try:
            _entered[name] = step()
        except (OSError, AttributeError) as exc:  # AttributeError: not Linux
            _entered[name] = f"not confined: {exc}"


def in_force(folder: Path) -> dict[str, str]:
    """Returns what confines a decoder on this machine, in words. folder: any folder."""
    worker = Worker(_told, enter=functools.partial(enter, folder))
    try:
        worker.send(None)
        told: dict[str, str] | Failure = worker.receive(60.0)
    finally:
        worker.end()
    return {"error": told.cause} if isinstance(told, Failure) else told


def _told(_: None) -> dict[str, str]:
    return _entered


def _leave_network() -> str:
    """Moves this process into a network of its own, which has no devices."""
    own_user = 0 if os.geteuid() == 0 else _NEW_USER
    _called(_libc.unshare, _NEW_NETWORK | own_user)
    if own_user:
        header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
        _called(_libc.capset, header, none)  # the namespace of one's own gives all capabilities in it
    return "a network of its own, without devices"


def _change_user() -> str:
    """Becomes another user, if this process is root's."""
    found = user()
    if found is None:
        why = "it is not root" if os.geteuid() else "the files of Python or scorefind are closed to other users"
        return f"the server's own, because {why}"
    uid, gid = found
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    return USER


def _renounce_privileges() -> str:
    _called(_libc.prctl, _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return "programs with another user's rights give none"


def _confine_files(folder: Path) -> str:
    known = landlock.version()
    if known == 0:
        return "not confined: this kernel has no Landlock"
    programs = [Path(found).parent for found in [shutil.which("ffmpeg")] if found]
    read = [*_own_paths(), *map(Path, _SYSTEM), *programs, *(path.resolve() for path in programs)]
    landlock.restrict(read=read, work=folder)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)  # the messages of ffmpeg go into a file
    return f"reads only what was sent, and programs; writes only there (Landlock {known})"


def _limit() -> str:
    """Limits what this process can use up. Time and memory are limited for each file."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, MAX_WRITTEN_BYTES)
    limits = "no core files, files of 1 MiB, memory and processor time for each file"
    if (os.geteuid() != 0 and _entered["network"].startswith("a network")) or _entered["user"] == USER:
        # Otherwise the limit would count all processes of the server's user.
        _lower(resource.RLIMIT_NPROC, MAX_PROCESSES)
        return f"{limits}, {MAX_PROCESSES} processes"
    return limits


def _lower(limit: int, value: int) -> None:
    """Lowers a limit for good, unless it is lower already."""
    most = resource.getrlimit(limit)[1]
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(limit, (value, value))


def _own_paths() -> list[Path]:
    """Returns where Python, the installed packages and scorefind's modules lie."""
    root = Path(engine.__file__).parent.parent
    packages = [Path(path) for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    prefixes = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    return [*prefixes, *packages, root / "engine", root / "server"]


def _open_to_all(path: Path) -> bool:
    """Returns whether any user may look into a folder."""
    with contextlib.suppress(OSError):
        path = path.resolve()
        return path.stat().st_mode & 0o005 == 0o005 and all(part.stat().st_mode & 0o001 for part in path.parents)
    return False


def _called(function: Callable[..., int], *arguments: object) -> None:
    """Calls a function of the C library. Raises OSError."""
    if function(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
