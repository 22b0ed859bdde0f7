"""What a peer is: something that saves a training, so that it can be measured like every other."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.worlds import Workload

#: What a peer gives back from `prepare_load`: to be called on the clock. It returns the observations it loaded.
Load = Callable[[], np.ndarray]


class Peer(ABC):
    """One way to save a training. Made for one workload; every save goes into a directory of its own.

    :param workload: what is saved, again and again, each time a little further on.
    :param directory: where. It exists and is empty.
    :raises ImportError: if the library is not installed.
    """

    name: ClassVar[str]
    #: Whether each save writes everything.
    whole: ClassVar[bool] = True
    #: Whether it goes on writing after `save` has returned.
    background: ClassVar[bool] = False
    #: Whether what it writes is smaller than what it is given.
    compresses: ClassVar[bool] = False
    #: Whether it can load what it saved.
    loads: ClassVar[bool] = True

    def __init__(self, workload: Workload, directory: Path) -> None:
        self.workload = workload
        self.directory = directory
        self.saves = 0

    @property
    def at(self) -> Path:
        """Where the current save goes."""
        return self.directory / f"{self.saves:06d}"

    def tick(self) -> object:
        """Off the clock, while the training goes on: what a callback would do."""
        return None

    def next(self) -> None:
        """Off the clock, before each save: make a place for it."""
        self.saves += 1
        self.at.mkdir(parents=True)

    def forget(self) -> None:
        """Off the clock, once it is measured: give the disk back."""
        remove(self.at)

    def advance(self) -> None:
        """Train on by as much as lies between two saves, alone."""
        self.workload.advance(self.workload.rows, self.tick)

    @abstractmethod
    def save(self) -> None:
        """Save the training as it is now. Until this returns, the training stands still."""

    def wait(self) -> None:
        """Until what was saved survives a power cut."""
        sync(self.directory)

    def prepare_load(self) -> Load:
        """Off the clock: build what a fresh script has built before it loads."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the peer holds, and its files."""
        remove(self.directory)


def remove(path: Path) -> None:
    """A directory with all that is in it."""
    shutil.rmtree(path, ignore_errors=True)


def files(directory: Path) -> dict[Path, tuple[int, int]]:
    """All files below a directory: which file each is, and its bytes."""
    found = {}
    for root, _, names in os.walk(directory):
        for name in names:
            path = Path(root) / name
            try:
                facts = path.stat()
            except FileNotFoundError:  # a background writer is at work
                continue
            found[path] = facts.st_ino, facts.st_size
    return found


def written(before: dict[Path, tuple[int, int]], after: dict[Path, tuple[int, int]]) -> int:
    """Bytes of the files that are new, and by how much the others grew."""
    total = 0
    for path, (inode, size) in after.items():
        old_inode, old_size = before.get(path, (-1, 0))
        total += max(0, size - old_size) if inode == old_inode else size
    return total


def sync(directory: Path) -> None:
    """Do what most peers leave to the user: fsync of every file, then of the directories."""
    for root, _, names in os.walk(directory, topdown=False):
        for name in [*names, "."]:
            descriptor = os.open(os.path.join(root, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def warm(directory: Path) -> None:
    """Read every file once, so that it lies in the page cache."""
    block = bytearray(1 << 22)
    for path in files(directory):
        with open(path, "rb", buffering=0) as file:
            while file.readinto(block):
                pass


def flat(array: Any) -> np.ndarray:
    """The observations of any library, in one shape: rows of one dimension each."""
    found = np.asarray(array)
    return found.reshape(len(found), -1)
