"""A disk that may forget: what a program did to a directory, and every state in which a power cut may leave it.

`record(directory)` follows a program that really works in `directory`, and keeps what it did as a list of operations.
`states(record)` gives, for a crash after each of them, the states that the disk may then be in. It knows nothing of
runs and checkpoints.

How operations are seen
    The functions of `os` that change something are wrapped; before and after each call the directory is compared with
    what is known of it. So it does not matter how a program writes: what goes past `os` (`open`, `torch.save`,
    `sendfile`) is seen before the next call. Each difference becomes an operation:

    - `Write`: a file's content changed, including its length.
    - `Names`: what one call did to names: create, mkdir, symlink and link add one, unlink and rmdir remove one, rename
      and replace do both, in one step.
    - `Sync`: fsync of a file or of a directory.
    - `Mark`: the program said how far it is ("checkpoint 3 is committed").

What a disk promises: the model
    1. After fsync of a file, its content at that time is durable. Its name is not.
    2. After fsync of a directory, all that was done to names in it is durable. What its files hold is not.
    3. What was done by one call (a rename) is durable as a whole or not at all, also if it is about two directories,
       one of which was synced.
    4. All else is uncertain. What was done to names and not synced is kept or dropped, each operation for itself,
       whatever came before or after it: only operations on one and the same name keep their order. Content not
       synced is independent of the names, of the content of other files, and comes in these variants: as it was at the
       last fsync (of a new file: empty), as it is; cut off at the boundary of any sector and one byte before the end;
       with the new length but some of the sectors not written (zeros in a new file, what was there before in an old
       one: every subset while few changed; otherwise each alone written, each alone missing, all missing); with
       something else in a sector (what was there before the file was).
    5. A sector (512 bytes) is written whole or not at all, or holds something else, as in 4. What is durable does not
       change by itself: that is damage, not a crash.

    This is more than ext4, xfs and btrfs do to a program. Their journals keep operations on names in order, so rule
    4 gives states that they never leave; a file system that kept only what POSIX says might. It is less than what a
    disk does that lies about having written (a volatile cache without flush), or that tears sectors.

How many
    The states after one operation are the product of what is uncertain. Up to `Bounds.product` of them all are given.
    Beyond that: all in which at most `Bounds.apart` items differ from "everything kept" or from "everything dropped",
    and `Bounds.samples` others, drawn with a seed that depends on nothing but the operation's number; exhaustion.py
    leaves none out. Equal states are
    given once.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

SECTOR = 512

#: What changes something, or may. A call that changes nothing costs time and nothing else.
CHANGING = (
    *("open", "write", "writev", "pwrite", "pwritev", "sendfile", "copy_file_range", "truncate", "ftruncate"),
    *("posix_fallocate", "link", "unlink", "remove", "rename", "replace", "mkdir", "rmdir", "symlink"),
    *("fsync", "fdatasync"),
)
_SYNCS = ("fsync", "fdatasync")


@dataclass(frozen=True)
class Write:
    """The content of a file is `content` from here on."""

    inode: int
    content: bytes
    what: str


@dataclass(frozen=True)
class Names:
    """Names in directories lead to other inodes from here on, or (None) nowhere."""

    changes: tuple[tuple[int, str, int | None], ...]
    what: str


@dataclass(frozen=True)
class Sync:
    """What was done to a file or a directory until here is durable."""

    inode: int
    what: str


@dataclass(frozen=True)
class Mark:
    """The program has come this far; None: nothing at all, in the place of an operation left out."""

    value: int | None
    what: str = "mark"


Operation = Write | Names | Sync | Mark


@dataclass
class Record:
    """What was on the disk before, durably; and what was done since."""

    root: int
    directories: dict[int, dict[str, int]]
    files: dict[int, bytes]
    links: dict[int, str]
    operations: list[Operation] = field(default_factory=list)
    #: Which inodes are directories, also of those made since; and where links lead, which is never changed.
    folders: set[int] = field(default_factory=set)

    def without(self, index: int) -> Record:
        """As if the program had left out operation `index`; for a sync, which changes nothing that it sees."""
        assert isinstance(self.operations[index], Sync)
        kept = [*self.operations[:index], Mark(None), *self.operations[index + 1 :]]
        return replace(self, operations=kept)

    def is_made_up_for(self, index: int) -> bool:
        """Whether, without the sync `index`, all would be durable at the next mark that is durable with it."""
        disks = [_Disk(self), _Disk(self.without(index))]
        for at, operation in enumerate(self.operations):
            for disk in disks:
                disk.do(disk.record.operations[at])
            if at > index and isinstance(operation, Mark):
                break
        return disks[0].names == disks[1].names and disks[0].files == disks[1].files

    def syncs(self) -> dict[int, bool]:
        """Which operations made something durable that was not so before, and whether it was more than that names are
        gone.
        """
        found = {}
        disk = _Disk(self)
        for index, operation in enumerate(self.operations):
            if isinstance(operation, Sync) and (effect := disk.effect(operation)):
                found[index] = any(child is not None for _, _, child in effect)
            disk.do(operation)
        return found


# -- recording --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The program was stopped where it was: every further change it tries raises this."""


