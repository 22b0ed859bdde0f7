"""The backend for a local disk: each object is a file. It knows no runs, checkpoints or packs."""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import socket
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from filelock import FileLock, Timeout

from perdure.errors import DamagedError, LockedError, PerdureWarning, StoreError, user_level
from perdure.store._files import (
    TEMPORARY,
    Buffer,
    explain,
    explained,
    is_local,
    make_directory,
    read_small,
    sync,
    sync_directory,
    temporary_name,
    write_all,
)
from perdure.store.backends._base import GET_LIMIT, Entry, check_name

#: The file that a writer holds a lock on; it tells who that is.
LOCK_FILE = ".lock"
_LONGEST_CLAIM = 4096

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe that someone put in the place of a file must not wait for a writer.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Holder:
    """The process that writes to a run, as the lock's file names it.

    :param pid: None if the file does not say, because it is being written just now.
    """

    pid: int | None
    host: str = ""
    since: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"
        return f"process {self.pid} on host {self.host}, since {self.since}"


class LocalBackend:
    """A :class:`Backend` that keeps its objects as files below one directory.

    Nothing is read or written through a symbolic link below that directory; the directory itself may be one.
    Files are created with the user's umask.

    :param directory: made by the first :meth:`lock` or :meth:`put` if it is not there.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fspath(directory))
        self._lock: FileLock | None = None
        # What this process wrote into the lock's file.
        self._claim = b""
        # The directory that was locked, held open: its path may come to lead elsewhere.
        self._held: int | None = None

    def __repr__(self) -> str:
        return f"LocalBackend({self.root!r})"

    def locate(self, name: str) -> str:
        """The path of an object."""
        return os.path.join(self.root, name)

    def put(self, name: str, buffers: Iterable[Buffer]) -> None:
        """Store `buffers` under `name`; see :meth:`Backend.put`."""
        path = self.locate(check_name(name))
        self.check_lock()
        try:
            with explained("write", path), self._directory(name, create=True) as (directory, leaf):
                if _is_there(directory, leaf):
                    raise FileExistsError(errno.EEXIST, "there is an object of that name already", path)
                # In the same directory, because a name can only be given to a file within one file system.
                temporary = temporary_name()
                fd = os.open(temporary, _CREATE_FILE, 0o666, dir_fd=directory)
                try:
                    try:
                        write_all(fd, buffers)
                        # Before the name: otherwise a power cut can leave the name with an empty file behind
                        # it.
                        sync(fd)
                    finally:
                        os.close(fd)
                    self.check_lock()
                    _name(directory, temporary, leaf)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(temporary, dir_fd=directory)
                    raise
                # The name is an entry of the directory, and durable only when that is.
                sync_directory(directory)
        except FileNotFoundError as error:
            raise explain(error, "write", path) from error

    def get(self, name: str) -> bytes:
        """The whole object; see :meth:`Backend.get`."""
        with explained("read", self.locate(name), reading=True), self._file(name) as fd:
            size = os.fstat(fd).st_size
            if size > GET_LIMIT:
                raise DamagedError(
                    f"{self.locate(name)} has {size} bytes, expected at most {GET_LIMIT}: Perdure writes no such file "
                    "there, so it was put in the place of another, or damaged"
                )
            content = bytearray(size)
            self._fill(fd, 0, memoryview(content), name)
            return bytes(content)

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on; see :meth:`Backend.read_into`."""
        with explained("read", self.locate(name), reading=True), self._file(name) as fd:
            self._fill(fd, offset, buffer, name)

    def list(self, directory: str) -> list[Entry]:
        """The objects in `directory`; see :meth:`Backend.list`."""
        path = self.locate(directory)
        prefix = f"{check_name(directory)}/" if directory else ""
        entries = []
        try:
            with (
                explained("list", path, reading=True),
                self._directory(f"{prefix}any") as (fd, _),
                os.scandir(fd) as found,
            ):
                for item in found:
                    # A link is listed as what it is, so that the one who reads it is told so.
                    if not item.is_dir(follow_symlinks=False) and _is_name(prefix + item.name):
                        with suppress(FileNotFoundError):  # removed by the writer in the meantime
                            entries.append(
                                Entry(prefix + item.name, item.stat(follow_symlinks=False).st_size)
                            )
        except FileNotFoundError:
            return []
        return sorted(entries)

    def delete(self, name: str) -> None:
        """Remove the object; see :meth:`Backend.delete`."""
        self.check_lock()
        with (
            suppress(FileNotFoundError),
            explained("delete", self.locate(name)),
            self._directory(name) as (directory, leaf),
        ):
            os.unlink(leaf, dir_fd=directory)
            sync_directory(directory)

    def lock(self, wait: float) -> None:
        """Become the one writer; see :meth:`Backend.lock`."""
        if self._lock is not None:
            return
        path = self.locate(LOCK_FILE)
        try:
            new = not os.path.lexists(path)
            make_directory(self.root)
            self._check_writable()
            self._check_lock_file(path)
            # What a writer that was killed did and did not sync looks done, and a power cut could still undo it: the
            # deletion of a manifest, say, when the next writer has deleted its packs. So it is made durable before
            # anything is built on it; above the root as well, if none ever came as far as the lock.
            for directory in self._writable_directories():
                sync_directory(directory)
            if new:
                _sync_above(self.root)
            # flock(2): the kernel drops it when the last descriptor is closed, however the process ends.
            # filelock closes the descriptor in children of os.fork (from 3.30 on), and it is closed on exec:
            # so a worker that outlives the run does not keep it. No fallback to a lock that a dead process
            # would hold for ever.
            lock = FileLock(
                path, thread_local=False, fallback_to_soft=False, on_acquired=self._introduce_holder
            )
            before = self._read_claim()
            try:
                lock.acquire(timeout=0)
            except Timeout:
                lock.acquire(timeout=wait)
                before = b""  # it was held, and now is not: so locks of others are seen here
        except Timeout:
            holder = _parse_claim(self._read_claim()) or Holder(None)
            raise LockedError(
                f"{self.root} is being written by {holder} (waited {wait:g} s). One run has one "
                "writer: wait for that process to end, stop it, or use another directory. (The lock is "
                f"{path}; it ends with the process that holds it, so there is no need to delete the file.)"
            ) from None
        except OSError as error:
            raise explain(error, "open for writing", self.root) from error
        self._lock = lock
        with explained("open", self.root):
            self._held = os.open(self.root, _OPEN_DIRECTORY)
        self._remove_leftovers()
        self._warn_of(before)

    def unlock(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            if self._claim and self._read_claim() == self._claim:
                # Given back, as opposed to left by a process that died.
                with suppress(OSError):
                    os.truncate(self.locate(LOCK_FILE), 0)
            self._claim = b""
            self._lock.release(force=True)
            self._lock = None
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def check_lock(self) -> None:
        """Find out that the directory was moved or removed, or that another process took the lock too, before anything
        is mixed; see :meth:`Backend.check_lock`."""
        if not self._claim or (found := self._read_claim()) == self._claim:
            return
        other = _parse_claim(found)
        if not self._is_in_place():
            there = f"{other} writes to another directory" if other else "something else is"
            there = f"{there} there now" if os.path.lexists(self.root) else "nothing is there now"
            raise StoreError(
                f"the run's directory {self.root} was moved or removed while this process was writing to it: {there}. "
                "Nothing more is written to that path. Move the directory back, or start again where it is now."
            )
        if other is not None:
            raise LockedError(
                f"{self.root} is also being written by {other}, although this process holds the lock: the file system "
                "does not share locks between hosts (NFS mounted with nolock or local_lock, say), or the lock's file "
                "was deleted. Nothing more is written by this process. Stop one of the two, and keep the run where "
                "locks are shared."
            )

    def _is_in_place(self) -> bool:
        """Whether the path still leads to the directory that was locked."""
        try:
            return self._held is None or os.path.samestat(os.stat(self.root), os.fstat(self._held))
        except OSError:
            return False

    def holder(self) -> Holder | None:
        """The process that writes here, or None if none does."""
        try:
            fd = os.open(self.locate(LOCK_FILE), _OPEN_FILE)
        except OSError:
            return None
        try:
            # Shared, and for microseconds: a writer that wants the lock at this very moment tries again.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return _parse_claim(os.read(fd, _LONGEST_CLAIM)) or Holder(None)
        except OSError:
            return None
        finally:
            os.close(fd)

    @contextmanager
    def _directory(self, name: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """A descriptor of the directory that `name` is in, and the last part of the name."""
        *directories, leaf = check_name(name).split("/")
        if create and self._lock is None:
            make_directory(self.root)
        fd = os.open(self.root, _OPEN_DIRECTORY)
        try:
            for part in directories:
                if create and not _is_there(fd, part):
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=fd)
                    sync_directory(fd)
                # One by one from descriptor to descriptor: so no link on the way can lead out of the root.
                above, fd = fd, os.open(part, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                # Only now: if a KeyboardInterrupt came before, it would be closed twice, maybe as another's.
                os.close(above)
            yield fd, leaf
        finally:
            os.close(fd)

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        with self._directory(name) as (directory, leaf):
            fd = os.open(leaf, _OPEN_FILE, dir_fd=directory)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise DamagedError(f"{self.locate(name)} is not a regular file")
                yield fd
            finally:
                os.close(fd)

    def _fill(self, fd: int, offset: int, buffer: memoryview, name: str) -> None:
        done = 0
        while done < buffer.nbytes:
            count = os.preadv(fd, [buffer[done:]], offset + done)
            if not count:
                raise DamagedError(
                    f"{self.locate(name)} ends at byte {offset + done}, "
                    f"expected at least {offset + buffer.nbytes} bytes: it was cut off"
                )
            done += count

    def _writable_directories(self) -> Iterator[str]:
        yield self.root
        with os.scandir(self.root) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False) and not item.name.startswith("."):
                    yield item.path

    def _check_writable(self) -> None:
        # Asked first, because what fails halfway otherwise says nothing of the cause.
        for directory in self._writable_directories():
            if os.access(directory, os.R_OK | os.W_OK | os.X_OK):
                continue
            read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
            number = errno.EROFS if read_only else errno.EACCES
            raise explain(OSError(number, os.strerror(number)), "write to the directory", directory)

    def _check_lock_file(self, path: str) -> None:
        with suppress(FileNotFoundError):
            if os.lstat(path).st_nlink > 1:
                raise StoreError(
                    f"{path} has another name too (a hard link, of a copy made with cp -l?), and what is written to "
                    "it would be written there: delete it while no process writes to this run"
                )

    def _remove_leftovers(self) -> None:
        for directory in self._writable_directories():
            with explained("remove half-written files in", directory), os.scandir(directory) as found:
                for item in found:
                    if item.name.startswith(TEMPORARY) and item.is_file(follow_symlinks=False):
                        os.unlink(item.path)

    def _introduce_holder(self, fd: int) -> None:
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        self._claim = f"{json.dumps(holder)}\n".encode()
        write_all(fd, [self._claim])

    def _read_claim(self) -> bytes:
        try:
            return read_small(self.locate(LOCK_FILE), _LONGEST_CLAIM)
        except OSError:
            return b""

    def _warn_of(self, before: bytes) -> None:
        holder = _parse_claim(before)
        if holder is None or holder.host == socket.gethostname() or is_local(self.root):
            return
        warnings.warn(
            f"{self.root} was last written by {holder}, which did not give its lock back. The lock is free: "
            "that process was killed, or it is still running and this file system does not share locks between hosts. "
            "Make sure that it does not run any more.",
            PerdureWarning,
            stacklevel=user_level(),
        )


def _parse_claim(claim: bytes) -> Holder | None:
    try:
        told = json.loads(claim)
        return Holder(int(told["pid"]), str(told["host"])[:200], str(told["since"])[:40])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def _sync_above(directory: str) -> None:
    """Make the names that lead to `directory` durable, within its file system."""
    while not os.path.ismount(directory):
        directory = os.path.dirname(directory)
        with suppress(PermissionError):
            sync_directory(directory)


def _is_there(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def _name(directory: int, temporary: str, leaf: str) -> None:
    """Give the file `temporary` the name `leaf`, in one step, unless something has that name."""
    try:
        # A second name rather than a rename, because a rename would replace what is there.
        os.link(temporary, leaf, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # There are file systems without hard links. The writer's lock keeps others from taking the name in
        # between.
        if _is_there(directory, leaf):
            raise FileExistsError(errno.EEXIST, "there is an object of that name already", leaf) from None
        os.rename(temporary, leaf, src_dir_fd=directory, dst_dir_fd=directory)
    else:
        os.unlink(temporary, dir_fd=directory)
