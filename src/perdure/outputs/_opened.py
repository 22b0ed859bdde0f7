"""Notices which files are opened to append to, also where they are closed again at once.

Python tells of every file before it opens it (an audit hook), so a file that a killed process has written to can be
brought back in time. Knows no runs.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import weakref
from typing import Any, Protocol


class Listener(Protocol):
    """Is told of files."""

    def will_append(self, path: str) -> None:
        """A file is about to be opened for appending."""
        ...


_listeners: weakref.WeakSet[Any] = weakref.WeakSet()
_is_hooked = False
_busy = threading.local()


def listen(listener: Listener) -> None:
    """Tell somebody from now on, as long as it exists."""
    global _is_hooked
    _listeners.add(listener)
    if not _is_hooked:
        _is_hooked = True
        sys.addaudithook(_heard)


def stop(listener: Listener) -> None:
    """Tell it no more."""
    _listeners.discard(listener)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    # Called for every event that Python tells of, so it returns at once from nearly all.
    if event != "open" or not _listeners:
        return
    path, mode, flags = arguments
    if not isinstance(path, str | bytes) or not (
        "a" in mode if isinstance(mode, str) else isinstance(flags, int) and flags & os.O_APPEND
    ):
        return
    if getattr(_busy, "now", False):
        return
    _busy.now = True
    try:
        where = os.path.abspath(os.fsdecode(path))
        if may_be_output(where):
            for listener in list(_listeners):
                listener.will_append(where)
    finally:
        _busy.now = False


#: Directories in which a library keeps its own logs of each process.
_OWN = frozenset(("wandb", "mlruns", ".cache", "__pycache__"))


def may_be_output(path: str) -> bool:
    """Whether a file may be one of the training's: no cache, no temporary file, and none of an installed package's."""
    directory, name = os.path.split(path)
    if directory.startswith((sys.prefix + os.sep, "/dev/", "/proc/", "/sys/")) or directory == "/dev":
        return False
    if not _OWN.isdisjoint(directory.split(os.sep)):
        return False
    return not (name.startswith(tempfile.template) and directory.startswith(tempfile.gettempdir()))
