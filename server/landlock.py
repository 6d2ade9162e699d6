"""Landlock: the Linux kernel's limits on which files and ports a process can open, by its system calls."""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on all architectures. The C library has no functions for them."""
_ASK_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_REMOVE_FILE, _MAKE_FILE, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of rights on files that each version of the interface knows, where it knows more than the one before."""
_BIND_AND_CONNECT = 0b11
_SIGNALS_AND_ABSTRACT_SOCKETS = 0b11

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Returns the version of the kernel's interface; 0 if there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)))


def restrict(*, read: Iterable[Path], work: Path) -> None:
    """Lets this thread, and all that it starts, only read and execute below some paths, and open no ports.

    It cannot be undone. The process must have given up new privileges. Paths that do not exist are left out.

    work: folder in which files may be made and written, too. Raises OSError if the kernel refuses.
    """
    known = version()
    files = (1 << max(rights for since, rights in _RIGHTS.items() if since <= known)) - 1
    attributes = struct.pack("=Q", files)
    if known >= 4:
        attributes += struct.pack("=Q", _BIND_AND_CONNECT)
    if known >= 6:
        attributes += struct.pack("=Q", _SIGNALS_AND_ABSTRACT_SOCKETS)
    rules = _called(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for path in read:
            _allow(rules, path, _EXECUTE | _READ_FILE | _READ_DIR)
        _allow(rules, Path(os.devnull), _READ_FILE | _WRITE)
        made = _REMOVE_FILE | _MAKE_FILE | (_TRUNCATE if known >= 3 else 0)
        _allow(rules, work, _READ_FILE | _READ_DIR | _WRITE | made)
        _called(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    """Adds a rule for a path and, if it is a folder, all below it. Listing is no right on a file."""
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        _called(
            _ADD_RULE,
            rules,
            _PATH_BENEATH,
            struct.pack("=Qi", rights if path.is_dir() else rights & ~_READ_DIR, opened),
            0,
        )
    finally:
        os.close(opened)


def _called(number: int, *arguments: object) -> int:
    """Returns the result of a system call. Raises OSError."""
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
