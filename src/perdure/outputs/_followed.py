"""One file that a run follows: how far it was looked at, its checksum so far, and what of it is still to be kept."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import xxhash

from perdure.outputs import _disk

#: A file up to this size is compared as a whole with what it was, a larger one at its end.
_COMPARED = 1 << 20
_TAIL = 1 << 16


@dataclass
class Followed:
    """A file, as it was looked at last.

    :param kept: the number of the run's copy of it; None if there is none.
    :param start: from which byte on there is a copy.
    """

    kept: int | None
    start: int
    length: int = 0
    digest: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)
    #: The last bytes that were looked at.
    tail: bytes = b""
    #: What is appended to the copy with the next checkpoint, from the byte `durable` of the file on.
    pending: list[bytes] = field(default_factory=list)
    durable: int = 0
    #: The copy of which another one is made before anything is appended: newer checkpoints need what it has beyond.
    forked_from: int | None = None
    #: How often the file was found to be another one than it was.
    rewritten: int = 0
    #: Size and time of change when it was looked at last.
    seen: tuple[int, int, int] | None = None

    def look(self, fd: int, most: int) -> bool:
        """Take in what was appended; returns False if the file is not a continuation of what it was.

        :param most: how many bytes there is room for in the copy; beyond that none is kept.
        """
        found = os.fstat(fd)
        now = (found.st_ino, found.st_size, found.st_mtime_ns)
        if now == self.seen:
            return True
        if found.st_size < self.length or not self._begins_as_it_did(fd):
            return False
        for piece in _disk.pieces(fd, self.length, found.st_size):
            self.digest.update(piece)
            self.tail = (self.tail + piece)[-_TAIL:]
            if self.kept is not None:
                self.pending.append(piece)
                most -= len(piece)
                if most < 0:
                    self.give_up()
            self.length += len(piece)
        self.seen = now
        return True

    def _begins_as_it_did(self, fd: int) -> bool:
        if self.length <= _COMPARED:
            return _disk.digest_of(fd, self.length).digest() == self.digest.digest()
        start = self.length - len(self.tail)
        return b"".join(_disk.pieces(fd, start, self.length)) == self.tail

    def give_up(self) -> None:
        """Keep no copy any more."""
        self.kept = self.forked_from = None
        self.pending.clear()