class Recorder:
    """Follows what this process does to a directory; made by `record`."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        #: After so many operations the program is stopped wherever it tries another: a process that was killed there
        #: does no cleaning up either.
        self.stop_after: int | None = None
        self._mutex = threading.RLock()
        # Open, so that the system does not give the number of an inode that is gone to a new one.
        self._held: dict[int, int] = {}
        self._seen = self._look()
        self.record = Record(os.stat(self.root).st_ino, *self._seen, folders=set(self._seen[0]))

    @property
    def count(self) -> int:
        return len(self.record.operations)

    def mark(self, value: int) -> None:
        """The program has come to `value`."""
        with self._mutex:
            self._compare("past os")
            self.record.operations.append(Mark(value))

    def call(self, name: str, real: Callable[..., Any], args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        with self._mutex:
            if name == "open" and not _flags(*args, **more) & (os.O_CREAT | os.O_TRUNC):
                return real(*args, **more)
            self._compare("past os")
            if self.stop_after is not None and self.count >= self.stop_after:
                raise Killed
            synced = None
            if name in _SYNCS:
                fd = args[0] if isinstance(args[0], int) else args[0].fileno()
                status = os.fstat(fd)
                synced = status.st_ino, self._path_of(fd), stat.S_ISREG(status.st_mode)
            result = real(*args, **more)
            paths = [self._shown(arg) for arg in args if isinstance(arg, str | os.PathLike)]
            self._compare(" ".join([name, *paths]))
            if synced is not None:
                inode, shown, is_file = synced
                if is_file and inode not in self._seen[1]:
                    # It has no name yet, or none any longer.
                    content = Path(f"/proc/self/fd/{fd}").read_bytes()
                    self.record.operations.append(Write(inode, content, f"content of {shown}"))
                if is_file or inode in self._seen[0]:
                    self.record.operations.append(Sync(inode, f"{name} {shown}"))
            return result

    def close(self) -> None:
        for fd in self._held.values():
            os.close(fd)

    def _compare(self, what: str) -> None:
        directories, files, links = self._look()
        before = self._seen
        for inode, content in files.items():
            if before[1].get(inode, b"") != content:
                self.record.operations.append(Write(inode, content, f"{what}: content"))
        changes: list[tuple[int, str, int | None]] = []
        for inode in {**before[0], **directories}:
            # A directory that is gone was emptied before; by what, can be seen when it still had a name.
            if inode not in directories:
                continue
            old, new = before[0].get(inode, {}), directories[inode]
            changes += [(inode, name, None) for name in old if name not in new]
            changes += [(inode, name, child) for name, child in new.items() if old.get(name) != child]
        if changes:
            grouped = [changes] if what != "past os" else [[change] for change in changes]
            self.record.operations += [Names(tuple(group), what) for group in grouped]
        self.record.links.update(links)
        self.record.folders.update(directories)
        self._seen = directories, files, links

    def _look(self) -> tuple[dict[int, dict[str, int]], dict[int, bytes], dict[int, str]]:
        directories: dict[int, dict[str, int]] = {}
        files: dict[int, bytes] = {}
        links: dict[int, str] = {}
        waiting = [self.root]
        while waiting:
            here = waiting.pop()
            names: dict[str, int] = {}
            with os.scandir(here) as found:
                for item in found:
                    inode = names[item.name] = item.inode()
                    if inode not in self._held:
                        self._held[inode] = _open(item.path, os.O_PATH | os.O_NOFOLLOW)
                    if item.is_symlink():
                        links[inode] = os.readlink(item.path)
                    elif item.is_dir():
                        waiting.append(item.path)
                    elif inode not in files:
                        files[inode] = Path(item.path).read_bytes()
            directories[os.stat(here).st_ino] = names
        return directories, files, links

    def _path_of(self, fd: int) -> str:
        return self._shown(os.readlink(f"/proc/self/fd/{fd}"))

    def _shown(self, path: Any) -> str:
        path = os.fspath(path)
        return os.path.relpath(path, self.root) if os.path.isabs(path) else path


_open = os.open


def _flags(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    return flags


@contextmanager
def record(root: str | os.PathLike[str]) -> Iterator[Recorder]:
    """Record what is done to the directory `root` in this block, by any thread of this process."""
    recorder = Recorder(root)
    real = {name: getattr(os, name) for name in CHANGING if hasattr(os, name)}

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            return recorder.call(name, real[name], args, more)

        return call

    for name in real:
        setattr(os, name, wrapped(name))
    try:
        yield recorder
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        with recorder._mutex:
            recorder._compare("past os")
        recorder.close()


# -- what a crash leaves ----------------------------------------------------------------------------------------------

#: What is on a disk: the content of a file, the target of a link, or what a directory holds.
Tree = dict[str, "bytes | str | Tree"]


@dataclass(frozen=True)
class Bounds:
    """How much of what is possible is given; see the module."""

    product: int = 64
    apart: int = 1
    samples: int = 8
    subsets: int = 2


@dataclass(frozen=True)
class State:
    """A state in which a crash may leave the disk.

    :param after: how many operations were done.
    :param marks: how far the program had come.
    :param story: in words: after what, and what became of all that was uncertain.
    """

    tree: Tree
    after: int
    marks: tuple[int, ...]
    story: str

    @property
    def digest(self) -> bytes:
        """Equal for equal trees."""
        return digest(self.tree)


class _Disk:
    """What is durable, and what is not."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.names = {inode: dict(entries) for inode, entries in record.directories.items()}
        self.files = dict(record.files)
        self.content = dict(record.files)
        self.pending: list[Names] = []
        self.marks: list[int] = []

    def do(self, operation: Operation) -> None:
        if isinstance(operation, Write):
            self.content[operation.inode] = operation.content
        elif isinstance(operation, Names):
            self.pending.append(operation)
        elif isinstance(operation, Mark):
            if operation.value is not None:
                self.marks.append(operation.value)
        elif operation.inode not in self.record.folders:
            self.files[operation.inode] = self.content.get(operation.inode, b"")
        else:
            durable = self._closed(
                [index for index, each in enumerate(self.pending) if operation.inode in _directories(each)]
            )
            for index in durable:
                self._apply(self.names, self.pending[index])
            self.pending = [each for index, each in enumerate(self.pending) if index not in durable]

    def effect(self, sync: Sync) -> list[tuple[int, str, int | None]]:
        """What the sync makes durable: names and where they lead; of a file, itself."""
        if sync.inode not in self.record.folders:
            changed = self.content.get(sync.inode, b"") != self.files.get(sync.inode, b"")
            return [(0, "", sync.inode)] if changed else []
        return [
            change
            for each in self.pending
            if sync.inode in _directories(each)
            for change in each.changes
            if change[0] == sync.inode
        ]

    def states(self, after: int, bounds: Bounds) -> Iterator[State]:
        draw = random.Random(after)
        done = self.record.operations[after - 1].what if after else "nothing"
        for kept in self._subsets(bounds, draw):
            names = {inode: dict(entries) for inode, entries in self.names.items()}
            for index in kept:
                self._apply(names, self.pending[index])
            reachable = self._reachable(names)
            uncertain = [
                inode
                for inode in sorted(reachable)
                if self.content.get(inode, b"") != self.files.get(inode, b"")
            ]
            variants = [
                variants_of(self.files.get(inode, b""), self.content[inode], bounds.subsets)
                for inode in uncertain
            ]
            for choice in _choices([len(each) for each in variants], bounds, draw):
                contents = {inode: variants[i][choice[i]][1] for i, inode in enumerate(uncertain)}
                lost = [
                    f"{reachable[inode]} {variants[i][choice[i]][0]}" for i, inode in enumerate(uncertain)
                ]
                dropped = [
                    f"not: {each.what}" for index, each in enumerate(self.pending) if index not in kept
                ]
                yield State(
                    self._tree(names, contents, self.record.root),
                    after,
                    tuple(self.marks),
                    f"after operation {after} ({done}): "
                    + "; ".join([*dropped, *lost] or ["everything is there"]),
                )

    def _closed(self, indices: Sequence[int]) -> list[int]:
        """With what was done to the same names before."""
        wanted = set(indices)
        touched: set[tuple[int, str]] = set()
        for index in reversed(range(len(self.pending))):
            here = {(directory, name) for directory, name, _ in self.pending[index].changes}
            if index in wanted or here & touched:
                wanted.add(index)
                touched |= here
        return sorted(wanted)

    def _subsets(self, bounds: Bounds, draw: random.Random) -> list[tuple[int, ...]]:
        """Which of the operations on names are kept."""
        choices = _choices([2] * len(self.pending), bounds, draw)
        closed = [self._closed([index for index, kept in enumerate(choice) if kept]) for choice in choices]
        return list(dict.fromkeys(map(tuple, closed)))

    def _apply(self, names: dict[int, dict[str, int]], operation: Names) -> None:
        for directory, name, child in operation.changes:
            entries = names.setdefault(directory, {})
            if child is None:
                entries.pop(name, None)
            else:
                entries[name] = child

    def _reachable(self, names: dict[int, dict[str, int]]) -> dict[int, str]:
        found: dict[int, str] = {}
        waiting = [(self.record.root, "")]
        while waiting:
            inode, path = waiting.pop()
            for name, child in names.get(inode, {}).items():
                if child in self.record.folders:
                    waiting.append((child, f"{path}{name}/"))
                elif child not in self.record.links:
                    found.setdefault(child, path + name)
        return found

    def _tree(self, names: dict[int, dict[str, int]], contents: dict[int, bytes], inode: int) -> Tree:
        tree: Tree = {}
        for name, child in sorted(names.get(inode, {}).items()):
            if child in self.record.folders:
                tree[name] = self._tree(names, contents, child)
            elif child in self.record.links:
                tree[name] = self.record.links[child]
            else:
                tree[name] = contents.get(child, self.files.get(child, b""))
        return tree


