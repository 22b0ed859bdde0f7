"""Brings one file to where it was at a checkpoint, so that a kill or a full disk at any moment loses nothing.

What was written after the checkpoint is copied, durably, before it is cut off. Nothing is cut off a file that does not
begin as the checkpoint says, unless this process itself has emptied it, or it is a table that its writer itself writes
anew when a column is new: then all of it is set aside, and it gets what the run has kept of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import xxhash

from perdure.errors import StoreError
from perdure.outputs import _disk
from perdure.outputs._kept import Kept
from perdure.outputs._record import Entry
from perdure.outputs._writers import Writer
from perdure.store import explained, make_directory, sync, sync_directory


def bring_back(kept: Kept, writer: Writer, entry: Entry, path: str, step: int) -> list[str]:
    """Bring the file of a writer to what it was, and let the writer go on with it.

    :param path: with which the writer goes on: its own, or that of the run's first process.
    :param step: of the checkpoint.
    :returns: what the user should know.
    :raises Refused: if the file is left as it is.
    :raises StoreError: if something cannot be written. It can be tried again.
    """
    writer.flush()
    own = writer.file
    target = own
    if writer.kind == "events":
        target = os.path.join(path, entry.name)
        if not entry.name.startswith("events.out.tfevents"):
            raise _disk.Refused(f"{entry.name!r} is no name of a file of events")
    elif path != writer.path:
        target = path
    with _explained(target):
        if target != own and not os.path.lexists(target):
            if not _is_kept(kept, entry):
                # It was removed, or this job writes elsewhere.
                raise _disk.Refused("it is not there any more, and the run has kept no copy of it")
            if os.path.dirname(target) != os.path.dirname(own):
                make_directory(os.path.dirname(target))
        said = _restore(kept, writer, entry, target, step, is_own=target == own)
        if target != own:
            writer.move(path, target)
            _remove_own(kept, own, step)
            if os.path.dirname(own) != os.path.dirname(target):
                said.append(f"{os.path.dirname(target)}: going on there, not in {os.path.dirname(own)}")
        writer.go_on()
        writer.set_state(entry.state)
    return said


def prepend(kept: Kept, writer: Writer, entry: Entry) -> None:
    """Put what a file held at the checkpoint before what this process wrote after it had emptied it.

    :raises Refused: if the run has kept no copy.
    :raises StoreError: if it cannot be written.
    """
    if not _is_kept(kept, entry):
        raise _disk.Refused("it was emptied when it was opened again, and the run has kept no copy of it")
    assert entry.kept is not None
    with _explained(writer.file):
        writer.flush()
        with (
            _disk.opened(writer.file, os.O_RDWR, writer.descriptor()) as fd,
            kept.reading(entry.kept) as copy,
        ):
            new = list(_disk.pieces(fd, 0, os.fstat(fd).st_size))
            at = entry.length
            # From the end on, so that a kill in between leaves all that the next process needs: the copy.
            for piece in new:
                _disk.write_at(fd, at, piece)
                at += len(piece)
            _disk.copy(copy, 0, entry.length, fd, 0)
        writer.go_on()
        writer.set_state(entry.state)


def _is_kept(kept: Kept, entry: Entry, fd: int | None = None) -> bool:
    """Whether a file can be made of the run's copy of it.

    :param fd: of the file, which still has to have what it held before the copy begins.
    """
    if entry.kept is None or (entry.start and fd is None):
        return False
    try:
        with kept.reading(entry.kept) as copy:
            found = xxhash.xxh3_128() if fd is None else _disk.digest_of(fd, entry.start)
            for piece in _disk.pieces(copy, 0, entry.length - entry.start):
                found.update(piece)
            return found.hexdigest() == entry.digest
    except (OSError, _disk.Refused):
        return False


def _restore(kept: Kept, writer: Writer, entry: Entry, path: str, step: int, *, is_own: bool) -> list[str]:
    flags = os.O_RDWR | (0 if is_own else os.O_CREAT)
    with _disk.opened(path, flags, writer.descriptor() if is_own else None) as fd:
        size = os.fstat(fd).st_size
        if size >= entry.length and _disk.digest_of(fd, entry.length).hexdigest() == entry.digest:
            return _cut(kept, fd, path, size, entry.length, step)
        if not _is_kept(kept, entry, fd):
            why = (
                "and the run has kept no copy of it"
                if entry.kept is None
                else "and the run's copy of it is damaged"
            )
            if entry.start:
                why = "and the run has kept only what it appended"
            raise _disk.Refused(f"it does not begin as it did at step {step}, {why}")
        assert entry.kept is not None
        with kept.reading(entry.kept) as copy:
            start = entry.start
            if start <= size <= entry.length and _disk.same(fd, copy, start, size - start):
                _disk.copy(copy, size - start, entry.length - start, fd, size)
                return []
            if not ((is_own and writer.truncates) or "keys" in writer.state()):
                raise _disk.Refused(
                    f"it does not begin as it did at step {step}: something else has written to it. What the run had "
                    f"written lies in {kept.path(entry.kept)}"
                )
            kept.set_aside(fd, 0, size, os.path.basename(path), step)
            _disk.copy(copy, 0, entry.length - start, fd, start)
            os.ftruncate(fd, entry.length)
            sync(fd)
    return []


def _cut(kept: Kept, fd: int, path: str, size: int, length: int, step: int) -> list[str]:
    if size == length:
        return []
    kept.set_aside(fd, length, size, os.path.basename(path), step)
    os.ftruncate(fd, length)
    sync(fd)
    return []


def _remove_own(kept: Kept, path: str, step: int) -> None:
    """Remove the file that a writer began in this process, and its directory if nothing else is in there."""
    with suppress(_disk.Refused, FileNotFoundError):
        with _disk.opened(path, os.O_RDONLY) as fd:
            if size := os.fstat(fd).st_size:
                kept.set_aside(fd, 0, size, os.path.basename(path), step)
        os.unlink(path)
        sync_directory(os.path.dirname(path))
        with suppress(OSError):
            os.rmdir(os.path.dirname(path))


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        with explained("bring back", path):
            yield
    except (FileExistsError, FileNotFoundError) as error:
        raise StoreError(f"could not bring back {path}: {error}") from error


def digest_now(writer: Writer, length: int) -> tuple[xxhash.xxh3_128, bytes]:
    """The checksum of the beginning of a writer's file, and its last bytes."""
    with _disk.opened(writer.file, os.O_RDONLY, writer.descriptor()) as fd:
        start = max(0, length - (1 << 16))
        return _disk.digest_of(fd, length), b"".join(_disk.pieces(fd, start, length))
