"""The memory that arrays are copied to while the training waits. Knows only bytes."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

from perdure.snapshot import _cuda

Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

#: Pieces begin at multiples of this, so that elements of any type may begin there.
ALIGNED = 64
_LEAST = 1 << 20
_NONE: Bytes = np.empty(0, np.uint8)


class Arena:
    """Memory that is taken piece by piece and reused for each checkpoint: to fill new memory takes ten times longer."""

    def __init__(self) -> None:
        self._memory: Bytes = _NONE
        self._at = 0
        #: How many bytes the last two checkpoints took, not counting the first checkpoint of all.
        self._uses: list[int] = []
        self._first = True
        #: How many bytes were taken since `begin`.
        self.used = 0

    def begin(self) -> None:
        """Start over: pieces that were taken before may be overwritten."""
        self._at = self.used = 0

    def take(self, nbytes: int) -> Bytes:
        """The next piece, aligned for elements of any type."""
        self._at += -self._at % ALIGNED
        if self._at + nbytes > self._memory.nbytes:
            # Pieces of the old memory keep it alive.
            self._memory, self._at = _mapped(max(nbytes, _LEAST)), 0
        piece = self._memory[self._at : self._at + nbytes]
        self._at += nbytes
        self.used += nbytes + ALIGNED
        return piece

    def prepare(self, *, pin: bool) -> None:
        """Get ready for the next checkpoint: one memory as large as the smaller of the last two uses.

        The first checkpoint does not count: it copies everything.

        :param pin: whether accelerators write into it.
        """
        self._uses = [] if self._first else [*self._uses[-1:], self.used]
        self._first = False
        room = min(self._uses, default=0)
        room += room // 8 + _LEAST
        if not room / 2 <= self._memory.nbytes <= 2 * room:
            # First the old one is given back, or there would be two for a moment.
            self._memory = _NONE
            self._memory = _cuda.pinned(room) if pin else _mapped(room)
            # Each page is touched once, so that the system does not have to find it while the training waits.
            self._memory[::4096] = 0


def _mapped(nbytes: int) -> Bytes:
    """New memory, from the system itself: an allocator would keep it when it is no longer needed."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):  # pages of 2 MB, where the system has them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)
