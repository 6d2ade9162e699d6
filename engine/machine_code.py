"""Kernels compiled by numba, whose machine code stays on disk for later processes.

The files lie in the user's cache (`~/.cache/scorefind`, `~/Library/Caches/scorefind` on macOS, or where XDG_CACHE_HOME
says), or where NUMBA_CACHE_DIR says. By default numba would put them beside the modules. There they outlive the
package, because pip does not know of them: the folder that is left hides an editable installation of the package.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def kept(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns a decorator: numba compiles the function at its first call, and keeps its machine code on disk.

    If nothing can be written to the user's cache, numba looks for another place, as it does by default.

    Arguments of the function must not be instances of our classes. numba's index of the cache names the types of the
    arguments, and becomes unreadable once one of these classes is renamed.

    options: those of `numba.njit`.
    """

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        settings: Any = numba.config
        before = settings.CACHE_DIR
        settings.CACHE_DIR = before or _folder()  # numba chooses the place while it decorates
        try:
            compiled: Callable[..., Any] = numba.njit(cache=True, **options)(function)
        finally:
            settings.CACHE_DIR = before
        return compiled

    return decorated


def _folder() -> str:
    """Returns the folder of scorefind in the user's cache; an empty text for a user without a home."""
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return os.path.join(chosen, "scorefind")
    try:
        home = Path.home()
    except RuntimeError:
        return ""
    return str(home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "scorefind")
