"""Durable writes on a local disk, and the system's errors in plain words. Knows no runs."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from perdure.errors import DamagedError, StoreError

Buffer: TypeAlias = bytes | bytearray | memoryview

#: How the names of unfinished files begin. A writer removes such files when it takes the lock.
TEMPORARY = ".tmp-"

# Enough for one system call to be worthwhile, and fewer buffers than any system's IOV_MAX (at least 1,024).
_BATCH_BYTES = 8 << 20
_BATCH_BUFFERS = 512

_ADVICE = {
    errno.ENOSPC: "no space is left: free some, or keep fewer checkpoints, and try again",
    errno.EDQUOT: "the disk quota is used up: free some space, or keep fewer checkpoints, and try again",
    errno.EFBIG: "the file is larger than the file system allows: use another file system",
    errno.EACCES: "permission denied for user {user}: change the permissions, or use another directory",
    errno.EPERM: "not permitted for user {user}: change the permissions, or use another directory",
    errno.EROFS: "the file system is read-only: mount it writable, or use another directory",
    errno.ENOLCK: "the file system grants no locks: use a directory on another one",
    errno.ENOSYS: "the file system does not support this: use a directory on another one",
    errno.ENOENT: "the directory is gone: was it removed or renamed while the run was going on?",
    errno.EEXIST: "something else has that name: move it away, or use another directory",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
    errno.ENFILE: "the system has too many open files: close some programs",
    errno.ENAMETOOLONG: "the path is too long: use a directory with a shorter path",
    errno.ENOTDIR: "a part of the path is not a directory: move it away, or use another directory",
}
# Errors of reading that mean that data is lost, or is not what Perdure wrote; not that it must not be read.
_DAMAGE = {
    errno.EIO: "the disk reports an error: copy the run to another disk and check this one",
    errno.ELOOP: "it is a symbolic link, which Perdure neither makes here nor follows",
    errno.ENOTDIR: "a part of its path is not a directory, or is a symbolic link, which is not followed",
    errno.EISDIR: "it is a directory, expected a file",
    errno.ENXIO: "it is not a regular file",
}


def explain(error: OSError, doing: str, path: str, *, reading: bool = False) -> StoreError:
    """An error of the system in plain words: what failed ("write"), where, and what to do."""
    number = error.errno or 0
    reason = error.strerror or str(error)
    if reading and number in _DAMAGE:
        return DamagedError(f"could not {doing} {path}: {_DAMAGE[number]} ({reason})")
    advice = _ADVICE.get(number, "see the system's log for the cause").format(user=os.geteuid())
    return StoreError(f"could not {doing} {path}: {advice} ({reason})")


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no space left: no bytes or no files, of the disk or of a quota."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained(doing: str, path: str, *, reading: bool = False) -> Iterator[None]:
    """Turn the system's errors into errors in plain words, except FileNotFoundError and FileExistsError."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        raise explain(error, doing, path, reading=reading) from error


def temporary_name() -> str:
    """A name for an unfinished file that no other process or thread uses."""
    return f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"


def write_all(fd: int, buffers: Iterable[Buffer]) -> None:
    """Write all of `buffers`, even if a system call writes only a part."""
    for batch in _batches(buffers):
        while batch:
            written = os.writev(fd, batch)
            done = 0
            while done < len(batch) and written >= batch[done].nbytes:
                written -= batch[done].nbytes
                done += 1
            del batch[:done]
            if written:
                batch[0] = batch[0][written:]


def _batches(buffers: Iterable[Buffer]) -> Iterator[list[memoryview]]:
    batch: list[memoryview] = []
    size = 0
    for buffer in buffers:
        view = memoryview(buffer)
        if not view.nbytes:
            continue
        batch.append(view.cast("B"))
        size += view.nbytes
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_BUFFERS:
            yield batch
            batch, size = [], 0
    yield batch


def sync(fd: int) -> None:
    """Return when what was written to `fd` survives a power cut."""
    if sys.platform == "darwin":
        # There, fsync leaves the data in the drive's cache.
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def sync_directory(directory: int | str) -> None:
    """Return when the names in `directory` (a path or a descriptor) survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY) if isinstance(directory, str) else directory
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network and FUSE file systems do not have this call, and then nothing more can be done.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        if isinstance(directory, str):
            os.close(fd)


def read_small(path: str, limit: int) -> bytes:
    """The content of a small file. Anything may have been put in its place, so nothing is assumed of it.

    :raises OSError: if it cannot be read, is not a regular file (a pipe would be waited for), or has more than
        `limit` bytes.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ENXIO, "it is not a regular file", path)
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, expected at most {limit}", path)
        return os.pread(fd, limit, 0)
    finally:
        os.close(fd)


def make_directory(path: str) -> None:
    """Make the directory `path` and its missing parents, durably. No error if it exists."""
    missing = []
    here = Path(path)
    while not here.is_dir():
        missing.append(here)
        here = here.parent
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        # A new directory is an entry in its parent: until that is synced, a power cut loses it.
        sync_directory(str(directory.parent))


# File systems that only one host writes to, so that its own locks suffice.
_LOCAL = frozenset(["btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"])


def is_local(path: str) -> bool:
    """Whether `path` is certainly on a disk of this host; False if that is not known."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo") as mounts:
            for line in mounts:
                fields, _, more = line.partition(" - ")
                if fields.split()[2] == f"{os.major(device)}:{os.minor(device)}":
                    return more.split()[0] in _LOCAL
    except (OSError, IndexError):
        pass
    return False
