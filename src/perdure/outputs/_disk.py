"""Reads, extends and cuts files of which nothing may be lost. Knows paths and bytes, and no runs.

Only a regular file with one name is changed, and it is opened without following a link in its last part.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import xxhash

from perdure.store import sync

#: How much is read at once.
PIECE = 1 << 20


class Refused(Exception):
    """A file is left as it is; the text says why."""


@contextmanager
def opened(path: str, flags: int, like: int | None = None) -> Iterator[int]:
    """Open a regular file that has one name.

    :param like: a descriptor of the file that this must be; None if any will do.
    :raises Refused: if it is something else.
    :raises OSError: if it cannot be opened.
    """
    try:
        # Waiting for the other end of a pipe would stop the training.
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused("it is a symbolic link") from None
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Refused("it is not a regular file")
        if found.st_nlink != 1:
            raise Refused(
                f"the file has {found.st_nlink} names (hard links), and the others would change with it"
            )
        if like is not None:
            other = os.fstat(like)
            if (found.st_dev, found.st_ino) != (other.st_dev, other.st_ino):
                raise Refused("another file has its name now")
        yield fd
    finally:
        os.close(fd)


def pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file from `start` to `end`, or to where it ends."""
    while start < end:
        piece = os.pread(fd, min(PIECE, end - start), start)
        if not piece:
            return
        yield piece
        start += len(piece)


def digest_of(fd: int, length: int) -> xxhash.xxh3_128:
    """The checksum of the first `length` bytes."""
    found = xxhash.xxh3_128()
    for piece in pieces(fd, 0, length):
        found.update(piece)
    return found


def write_at(fd: int, offset: int, content: bytes) -> None:
    """Write all of `content` at a place of a file."""
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def copy(source: int, start: int, end: int, target: int, at: int) -> None:
    """Copy a part of a file to a place of another one, durably."""
    for piece in pieces(source, start, end):
        write_at(target, at, piece)
        at += len(piece)
    sync(target)


def same(first: int, second: int, start: int, length: int) -> bool:
    """Whether a file has from `start` on the `length` bytes with which another one begins."""
    both = zip(pieces(first, start, start + length), pieces(second, 0, length), strict=False)
    return all(a == b for a, b in both)
