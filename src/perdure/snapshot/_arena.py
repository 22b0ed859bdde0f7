"""Memory to copy into while the training waits. Knows bytes only."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

from perdure.snapshot import _cuda

Octets: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

#: Where elements of whatever type may begin.
ALIGNED = 64
_LEAST = 1 << 20
_NONE: Octets = np.empty(0, np.uint8)


class Arena:
    """Memory that is taken piece by piece, and used again each time: new memory costs ten times as much to fill."""

    def __init__(self) -> None:
        self._memory: Octets = _NONE
        self._at = 0
        #: How many bytes were taken the last two times; nothing of the first time.
        self._uses: list[int] = []
        self._first = True
        #: How many bytes were taken.
        self.used = 0

    def begin(self) -> None:
        """Begin again: all that was taken before may be written over."""
        self._at = self.used = 0

    def take(self, nbytes: int) -> Octets:
        """The next piece; an element of any type may begin there."""
        self._at += -self._at % ALIGNED
        if self._at + nbytes > self._memory.nbytes:
            # What was taken from the old memory keeps it alive.
            self._memory, self._at = _mapped(max(nbytes, _LEAST)), 0
        piece = self._memory[self._at : self._at + nbytes]
        self._at += nbytes
        self.used += nbytes + ALIGNED
        return piece

    def prepare(self, *, pin: bool) -> None:
        """Have in one piece what was needed both of the last two times. The first time of all takes much more than the
        others.

        :param pin: whether devices are to write into it.
        """
        self._uses = [] if self._first else [*self._uses[-1:], self.used]
        self._first = False
        room = min(self._uses, default=0)
        room += room // 8 + _LEAST
        if not room / 2 <= self._memory.nbytes <= 2 * room:
            # Given back before there is more, or there would be twice as much for a moment.
            self._memory = _NONE
            self._memory = _cuda.pinned(room) if pin else _mapped(room)
            # Touched once, so that no page has to be found while the training waits the next time.
            self._memory[::4096] = 0


def _mapped(nbytes: int) -> Octets:
    """New memory, from the system itself: an allocator would keep it when it is not needed any more."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):  # pages of 2 MB, where the system has them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
