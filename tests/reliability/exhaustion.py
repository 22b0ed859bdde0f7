"""Checks every state that a power cut may leave, including those of which `simulated_disk.states` takes samples.

The states after one operation are a product of two things: which changes of names are kept, and what each unsynced file
contains (its old content, its new content, cut off, or any subset of its sectors). The names are gone through one by
one. The contents are far too many for that: a pack of 32 sectors has four billion. But recovery reads almost none of
them, because an unsynced file usually has no name yet. This is observed, not assumed:

    While a state is checked, inotify reports which files recovery opened, and patched functions of `os` report which
    files it asked about (`stat`, `scandir`). A file that was neither opened nor asked about cannot have had any
    influence, so one state stands for all that differ only in such files. If only its size was asked about, one content
    of each size is checked. If it was opened, each of its contents is checked, combined with those of the other opened
    files.

So a few states are created and recovered from, and how many states of the model they stand for is known exactly. Where
there are still too many, the rest is sampled, and the samples are counted.

This works on Linux, for a recovery that is deterministic.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import random
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from simulated_disk import SECTOR, Bounds, Record, State, _Disk, digest, materialize, variants_of

#: So many combinations of contents that were read are gone through for one set of names; more are sampled, and counted.
MOST_COMBINATIONS = 1 << 14
#: With more operations on names that were not synced than that, those that are kept are sampled.
MOST_PENDING = 16
_MOST_SECTORS = 12

Check = Callable[[State, Path], None]


@dataclass
class Tally:
    """What was gone through.

    :param states: possible states, over all operations and all choices of what was kept.
    :param checked: distinguishable states that were created and recovered from.
    :param sampled: states that were only sampled, because too many contents were read.
    """

    operations: int = 0
    states: int = 0
    checked: int = 0
    sampled: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.operations + other.operations,
            self.states + other.states,
            self.checked + other.checked,
            self.sampled + other.sampled,
        )

    def __str__(self) -> str:
        states = f"{self.states:,}" if self.states < 10**12 else f"{self.states:.1e}"
        left = f", of {self.sampled:,} only a sample" if self.sampled else ", none left out"
        return f"{self.operations} operations, {states} states, {self.checked:,} distinguishable on recovery{left}"


@dataclass(frozen=True)
class Looked:
    """The paths of the files that recovery opened, and of those that it asked about."""

    opened: frozenset[str]
    asked: frozenset[str]


@dataclass
class Found:
    """What was checked before, and what was looked at; by the state's digest and what had been announced."""

    looked: dict[tuple[bytes, tuple[int, ...]], Looked] = field(default_factory=dict)


def explore_all(
    record: Record, check: Check, place: Path, found: Found | None = None, *, since: int = 0
) -> Tally:
    """Check every state that a crash during what was recorded may leave.

    :param check: raises unless the state, made in the given directory, is as it must be.
    :param place: an empty directory for that.
    :param found: what was checked before; it is added to.
    :param since: only crashes after so many operations.
    """
    found = Found() if found is None else found
    tally = Tally(operations=len(record.operations))
    disk = _Disk(record)
    for after in range(len(record.operations) + 1):
        if after >= since:
            _explore_crash(disk, after, check, place, found, tally)
        if after < len(record.operations):
            disk.do(record.operations[after])
    return tally


def _explore_crash(disk: _Disk, after: int, check: Check, place: Path, found: Found, tally: Tally) -> None:
    done: set[tuple[tuple[str, int], ...]] = set()
    for kept in _subsets(disk, after, tally):
        names = {inode: dict(entries) for inode, entries in disk.names.items()}
        for index in kept:
            disk._apply(names, disk.pending[index])
        # What is below a directory that has no name is not there, whatever became of it.
        there = _there(disk, names)
        paths: dict[int, list[str]] = {}
        for path, inode in there:
            if inode not in disk.record.folders and inode not in disk.record.links:
                paths.setdefault(inode, []).append(path)
        uncertain = [
            inode for inode in sorted(paths) if disk.content.get(inode, b"") != disk.files.get(inode, b"")
        ]
        tally.states += math.prod(
            _count(disk.files.get(inode, b""), disk.content[inode]) for inode in uncertain
        )
        if there in done:
            continue
        done.add(there)
        dropped = [f"not: {each.what}" for index, each in enumerate(disk.pending) if index not in kept]
        what = disk.record.operations[after - 1].what if after else "nothing"
        story = f"after operation {after} ({what}): " + "; ".join(dropped or ["every name is there"])
        _Contents(disk, after, names, paths, uncertain, story, check, place, found, tally).explore({})


