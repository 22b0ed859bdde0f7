"""Memory to copy into while the training waits. Knows bytes only."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from perdure import devices

Octets: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"

#: Where elements of whatever type may begin.
ALIGNED = 64
_LEAST = 1 << 20


class Arena:
    """Memory that is taken piece by piece, and used again each time: new memory costs ten times as much to fill."""

    def __init__(self) -> None:
        self._memory: Octets = np.empty(0, np.uint8)
        self._at = 0
        self._used_before = 0
        #: How many bytes were taken.
        self.used = 0

    def begin(self) -> None:
        """Begin again: all that was taken before may be written over."""
        self._used_before, self._at, self.used = self.used, 0, 0

    def take(self, nbytes: int) -> Octets:
        """The next piece; an element of any type may begin there."""
        self._at += -self._at % ALIGNED
        if self._at + nbytes > self._memory.nbytes:
            # What was taken from the old memory keeps it alive.
            self._memory, self._at = np.empty(max(nbytes, _LEAST), np.uint8), 0
        piece = self._memory[self._at : self._at + nbytes]
        self._at += nbytes
        self.used += nbytes + ALIGNED
        return piece

    def prepare(self, *, pin: bool) -> None:
        """Have in one piece what was needed the last two times: the first checkpoint of a run takes much more than
        all others."""
        room = min(self.used, self._used_before)
        room += room // 8 + _LEAST
        if not room / 2 <= self._memory.nbytes <= 2 * room:
            self._memory = devices.pinned(room) if pin else np.empty(room, np.uint8)
            # Touched once, so that no page has to be found while the training waits the next time.
            self._memory[::4096] = 0