def states(record: Record, bounds: Bounds, *, since: int = 0) -> Iterator[State]:
    """Every state that a crash during what was recorded may leave, each once for what had been announced.

    :param since: only crashes after so many operations.
    """
    disk = _Disk(record)
    given: set[tuple[bytes, tuple[int, ...]]] = set()
    for after in range(len(record.operations) + 1):
        if after >= since:
            for state in disk.states(after, bounds):
                if (key := (state.digest, state.marks)) not in given:
                    given.add(key)
                    yield state
        if after < len(record.operations):
            disk.do(record.operations[after])


def variants_of(durable: bytes, now: bytes, subsets: int) -> list[tuple[str, bytes]]:
    """What a file may hold of which `durable` was synced, and which is `now`; with words for it, as it is first."""
    found = {now: "as it is", durable: "as it was synced" if durable else "empty"}
    old = durable.ljust(len(now), b"\0")[: len(now)]
    sectors = range(0, len(now), SECTOR)
    changed = [at for at in sectors if now[at : at + SECTOR] != old[at : at + SECTOR]]

    def mixed(written: Sequence[int]) -> bytes:
        parts = [(now if at in written else old)[at : at + SECTOR] for at in sectors]
        return b"".join(parts)

    cuts = sorted({0, *changed, *changed[1:2], len(now) // 2, max(0, len(now) - 1)})
    if len(cuts) > 2 + subsets:
        cuts = [*cuts[: max(1, subsets // 2)], *cuts[-1 - subsets // 2 :]]
    for cut in cuts:
        found.setdefault(now[:cut] + durable[cut:], f"cut off at byte {cut}")
    if len(changed) <= subsets:
        written = [set(each) for n in range(len(changed)) for each in itertools.combinations(changed, n)]
    else:
        alone = (
            [changed[0], changed[len(changed) // 2], changed[-1]] if subsets < len(changed) // 2 else changed
        )
        written = [set(), *({at} for at in alone), *(set(changed) - {at} for at in alone)]
    for each in written:
        found.setdefault(mixed(sorted(each)), f"with only the sectors {sorted(each)} written")
    for at in changed[:1] + changed[1:][-1:]:
        other = bytes(byte ^ 0xA5 for byte in now[at : at + SECTOR])
        found.setdefault(now[:at] + other + now[at + SECTOR :], f"with something else at byte {at}")
    return [(words, content) for content, words in found.items()]


def materialize(tree: Tree, target: str) -> None:
    """Make `target`, a directory that is new or empty, hold `tree`."""
    os.makedirs(target, exist_ok=True)
    for name, item in tree.items():
        path = os.path.join(target, name)
        if isinstance(item, bytes):
            with open(path, "wb") as file:
                file.write(item)
        elif isinstance(item, str):
            os.symlink(item, path)
        else:
            materialize(item, path)


def digest(tree: Tree) -> bytes:
    """Equal for equal trees."""
    found = hashlib.blake2b(digest_size=16)
    for name, item in sorted(tree.items()):
        inner = digest(item) if isinstance(item, dict) else item if isinstance(item, bytes) else item.encode()
        kind = b"d" if isinstance(item, dict) else b"f" if isinstance(item, bytes) else b"l"
        found.update(kind + f"{len(name)}:{len(inner)}:{name}".encode() + inner)
    return found.digest()


def _directories(operation: Names) -> set[int]:
    return {directory for directory, _, _ in operation.changes}


def _choices(sizes: Sequence[int], bounds: Bounds, draw: random.Random) -> list[tuple[int, ...]]:
    """Combinations of one of each: all, or those that `bounds` wants.

    Of each item, 0 and 1 are the extremes: of names dropped and kept, of content as it is and as it was.
    """
    total = 1
    for size in sizes:
        total *= size
    if total <= bounds.product:
        return list(itertools.product(*map(range, sizes)))
    found: dict[tuple[int, ...], None] = {}
    for extreme in (1, 0):
        for apart in range(bounds.apart + 1):
            for items in itertools.combinations(range(len(sizes)), apart):
                for values in itertools.product(*(range(sizes[item]) for item in items)):
                    choice = [extreme] * len(sizes)
                    for item, value in zip(items, values, strict=True):
                        choice[item] = value
                    found[tuple(choice)] = None
    for _ in range(bounds.samples):
        found[tuple(draw.randrange(size) for size in sizes)] = None
    return list(found)