def _subsets(disk: _Disk, after: int, tally: Tally) -> Iterator[tuple[int, ...]]:
    """Which of the operations on names are kept: every choice in which those on one name keep their order."""
    earlier: list[set[int]] = []
    for index, each in enumerate(disk.pending):
        here = {(directory, name) for directory, name, _ in each.changes}
        earlier.append(
            {
                before
                for before in range(index)
                if here & {(directory, name) for directory, name, _ in disk.pending[before].changes}
            }
        )

    def chosen(index: int, so_far: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if index == len(disk.pending):
            yield so_far
            return
        if earlier[index].issubset(so_far):
            yield from chosen(index + 1, (*so_far, index))
        yield from chosen(index + 1, so_far)

    if len(disk.pending) <= MOST_PENDING:
        yield from chosen(0, ())
        return
    tally.sampled += 1 << len(disk.pending)
    yield from disk._subsets(Bounds(product=1 << MOST_PENDING, apart=2, samples=200), random.Random(after))


def _there(disk: _Disk, names: dict[int, dict[str, int]]) -> tuple[tuple[str, int], ...]:
    """Every name that leads anywhere, as a path, and where it leads."""
    found: list[tuple[str, int]] = []
    waiting = [(disk.record.root, "")]
    while waiting:
        directory, path = waiting.pop()
        for name, inode in names.get(directory, {}).items():
            found.append((path + name, inode))
            if inode in disk.record.folders:
                waiting.append((inode, f"{path}{name}/"))
    return tuple(sorted(found))


def _count(durable: bytes, now: bytes) -> int:
    """How many contents a file may have; see rule 4 of simulated_disk."""
    old = durable.ljust(len(now), b"\0")[: len(now)]
    changed = [at for at in range(0, len(now), SECTOR) if now[at : at + SECTOR] != old[at : at + SECTOR]]
    if len(changed) <= _MOST_SECTORS:
        return len(variants_of(durable, now, _MOST_SECTORS))
    # All subsets of the sectors, cut off after each, and something else in one.
    return 2 ** len(changed) + 3 * len(changed)


@dataclass
class _Contents:
    """The contents that the files may have after one crash, with one choice of names."""

    disk: _Disk
    after: int
    names: dict[int, dict[str, int]]
    paths: dict[int, list[str]]
    uncertain: list[int]
    story: str
    check: Check
    place: Path
    found: Found
    tally: Tally

    def __post_init__(self) -> None:
        self._variants: dict[int, list[tuple[str, bytes]]] = {}

    def explore(self, known: dict[int, int | bytes]) -> None:
        """Check all states in which the files have these contents, or contents of these sizes; the others any."""
        chosen = {inode: self._first(inode, known.get(inode)) for inode in self.uncertain}
        looked = self._look(chosen)
        more: dict[int, list[Any]] = {}
        for inode in self.uncertain:
            so_far = known.get(inode)
            if isinstance(so_far, bytes):
                continue
            if any(path in looked.opened for path in self.paths[inode]):
                more[inode] = [content for _, content in self._of(inode) if so_far in (None, len(content))]
            elif so_far is None and any(path in looked.asked for path in self.paths[inode]):
                more[inode] = sorted({len(content) for _, content in self._of(inode)})
        if not more:
            return
        counts = {
            inode: _count(self.disk.files.get(inode, b""), self.disk.content[inode])
            if isinstance(values[0], bytes)
            else len(values)
            for inode, values in more.items()
        }
        if math.prod(counts.values()) > MOST_COMBINATIONS:
            self.tally.sampled += math.prod(counts.values())
            more = {inode: values[:3] for inode, values in more.items()}
        for values in itertools.product(*more.values()):
            # What was just checked is one of them, and is not checked again.
            self.explore({**known, **dict(zip(more, values, strict=True))})

    def _of(self, inode: int) -> list[tuple[str, bytes]]:
        if inode not in self._variants:
            durable, now = self.disk.files.get(inode, b""), self.disk.content[inode]
            self._variants[inode] = variants_of(durable, now, _MOST_SECTORS)
        return self._variants[inode]

    def _first(self, inode: int, known: Any) -> bytes:
        if isinstance(known, bytes):
            return known
        if known is None:
            return self.disk.content[inode]
        return next(content for _, content in self._of(inode) if len(content) == known)

    def _look(self, contents: dict[int, bytes]) -> Looked:
        tree = self.disk._tree(self.names, contents, self.disk.record.root)
        key = (digest(tree), tuple(self.disk.marks))
        if key not in self.found.looked:
            words = [
                f"{self.paths[inode][0]} {word}"
                for inode, content in contents.items()
                for word, each in self._of(inode)
                if each == content and each != self.disk.content[inode]
            ]
            state = State(tree, self.after, tuple(self.disk.marks), "; ".join([self.story, *words]))
            self.tally.checked += 1
            target = self.place / str(self.tally.checked)
            materialize(tree, str(target))
            with looking(target) as looks:
                self.check(state, target)
            shutil.rmtree(target)
            self.found.looked[key] = looks()
        return self.found.looked[key]


# -- what is looked at ------------------------------------------------------------------------------------------------

_IN_OPEN, _IN_NONBLOCK = 0x20, 0o4000
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def looking(root: Path) -> Iterator[Callable[[], Looked]]:
    """Which of the files that are in a directory now are looked at in this block."""
    inodes: dict[int, str] = {}
    watched: dict[int, str] = {}
    asked: set[str] = set()
    opened: set[str] = set()
    events = _libc.inotify_init1(_IN_NONBLOCK)
    if events < 0:
        raise OSError(ctypes.get_errno(), "no inotify")
    for here, _, files in os.walk(root):
        for name in files:
            path = os.path.join(here, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                shown = os.path.relpath(path, root)
                inodes[status.st_ino] = shown
                watch = _libc.inotify_add_watch(events, os.fsencode(path), _IN_OPEN)
                if watch < 0:
                    raise OSError(ctypes.get_errno(), "cannot watch", path)
                watched[watch] = shown

    def saw(status: os.stat_result) -> os.stat_result:
        if status.st_ino in inodes:
            asked.add(inodes[status.st_ino])
        return status

    real_stat, real_lstat, real_scandir = os.stat, os.lstat, os.scandir
    try:
        with (
            mock.patch("os.stat", lambda *args, **more: saw(real_stat(*args, **more))),
            mock.patch("os.lstat", lambda *args, **more: saw(real_lstat(*args, **more))),
            mock.patch("os.scandir", lambda *args: _Scan(real_scandir(*args), saw)),
        ):
            yield lambda: Looked(frozenset(opened), frozenset(asked))
        while True:
            try:
                content = os.read(events, 1 << 16)
            except BlockingIOError:
                break
            at = 0
            while at < len(content):
                watch, mask, _, length = _EVENT.unpack_from(content, at)
                at += _EVENT.size + length
                if watch < 0:
                    raise RuntimeError("more was looked at than the system keeps note of")
                if mask & _IN_OPEN:
                    opened.add(watched[watch])
    finally:
        os.close(events)


class _Scan:
    """What `os.scandir` gives, with notes of what is asked about."""

    def __init__(self, found: Any, saw: Callable[[os.stat_result], os.stat_result]) -> None:
        self._found, self._saw = found, saw

    def __iter__(self) -> Iterator[_Entry]:
        return self

    def __next__(self) -> _Entry:
        return _Entry(next(self._found), self._saw)

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *error: object) -> None:
        self._found.close()

    def close(self) -> None:
        self._found.close()


class _Entry:
    def __init__(self, entry: Any, saw: Callable[[os.stat_result], os.stat_result]) -> None:
        self._entry, self._saw = entry, saw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

    def __fspath__(self) -> str:
        return os.fspath(self._entry)

    def stat(self, **more: Any) -> os.stat_result:
        return self._saw(self._entry.stat(**more))
