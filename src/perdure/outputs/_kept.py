"""Copies of what the outputs of a run held at its checkpoints, kept in the directory of the run.

A script may open its log with "w" before anybody is asked, which empties it. So the bytes that were written are kept a
second time: only those that were appended, up to a quota. A copy only grows. What a checkpoint needs of it is never
changed, so a kill or a full disk leaves at most bytes at its end that no checkpoint needs.

    kept-outputs/00000001     the copy of one file
    kept-outputs/begin.json   what was there when the training began
    kept-outputs/first-written.jsonl    how a file was before the run wrote to it for the first time, if that was later
    kept-outputs/aside/       what was cut off when the run was resumed
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import xxhash

from perdure.errors import DamagedError, StoreError
from perdure.outputs import _disk
from perdure.store import explained, make_directory, read_small, sync, sync_directory, temporary_name

DIRECTORY = "kept-outputs"
_BEGIN = "begin.json"
_NOTES = "first-written.jsonl"
_ASIDE = "aside"
#: How many bytes of what was cut off are kept.
ASIDE_LIMIT = 64 << 20
_BEGIN_LIMIT = 1 << 26


class Kept:
    """The copies of one run.

    :param directory: of the run.
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.join(directory, DIRECTORY)
        self._highest = 0

    def path(self, number: int) -> str:
        """Where a copy lies."""
        return os.path.join(self.directory, f"{number:08d}")

    def numbers(self) -> list[int]:
        """Which copies there are."""
        try:
            return sorted(
                int(name) for name in os.listdir(self.directory) if name.isdigit() and len(name) == 8
            )
        except FileNotFoundError:
            return []

    def new(self) -> int:
        """A number that no copy has had in this process or has now."""
        self._highest = max(self._highest, *self.numbers()[-1:], 0) + 1
        return self._highest

    def reserve(self, numbers: Iterable[int | None]) -> None:
        """Give none of these numbers to a new copy: a checkpoint names them, also where nothing was to be kept yet."""
        self._highest = max(self._highest, *(each or 0 for each in numbers), 0)

    @contextmanager
    def reading(self, number: int) -> Iterator[int]:
        """Open a copy.

        :raises OSError: if it cannot be read.
        :raises Refused: if it is no copy.
        """
        with _disk.opened(self.path(number), os.O_RDONLY) as fd:
            yield fd

    def size(self, number: int) -> int:
        """How many bytes a copy has; 0 if there is none."""
        try:
            return os.lstat(self.path(number)).st_size
        except OSError:
            return 0

    def append(self, number: int, offset: int, content: Iterable[bytes]) -> None:
        """Make a copy hold more, durably. What lies beyond is cut off: no checkpoint needs it.

        :raises StoreError: if it cannot be written. It can be tried again.
        """
        path = self.path(number)
        with self._explained(path):
            if is_new := not os.path.lexists(path):
                make_directory(self.directory)
            with _disk.opened(path, os.O_RDWR | os.O_CREAT) as fd:
                size = os.fstat(fd).st_size
                if size < offset:
                    raise StoreError(
                        f"could not write {path}: it has {size} bytes, expected at least {offset}. Somebody has "
                        "changed it"
                    )
                if size > offset:
                    os.ftruncate(fd, offset)
                for each in content:
                    _disk.write_at(fd, offset, each)
                    offset += len(each)
                sync(fd)
            if is_new:
                sync_directory(self.directory)

    def remove(self, number: int) -> None:
        """Remove a copy that no checkpoint needs."""
        with suppress(OSError):
            os.unlink(self.path(number))

    # -- the beginning ------------------------------------------------------------------------------------------------

    def write_begin(self, text: str) -> None:
        """Note, durably, what was there when the training began."""
        path = os.path.join(self.directory, _BEGIN)
        with self._explained(path):
            make_directory(self.directory)
            temporary = os.path.join(self.directory, temporary_name())
            content = json.dumps({"outputs": text, "checksum": _checksum(text)}).encode()
            try:
                with _disk.opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
                    _disk.write_at(fd, 0, content)
                    sync(fd)
                os.replace(temporary, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
            sync_directory(self.directory)

    def read_begin(self) -> str | None:
        """What was noted of the beginning; None if nothing was.

        :raises DamagedError: if it is damaged.
        """
        path = os.path.join(self.directory, _BEGIN)
        try:
            found = json.loads(read_small(path, _BEGIN_LIMIT))
            text = found["outputs"]
            if not isinstance(text, str) or found["checksum"] != _checksum(text):
                raise ValueError("its checksum is another one")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(
                f"{path} says which output files there were when the run began, and is damaged ({error}). Remove it: "
                "the files are then left as they are"
            ) from error
        return text

    def note(self, text: str) -> None:
        """Note, durably, how a file was before the run wrote to it for the first time."""
        path = os.path.join(self.directory, _NOTES)
        with self._explained(path):
            make_directory(self.directory)
            with _disk.opened(path, os.O_RDWR | os.O_CREAT) as fd:
                size = os.fstat(fd).st_size
                # A line that a killed process has not written to its end is ended here.
                torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
                _disk.write_at(fd, size, b"\n" * torn + text.encode() + b"\n")
                sync(fd)

    def noted(self) -> list[str]:
        """What was noted, from the first to the last."""
        try:
            return read_small(os.path.join(self.directory, _NOTES), _BEGIN_LIMIT).decode().splitlines()
        except (OSError, UnicodeDecodeError):
            return []

    # -- what is cut off ----------------------------------------------------------------------------------------------

    def set_aside(self, source: int, start: int, end: int, name: str, step: int) -> str:
        """Copy a part of a file to where it can be looked at, durably; returns the path of the copy. The oldest such
        copies are removed when they take too much.

        :raises Refused: if it is too large.
        :raises StoreError: if it cannot be written.
        """
        if end - start > ASIDE_LIMIT:
            raise _disk.Refused(
                f"it has {end - start} bytes more than at the checkpoint, and at most {ASIDE_LIMIT} are set aside"
            )
        aside = os.path.join(self.directory, _ASIDE)
        with self._explained(aside):
            make_directory(aside)
            there = sorted(os.listdir(aside))
            number = 1 + max((int(each[:8]) for each in there if each[:8].isdigit()), default=0)
            path = os.path.join(aside, f"{number:08d}-step-{step}-{name[-100:]}")
            sizes = {each: os.lstat(os.path.join(aside, each)).st_size for each in there}
            while there and sum(sizes.values()) + end - start > ASIDE_LIMIT:
                oldest = there.pop(0)
                os.unlink(os.path.join(aside, oldest))
                del sizes[oldest]
            try:
                with _disk.opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
                    _disk.copy(source, start, end, fd, 0)
            except BaseException:
                with suppress(OSError):
                    os.unlink(path)
                raise
            sync_directory(aside)
        return path

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        try:
            with explained("write", path):
                yield
        except (FileExistsError, FileNotFoundError, _disk.Refused) as error:
            if isinstance(error, _disk.Refused) and self.directory not in path:
                raise
            raise StoreError(f"could not write {path}: {error}") from error


def _checksum(text: str) -> str:
    return xxhash.xxh3_128(text.encode()).hexdigest()
