"""Whose a run is: the process that opened it, and in it the `Run` that opened its directory last.

A forked child has a copy of everything, also of the run; so it asks here before it does anything with it. A cell of a
notebook that is run again opens a directory that the same process holds already; then the new run takes it over. Knows
no files but the directory's path.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

from perdure.errors import LockedError, StoreError


class Held(Protocol):
    """A run that holds its directory."""

    ownership: Ownership

    def give_way(self) -> None:
        """Write what was begun, and let go of the directory."""


#: The runs of this process, by the real path of their directory.
_open: weakref.WeakValueDictionary[str, Held] = weakref.WeakValueDictionary()
_all: weakref.WeakSet[Ownership] = weakref.WeakSet()


class Ownership:
    """Says whether the run may still be used here.

    :param shown: the directory, as messages call it.
    """

    def __init__(self, shown: str) -> None:
        self.shown = shown
        #: Whether this is a copy in a forked child.
        self.is_copy = False
        #: Why the run cannot be used any more; None if it can.
        self.ended: str | None = None
        self._process = os.getpid()
        #: The thread that used the run last.
        self._thread = threading.current_thread()
        _all.add(self)

    def check(self) -> None:
        """Every call that trains on, saves or publishes begins with this.

        :raises StoreError: if this is a forked child, or the run was closed or taken over.
        """
        if self.is_copy:
            raise StoreError(
                f"the run was opened by process {self._process}; this is a child of it (process {os.getpid()}), which "
                "must not write to the run. Let the parent do it, or open a run of its own in the child, in another "
                "directory"
            )
        if self.ended is not None:
            raise StoreError(self.ended)
        self._thread = threading.current_thread()

    @property
    def used_elsewhere(self) -> bool:
        """Whether another thread, which is still alive, used the run last."""
        return self._thread is not threading.current_thread() and self._thread.is_alive()


def claim(run: Held, directory: str) -> None:
    """Take a directory over from the run of this process that holds it, if there is one.

    :raises LockedError: if another thread is using that run.
    """
    key = os.path.realpath(directory)
    before = _open.get(key)
    if before is not None and before.ownership.ended is None:
        if before.ownership.used_elsewhere:
            raise LockedError(
                f"{directory} is being written by another thread of this process ({before.ownership._thread.name}). "
                "One run has one writer: wait for that thread, or use another directory"
            )
        before.give_way()
        shown = before.ownership.shown
        before.ownership.ended = (
            f"{shown} was opened anew in this process, so this run has ended: use the new one"
        )
    _open[key] = run


def _after_fork() -> None:
    _open.clear()
    for each in list(_all):
        each.is_copy = True


os.register_at_fork(after_in_child=_after_fork)
